"""Until when a Debian mirror's Release file is valid.

The archive signs a new one several times a day. One that has expired belongs to a mirror that is no
longer updated, and apt refuses it: its packages may have known vulnerabilities.
"""

from __future__ import annotations

import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

MIRROR = "http://deb.debian.org/debian"
TIMEOUT_S = 10
# The head of the file. Its lists of checksums follow, and are megabytes long.
_HEAD_BYTES = 4096
_FIELD = "Valid-Until:"


def expired_since(suite: str, now: datetime, fetch: Callable[[str], bytes] | None = None) -> str:
    """Return when a suite's Release file expired, such as `2026-11-06 08:08 UTC`.

    Empty if it has not, if the suite's files do not expire, or if the mirror does not answer.
    """
    try:
        head = (fetch or _fetch)(f"{MIRROR}/dists/{suite}/InRelease")
    except OSError:
        return ""
    for line in head.decode("utf-8", "replace").splitlines():
        if line.startswith(_FIELD):
            return _before(line.removeprefix(_FIELD).strip(), now)
    return ""


def _before(date: str, now: datetime) -> str:
    try:
        valid_until = parsedate_to_datetime(date)
    except ValueError:
        return ""
    if valid_until.tzinfo is None:
        valid_until = valid_until.replace(tzinfo=UTC)
    return f"{valid_until:%Y-%m-%d %H:%M} UTC" if valid_until < now else ""


def _fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:  # noqa: S310  MIRROR's scheme
        head: bytes = response.read(_HEAD_BYTES)
        return head
