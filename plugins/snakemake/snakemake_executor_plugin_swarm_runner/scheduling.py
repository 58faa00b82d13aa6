"""A job's account, priority and placement: Snakemake's priority, and resources that are texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from snakemake_interface_common.exceptions import WorkflowError

ACCOUNT, NODE_LABELS, LIMITS, GPU_MODEL = "account", "node_labels", "limits", "gpu_model"
# As far as swarm_runner goes. Snakemake's --prioritize sets the largest number of the machine.
_MAXIMUM_PRIORITY = 1_000_000


def requested_scheduling(job: Any, account: str | None) -> dict[str, Any]:
    """Return the fields of the invocation that the rule or the settings set.

    The rule's resource `account` replaces the setting. Raises WorkflowError for a resource that is
    not a text, or not of the form `name=value,...`.
    """
    resources: Mapping[str, Any] = job.resources
    fields = {
        "account": _text(resources, ACCOUNT) or account,
        "priority": max(-_MAXIMUM_PRIORITY, min(int(job.priority or 0), _MAXIMUM_PRIORITY)),
        "node_labels": _pairs(resources, NODE_LABELS),
        "limits": {name: _amount(text) for name, text in _pairs(resources, LIMITS, "1").items()},
        "gpu_model": _text(resources, GPU_MODEL),
    }
    return {name: value for name, value in fields.items() if value}


def _text(resources: Mapping[str, Any], name: str) -> str | None:
    value = resources.get(name)
    if value is None or isinstance(value, str):
        return value or None
    raise WorkflowError(f"resource {name}={value!r} is not a text: set a text")


def _pairs(resources: Mapping[str, Any], name: str, default: str | None = None) -> dict[str, str]:
    text = _text(resources, name) or ""
    pairs = {}
    for item in filter(None, map(str.strip, text.split(","))):
        key, equals, value = item.partition("=")
        if not equals and default is None:
            raise WorkflowError(
                f"resource {name}={text!r} has {item!r}, which is not NAME=VALUE: write for "
                "example 'ssd=true,rack=2'"
            )
        pairs[key.strip()] = value.strip() if equals else str(default)
    return pairs


def _amount(text: str) -> int:
    if text.isascii() and text.isdigit():
        return int(text)
    raise WorkflowError(
        f"resource {LIMITS} has {text!r}, which is not a whole number: write for example "
        "'matlab=2,other'"
    )
