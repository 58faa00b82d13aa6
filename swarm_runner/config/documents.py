"""Files of invocations."""

from __future__ import annotations

from collections.abc import Iterable

import yaml

from swarm_runner.config.validation import MAX_DIAGNOSTICS, parse_document, validate_document
from swarm_runner.config.yaml_source import KeyPath
from swarm_runner.errors import Diagnostic, InvalidInputError
from swarm_runner.model.invocation import Invocation


def parse_invocations(text: str, source: str) -> list[Invocation]:
    """Parse a text (YAML or JSON) that contains one invocation or a list of them.

    `source` names the text in messages. Raises InvalidInputError with every problem of every
    invocation; two invocations with one key are a problem.
    """
    document = parse_document(text, source)
    if document.data is None:
        message = "is empty; write an invocation, or a list of them"
        raise InvalidInputError([Diagnostic(message, source=source)])
    is_list = isinstance(document.data, list)
    paths: list[KeyPath] = [(n,) for n in range(len(document.data))] if is_list else [()]
    if not paths:
        message = "is an empty list; write at least one invocation"
        raise InvalidInputError([document.diagnostic((), message)])
    invocations: list[Invocation] = []
    diagnostics: list[Diagnostic] = []
    first: dict[str, KeyPath] = {}
    for path in paths:
        if len(diagnostics) >= MAX_DIAGNOSTICS:
            message = "has problems before this item; the items from here on were not checked"
            diagnostics.append(document.diagnostic(path, message))
            break
        try:
            invocation = validate_document(Invocation, document, path)
        except InvalidInputError as error:
            diagnostics += error.diagnostics
            continue
        invocations.append(invocation)
        if invocation.key in first:
            other = document.diagnostic((*first[invocation.key], "key"), "").location
            message = f"{invocation.key!r} is also the key at {other}; give each call its own key"
            diagnostics.append(document.diagnostic((*path, "key"), message))
        first.setdefault(invocation.key, path)
    if diagnostics:
        raise InvalidInputError(document.sort(diagnostics))
    return invocations


def dump_invocations(invocations: Iterable[Invocation]) -> str:
    """Return a list of invocations as YAML that `parse_invocations` reads back as the same.

    The text contains the keys, and omits what an invocation leaves to its destination.
    """
    data = [
        {"key": invocation.key, **invocation.model_dump(mode="json", exclude_unset=True)}
        for invocation in invocations
    ]
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
