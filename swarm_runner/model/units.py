"""Amounts of memory and disk, in HTCondor's units: MB means MiB, GB means GiB."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pydantic_core import PydanticCustomError

# Both cases are spelled out: JSON Schema's patterns have no flags.
QUANTITY_PATTERN = r"^ *([0-9]{1,12}(?:\.[0-9]{1,6})?) *([KkMmGgTt])(?:[iI]?[bB])? *$"
_QUANTITY = re.compile(QUANTITY_PATTERN)
_MB = {"K": Decimal(1) / 1024, "M": Decimal(1), "G": Decimal(1024), "T": Decimal(1024 * 1024)}
QUANTITY_EXAMPLES = '"512M", "2 GB" or "1.5GiB"'


def megabytes(value: object) -> int:
    """Return the MB (2**20 bytes) of a text with a unit, rounded up.

    A number without a unit is rejected: HTCondor reads "8" as 8 MB where its author may have meant
    8 GB. Raises PydanticCustomError. Source: HTCondor manual, submit command request_memory.
    """
    found = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise PydanticCustomError(
            "quantity", "needs a number with a unit, such as {forms}", {"forms": QUANTITY_EXAMPLES}
        )
    return math.ceil(Decimal(found[1]) * _MB[found[2].upper()])


@dataclass(frozen=True, slots=True)
class WithUnit:
    """The value of a key that takes a text with a unit (`memory`), before it becomes MB."""

    value: object


def megabytes_or_count(value: Any) -> Any:
    """Validate a field in MB whose key also has a form with a unit (`WithUnit`)."""
    if isinstance(value, WithUnit):
        return megabytes(value.value)
    if isinstance(value, str):
        raise PydanticCustomError(
            "quantity",
            "needs a whole number of MB; for a text with a unit use the key without _mb, "
            "such as {forms}",
            {"forms": QUANTITY_EXAMPLES},
        )
    return value


def megabytes_or_text(value: Any) -> Any:
    """Validate a field that takes MB as a number, or a text with a unit."""
    return megabytes(value) if isinstance(value, str) else value
