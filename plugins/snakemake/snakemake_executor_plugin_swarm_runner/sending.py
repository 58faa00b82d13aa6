"""Brings calls to the access point, so that each one's trouble is its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from snakemake_executor_plugin_swarm_runner.invocations import Call

if TYPE_CHECKING:
    from swarm_runner import InvalidInputError, Job, Runner


@dataclass
class Sent:
    """What became of calls: queued, refused and why, or late because of `trouble`."""

    queued: list[tuple[Call, Job]] = field(default_factory=list)
    refused: list[tuple[Call, str]] = field(default_factory=list)
    late: list[Call] = field(default_factory=list)
    trouble: Exception | None = None


def send(runner: Runner, calls: list[Call]) -> Sent:
    """Submit all together, and without those that are refused if there are any."""
    sent = Sent()
    _send(runner, calls, sent)
    return sent


def troubles() -> tuple[type[Exception], ...]:
    """What an access point may have, or the file system that the event log lies on."""
    from swarm_runner import SwarmRunnerError

    return SwarmRunnerError, OSError


def _send(runner: Runner, calls: list[Call], sent: Sent) -> None:
    from swarm_runner import InvalidInputError

    if not calls:
        return
    try:
        jobs = runner.submit([call.invocation for call in calls])
    except InvalidInputError as error:
        faults = _by_key(error)
        refused = [call for call in calls if call.invocation.key in faults]
        sent.refused += [(call, "; ".join(faults[call.invocation.key])) for call in refused]
        if refused:
            _send(runner, [call for call in calls if call not in refused], sent)
        elif len(calls) > 1:
            for call in calls:
                _send(runner, [call], sent)
        else:
            sent.refused.append((calls[0], str(error)))
    except troubles() as error:
        sent.late += calls
        sent.trouble = error
    else:
        sent.queued += zip(calls, jobs, strict=True)


def _by_key(error: InvalidInputError) -> dict[str, list[str]]:
    """The faults of each invocation; a fault's place begins with its key."""
    faults: dict[str, list[str]] = {}
    for fault in error.faults:
        key, _, field_name = fault.where.partition(": ")
        said = f"{field_name}: {fault.message}" if field_name else fault.message
        faults.setdefault(key, []).append(said)
    return faults
