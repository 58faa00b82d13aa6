"""Numbers and durations in words. It imports nothing, so that every command can afford it."""

from __future__ import annotations

_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86400


def format_duration(seconds: float) -> str:
    """Format a duration with two units at most: 12s, 3m20s, 2h05m, 3d04h."""
    total = max(0, round(seconds))
    if total < _MINUTE_S:
        return f"{total}s"
    if total < _HOUR_S:
        return f"{total // _MINUTE_S}m{total % _MINUTE_S:02d}s"
    if total < _DAY_S:
        return f"{total // _HOUR_S}h{total % _HOUR_S // _MINUTE_S:02d}m"
    return f"{total // _DAY_S}d{total % _DAY_S // _HOUR_S:02d}h"


def pluralize(number: int, noun: str) -> str:
    """Return a number with its noun: 1 job, 2 jobs."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
