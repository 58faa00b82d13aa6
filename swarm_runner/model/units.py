"""Amounts as people and programs write them. docs/reference/quantities.md."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from pydantic_core import PydanticCustomError

from swarm_runner.model.text import refusal

# Above every limit of a field (64 TiB), and small enough for exact arithmetic.
MAXIMUM_QUANTITY_MB = 2**40
_MAXIMUM_EXPONENT = 30
_MAXIMUM_DIGITS = 1000
_NUMBER_PATTERN = r"\+?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?"
# Both cases are spelled out: JSON Schema's patterns have no flags.
_UNIT_PATTERN = r"(?:[KkMmGgTtPp][iI]?[bB]?|[bB]|[bB][yY][tT][eE][sS])"
QUANTITY_PATTERN = rf"^ *{_NUMBER_PATTERN} *{_UNIT_PATTERN} *$"
_QUANTITY = re.compile(rf" *({_NUMBER_PATTERN}) *({_UNIT_PATTERN})? *")
_MB = {
    "B": Fraction(1, 2**20),
    "K": Fraction(1, 2**10),
    "M": Fraction(1),
    "G": Fraction(2**10),
    "T": Fraction(2**20),
    "P": Fraction(2**30),
}
#: Quantities for messages: how an amount with a unit is written.
QUANTITY_EXAMPLES = '"512M", "2 GB" or "1.5GiB"'


def megabytes(value: object, *, unit_required: bool = True) -> int:
    """Return an amount in MB of 2**20 bytes, rounded up.

    Units are powers of 1024, whether they are written as MB, M or Mi: HTCondor and Galaxy read
    them so, and a program that means powers of 1000 gets a little more than it asked for, never
    less. A number without a unit is MB, as in HTCondor, unless `unit_required`: where the author is
    a person, "8" may mean 8 GB.

    Raises PydanticCustomError for what cannot be an amount.
    """
    amount = None if unit_required else _exact(value)
    if isinstance(value, str):
        found = _QUANTITY.fullmatch(value) if len(value) <= _MAXIMUM_DIGITS else None
        if found is not None and (found[2] or not unit_required):
            amount = _parse_number(found[1]) * _MB[(found[2] or "M")[0].upper()]
    if amount is None or amount < 0:
        raise _quantity_error(value, unit_required)
    if amount > MAXIMUM_QUANTITY_MB:
        raise refusal(
            f"{_shorten(value)} is too large an amount; a number without a unit means MB, so write "
            f"for example {QUANTITY_EXAMPLES}"
        )
    return math.ceil(amount)


def _exact(value: object) -> Fraction | None:
    """Return a number of YAML or JSON, or None for what is not one."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return Fraction(value) if -math.inf < value < math.inf else None


def _parse_number(text: str) -> Fraction:
    mantissa, _, exponent = text.lower().partition("e")
    power = int(exponent or 0)
    units, _, decimals = mantissa.lstrip("+").partition(".")
    digits = int(f"{units}{decimals}")
    # A power of ten that only makes zero, or more than any limit, is not computed.
    magnitude = len(str(digits)) - len(decimals) + power
    if digits == 0:
        return Fraction(0)
    if magnitude > _MAXIMUM_EXPONENT:
        return Fraction(10) ** _MAXIMUM_EXPONENT
    if magnitude < -_MAXIMUM_EXPONENT:
        return Fraction(1, 10**_MAXIMUM_EXPONENT)
    return Fraction(digits) * Fraction(10) ** (power - len(decimals))


def _quantity_error(value: object, unit_required: bool) -> PydanticCustomError:
    if unit_required:
        return refusal(f"needs a number with a unit, such as {QUANTITY_EXAMPLES}")
    return refusal(
        f"needs MB as a number, or a number with a unit, such as {QUANTITY_EXAMPLES}, not "
        f"{_shorten(value)}"
    )


def _shorten(value: object) -> str:
    if isinstance(value, bool):
        return f"{str(value).lower()} (in YAML also yes, no, on and off)"
    if isinstance(value, int) and abs(value) >= 10**40:
        return "such a large number"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


@dataclass(frozen=True, slots=True)
class WithUnit:
    """The value of a key that takes a text with a unit (`memory`), before it becomes MB."""

    value: object


def convert_unit_keys(data: Any, keys: tuple[str, ...]) -> Any:
    """Return a model's input with `memory: 4 GB` as a value of `memory_mb`, for each of the keys.

    Raises PydanticCustomError if both are given.
    """
    if not isinstance(data, Mapping):
        return data
    amounts = dict(data)
    for short in keys:
        if short in amounts:
            full = f"{short}_mb"
            if full in amounts:
                raise refusal(f"contains both {short} and {full}; give one of the two")
            amounts[full] = WithUnit(amounts.pop(short))
    return amounts


def megabytes_or_count(value: Any) -> Any:
    """Validate a field in MB whose key also has a form with a unit (`WithUnit`)."""
    if isinstance(value, WithUnit):
        return megabytes(value.value)
    if isinstance(value, str):
        raise refusal(
            "needs a whole number of MB; for a text with a unit use the key without _mb, such as "
            f"{QUANTITY_EXAMPLES}"
        )
    return value


def megabytes_or_number(value: Any, minimum_mb: int) -> int:
    """Validate a field that takes MB as a number or a text of one, or a text with a unit.

    Rules compute an amount from the size of the inputs, which may be tiny: one with a unit is
    raised to the minimum. Without a unit, a small number means that the unit was forgotten.
    """
    amount = megabytes(value, unit_required=False)
    has_unit = isinstance(value, str) and value.rstrip()[-1:].isalpha()
    return max(amount, minimum_mb) if has_unit else amount


_INTEGER = re.compile(r" *\+?(-?[0-9]{1,18})(?:\.0*)? *")
_CPUS = re.compile(rf" *({_NUMBER_PATTERN}) *(m)? *")
# A product of floats may exceed the whole number that it stands for: 3.0000000000000004.
_ROUNDING_ERROR = Fraction(1, 10**6)


def integer(value: Any) -> Any:
    """Validate a whole number that other programs may have written as "4", 4.0 or "4.0"."""
    if isinstance(value, str):
        found = _INTEGER.fullmatch(value) if len(value) <= _MAXIMUM_DIGITS else None
        return value if found is None else int(found[1])
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def round_up_cpus(value: Any) -> int:
    """Validate a number of CPUs, which may be a text, and round it up; `1500m` is 1.5.

    Up to a millionth above a whole number is an error of a program's own rounding, and dropped.

    Raises PydanticCustomError for what is not a number.
    """
    amount = _exact(value)
    if (
        isinstance(value, str)
        and len(value) <= _MAXIMUM_DIGITS
        and (found := _CPUS.fullmatch(value))
    ):
        amount = _parse_number(found[1]) / (1000 if found[2] else 1)
    if amount is None:
        raise refusal(f"needs a number of CPUs, such as 4, not {_shorten(value)}")
    return math.ceil(amount - _ROUNDING_ERROR)
