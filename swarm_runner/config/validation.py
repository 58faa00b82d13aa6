"""Validation of YAML and JSON texts: all problems at once, each with its line and column."""

from __future__ import annotations

import itertools
import types
import typing
from collections.abc import Callable, Iterator
from typing import Annotated, Any, TypeVar, Union

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from swarm_runner.config.yaml_source import Document, KeyPath
from swarm_runner.errors import Diagnostic, InvalidInputError
from swarm_runner.model.text import FrozenModel, did_you_mean

Model = TypeVar("Model", bound=BaseModel)

MAX_LISTED_NAMES = 12  # in one message
# Comparing a key with every known one takes a millisecond.
MAX_SUGGESTIONS = 50
# Nobody reads more of one part of a document.
MAX_DIAGNOSTICS = 1000
_MISSING = "is missing"
__all__ = ["Document", "error_messages", "parse_document", "validate_document"]


def parse_document(text: str, source: str) -> Document:
    """Parse YAML or JSON as data with positions; `source` names the text in messages.

    Raises InvalidInputError on invalid syntax, duplicate keys, unknown tags and alias bombs.
    """
    return Document(text, source)


def validate_document(
    model_type: type[Model],
    document: Document,
    path: KeyPath = (),
    ignore: Callable[[str], bool] | None = None,
) -> Model:
    """Return the part of a document at a path as a model, without keys for which `ignore` is true.

    Raises InvalidInputError with every problem, each with its line and column.
    """
    data = document.value_at(path)
    if ignore is not None and isinstance(data, dict):
        data = {key: value for key, value in data.items() if not ignore(str(key))}
    try:
        return model_type.model_validate(data)
    except ValidationError as error:
        raise InvalidInputError(_collect_diagnostics(error, model_type, document, path)) from error


def error_messages(
    error: ValidationError, model_type: type[BaseModel]
) -> Iterator[tuple[KeyPath, str]]:
    """Yield the path below the model and the message of each of pydantic's errors."""
    unknown_keys = 0
    for detail in error.errors(include_url=False):
        path: KeyPath = detail["loc"]
        unknown_keys += detail["type"] == "extra_forbidden"
        yield path, _message(detail, model_type, path, suggest=unknown_keys <= MAX_SUGGESTIONS)


def _collect_diagnostics(
    error: ValidationError, model_type: type[BaseModel], document: Document, base_path: KeyPath
) -> list[Diagnostic]:
    found: dict[tuple[KeyPath, str], Diagnostic] = {}
    for location, message in itertools.islice(error_messages(error, model_type), MAX_DIAGNOSTICS):
        # Pydantic also names union members and "[key]", which are not part of the document.
        path = location
        while path and message != _MISSING and not _contains(document, base_path + path):
            path = path[:-1]
        found.setdefault((path, message), document.diagnostic(base_path + path, message))
    diagnostics = document.sort(found.values())
    if (unlisted := error.error_count() - MAX_DIAGNOSTICS) > 0:
        diagnostics.append(document.diagnostic(base_path, f"has {unlisted} more problems"))
    return diagnostics


def _contains(document: Document, path: KeyPath) -> bool:
    *parents, last = path
    return document.has(path) or document.has((*parents, str(last).removesuffix("_mb")))


def _message(
    detail: ErrorDetails, model_type: type[BaseModel], path: KeyPath, *, suggest: bool
) -> str:
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind == "missing":
        return _MISSING
    if kind == "extra_forbidden":
        names = _accepted_keys(model_type, path[:-1])
        hint = did_you_mean(str(path[-1]), names) if suggest else ""
        if not hint and len(names) <= MAX_LISTED_NAMES:
            hint = f"; use one of {', '.join(names)}"
        return f"is not a valid key{hint}"
    if kind == "invalid_key":
        return "has a key that is not a text; put it in quotes"
    if kind == "string_type":
        hint = "" if isinstance(value, (dict, list)) or value is None else "; put it in quotes"
        return f"needs a text, not {_describe_value(value)}{hint}"
    if kind.startswith(("int_", "float_", "bool_")):
        wanted = {"int": "a whole number", "float": "a number", "bool": "true or false"}
        return f"needs {wanted[kind.partition('_')[0]]}, not {_describe_value(value)}"
    if kind in ("dict_type", "model_type", "mapping_type", "model_attributes_type"):
        return f"needs keys and values, not {_describe_value(value)}"
    if kind in ("list_type", "tuple_type"):
        return f"needs a list, not {_describe_value(value)}"
    limits = {
        "greater_than_equal": "must be at least {ge}, not {value}",
        "less_than_equal": "must be at most {le}, not {value}",
        "too_short": "needs at least {min_length} items",
        "too_long": "accepts at most {max_length} items",
        "literal_error": "must be {expected}, not {value}",
        "finite_number": "must be a finite number",
    }
    if kind in limits:
        return limits[kind].format(value=_describe_value(value), **context)
    return detail["msg"]


def _describe_value(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return f"{str(value).lower()} (in YAML also yes, no, on and off)"
    if isinstance(value, str):
        return f"the text {value!r}" if len(value) < 60 else "a text"
    if isinstance(value, (int, float)):
        return f"the number {value}" if abs(value) < 10**20 else "such a large number"
    if isinstance(value, dict):
        return "keys and values"
    if isinstance(value, list):
        return "a list"
    return f"the {type(value).__name__} {value}"


def _accepted_keys(model_type: type[BaseModel], path: KeyPath) -> list[str]:
    """Return the keys of the model at `path` below `model_type`."""
    current: Any = model_type
    for part in path:
        model = _find_model(current)
        if model is not None and part in model.model_fields:
            current = model.model_fields[str(part)].annotation
        elif typing.get_args(current):
            current = typing.get_args(current)
    model = _find_model(current)
    if model is None:
        return []
    return model.accepted_keys() if issubclass(model, FrozenModel) else list(model.model_fields)


def _find_model(annotation: Any) -> type[BaseModel] | None:
    """Return the model in Optional, Annotated, a tuple's items or a mapping's values."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    parts = annotation if isinstance(annotation, tuple) else typing.get_args(annotation)
    wrapper = typing.get_origin(annotation)
    if isinstance(annotation, tuple) or wrapper in (Union, types.UnionType, Annotated):
        for part in parts:
            model = _find_model(part)
            if model is not None:
                return model
    return None
