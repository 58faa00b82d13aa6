"""Amounts of memory and disk, as HTCondor counts them (MB means MiB, GB means GiB)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any

from pydantic import Strict
from pydantic_core import PydanticCustomError

# Spelt out in both cases: JSON Schema's patterns have no flags.
QUANTITY_PATTERN = r"^ *([0-9]{1,12}(?:\.[0-9]{1,6})?) *([KkMmGgTt])(?:[iI]?[bB])? *$"
_QUANTITY = re.compile(QUANTITY_PATTERN)
_MB = {"K": Decimal(1) / 1024, "M": Decimal(1), "G": Decimal(1024), "T": Decimal(1024 * 1024)}
QUANTITY_EXAMPLES = '"512M", "2 GB" or "1.5GiB"'


def megabytes(value: object) -> int:
    """MB (2**20 bytes) in a text with a unit, rounded up.

    A number without a unit is refused: "8" has meant 8 MB to HTCondor and 8 GB to its writer.
    Source: HTCondor manual, submit command request_memory.
    """
    found = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise PydanticCustomError(
            "quantity", "needs a number with a unit, such as {forms}", {"forms": QUANTITY_EXAMPLES}
        )
    return math.ceil(Decimal(found[1]) * _MB[found[2].upper()])


@dataclass(frozen=True, slots=True)
class WithUnit:
    """The value of a key that takes a text with a unit (`memory`), on its way to its field."""

    value: object


def megabytes_or_count(value: Any) -> Any:
    """For a field in MB whose key also has a form with a unit (`WithUnit`)."""
    if isinstance(value, WithUnit):
        return megabytes(value.value)
    if isinstance(value, str):
        raise PydanticCustomError(
            "quantity",
            "takes a whole number of MB; for a text with a unit use the key without _mb, "
            "such as {forms}",
            {"forms": QUANTITY_EXAMPLES},
        )
    return value


def megabytes_or_text(value: Any) -> Any:
    """For a field that takes MB as a number, and a text with a unit."""
    return megabytes(value) if isinstance(value, str) else value


# Whole numbers as such: neither true nor "2" nor 2.5 is one.
StrictInt = Annotated[int, Strict()]
StrictBool = Annotated[bool, Strict()]
