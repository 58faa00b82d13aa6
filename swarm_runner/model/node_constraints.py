"""Swarm's words for the nodes of a service: constraints and placement preferences.

Source: docs.docker.com, "docker service create", `--constraint` and `--placement-pref`; swarmkit's
constraint.go, which compares in any case and knows these attributes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator

from swarm_runner.model.text import did_you_mean, refusal

_LABEL = r"(?:node|engine)\.labels\.[A-Za-z0-9][A-Za-z0-9_.-]*"
_ATTRIBUTES = ("node.id", "node.hostname", "node.role", "node.platform.os", "node.platform.arch")
_KNOWN = (*_ATTRIBUTES, "node.ip", "node.labels.NAME", "engine.labels.NAME")
_CONSTRAINT = re.compile(r"\s*(\S+?)\s*(==|!=)\s*(\S(?:.*\S)?)\s*", re.ASCII)
_ATTRIBUTE = re.compile(rf"node\.ip|{'|'.join(map(re.escape, _ATTRIBUTES))}|{_LABEL}")
# Of swarmkit's constraint.go.
_VALUE = re.compile(r"[A-Za-z0-9:_\-\s.*()?+\[\]\\^$|/]+", re.ASCII)
_PREFERENCE = re.compile(rf"\s*(?:spread\s*[:=]\s*)?({_LABEL})\s*")


def _constraint(value: str) -> str:
    found = _CONSTRAINT.fullmatch(value)
    if found is None:
        raise refusal(
            f"{value!r} is not a constraint of Swarm; write an attribute, == or !=, and a value: "
            "node.labels.ssd == true"
        )
    attribute, operator, wanted = found.groups()
    if not _ATTRIBUTE.fullmatch(attribute):
        hint = did_you_mean(attribute, _KNOWN)
        raise refusal(
            f"{attribute!r} is not an attribute of a node; Swarm knows {', '.join(_KNOWN)}{hint}"
        )
    if not _VALUE.fullmatch(wanted):
        raise refusal(f"{wanted!r} has a character that Swarm does not accept in a constraint")
    return f"{attribute} {operator} {wanted}"


def _preference(value: str) -> str:
    found = _PREFERENCE.fullmatch(value)
    if found is None:
        raise refusal(
            f"{value!r} is not a preference of Swarm; its only strategy is spread, over the values "
            "of a label: spread: node.labels.rack"
        )
    return found[1]


Constraint = Annotated[str, AfterValidator(_constraint)]
Preference = Annotated[str, AfterValidator(_preference)]


def labels_of(constraints: Iterable[str]) -> dict[str, str]:
    """Return the labels, of nodes and of engines, that the constraints demand."""
    found = {}
    for constraint in constraints:
        attribute, operator, value = constraint.split(" ", 2)
        if operator == "==" and ".labels." in attribute:
            found[attribute.partition(".labels.")[2]] = value
    return found
