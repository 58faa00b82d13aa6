"""Files of invocations."""

from __future__ import annotations

from collections.abc import Iterable

import yaml

from swarm_runner.config.validation import parse_document, validate_document
from swarm_runner.config.yaml_source import KeyPath
from swarm_runner.errors import Diagnostic, InvalidInputError
from swarm_runner.model.invocation import Invocation


def parse_invocations(text: str, source: str) -> list[Invocation]:
    """The invocations of a text that holds one, or a list of them.

    Raises InvalidInputError with every fault of every invocation, a key that two share included.
    """
    document = parse_document(text, source)
    if document.data is None:
        raise InvalidInputError(
            [Diagnostic("is empty; expected an invocation, or a list", source=source)]
        )
    several = isinstance(document.data, list)
    places: list[KeyPath] = [(n,) for n in range(len(document.data))] if several else [()]
    if not places:
        raise InvalidInputError([document.diagnostic((), "is an empty list; expected invocations")])
    invocations: list[Invocation] = []
    faults: list[Diagnostic] = []
    first: dict[str, KeyPath] = {}
    for place in places:
        try:
            invocation = validate_document(Invocation, document, place)
        except InvalidInputError as error:
            faults += error.diagnostics
            continue
        invocations.append(invocation)
        if invocation.key in first:
            other = document.diagnostic((*first[invocation.key], "key"), "").location
            message = f"{invocation.key!r} is also the key at {other}; each call needs its own"
            faults.append(document.diagnostic((*place, "key"), message))
        first.setdefault(invocation.key, place)
    if faults:
        raise InvalidInputError(document.sort(faults))
    return invocations


def dump_invocations(invocations: Iterable[Invocation]) -> str:
    """A list of invocations as YAML, which `parse_invocations` reads back as the same.

    What an invocation leaves to its destination is left out; its key is written.
    """
    data = [
        {"key": one.key, **one.model_dump(mode="json", exclude_unset=True)} for one in invocations
    ]
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
