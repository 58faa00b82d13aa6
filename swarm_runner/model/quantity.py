"""Amounts of memory and disk, as HTCondor counts them (MB means MiB, GB means GiB)."""

from __future__ import annotations

import re
from decimal import Decimal

from pydantic_core import PydanticCustomError

_QUANTITY = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([KMGT])(?:i?B)?\s*", re.IGNORECASE)
_MB = {"K": Decimal(1) / 1024, "M": Decimal(1), "G": Decimal(1024), "T": Decimal(1024 * 1024)}
FORMS = '"512M", "2 GB" or "1.5GiB"'


def megabytes(value: object) -> int:
    """MB (2**20 bytes) in a text with a unit, rounded up.

    A number without a unit is refused: "8" has meant 8 MB to HTCondor and 8 GB to its writer.
    Source: HTCondor manual, submit command request_memory.
    """
    found = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise PydanticCustomError(
            "quantity", "needs a number with a unit, such as {forms}", {"forms": FORMS}
        )
    return int(-(-Decimal(found[1]) * _MB[found[2].upper()] // 1))
