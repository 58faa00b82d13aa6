"""JSON Schemas of the numbers that may be written as texts (`model.units` reads them)."""

from __future__ import annotations

from typing import Any

from pydantic import WithJsonSchema

from swarm_runner.model.units import QUANTITY_EXAMPLES, QUANTITY_PATTERN

_DECIMAL = r"^ *[0-9]+(\.[0-9]*)? *$"
_INTEGER = r"^ *\+?[0-9]+(\.0*)? *$"
_SIGNED_INTEGER = r"^ *(\+?|-)[0-9]+(\.0*)? *$"
_CPUS = r"^ *\+?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})? *m? *$"


def integer_schema(minimum: int, maximum: int) -> WithJsonSchema:
    """Return the schema of a whole number, or a text of one."""
    pattern = _INTEGER if minimum >= 0 else _SIGNED_INTEGER
    return _number_or_text("integer", minimum, maximum, pattern)


def cpus_schema(minimum: int, maximum: int) -> WithJsonSchema:
    """Return the schema of a number of CPUs, which is rounded up to a whole one."""
    number = {"type": "number", "exclusiveMinimum": minimum - 1, "maximum": maximum}
    return WithJsonSchema({"anyOf": [number, {"type": "string", "pattern": _CPUS}]})


def quantity_schema(minimum: int, maximum: int) -> WithJsonSchema:
    """Return the schema of an amount in MB, or a text of one, which may have a unit."""
    return _number_or_text("number", minimum, maximum, f"{QUANTITY_PATTERN}|{_DECIMAL}")


def _number_or_text(kind: str, minimum: int, maximum: int, pattern: str) -> WithJsonSchema:
    number = {"type": kind, "minimum": minimum, "maximum": maximum}
    return WithJsonSchema({"anyOf": [number, {"type": "string", "pattern": pattern}]})


def add_unit_keys(schema: dict[str, Any], keys: tuple[str, ...]) -> None:
    """Add the keys with a unit to a model's JSON Schema."""
    properties = schema["properties"]
    for short in keys:
        properties[short] = {
            "type": "string",
            "pattern": QUANTITY_PATTERN,
            "description": f"a number with a unit, such as {QUANTITY_EXAMPLES}; "
            f"instead of {short}_mb",
        }
    required = schema.get("required", [])
    for short in keys:
        if f"{short}_mb" in required:
            required.remove(f"{short}_mb")
            schema.setdefault("allOf", []).append(
                {"anyOf": [{"required": [f"{short}_mb"]}, {"required": [short]}]}
            )
    if not required:
        schema.pop("required", None)
