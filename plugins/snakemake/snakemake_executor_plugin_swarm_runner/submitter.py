"""Brings calls to the access point, so that each one's trouble is its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from snakemake_executor_plugin_swarm_runner.invocations import Submission

if TYPE_CHECKING:
    from swarm_runner import InvalidInputError, Job, Runner


@dataclass
class BatchResult:
    """What became of calls: queued, refused and why, or late because of `trouble`."""

    submitted: list[tuple[Submission, Job]] = field(default_factory=list)
    rejected: list[tuple[Submission, str]] = field(default_factory=list)
    deferred: list[Submission] = field(default_factory=list)
    problem: Exception | None = None


def submit_batch(runner: Runner, submissions: list[Submission]) -> BatchResult:
    """Submit all together, and without those that are refused if there are any."""
    sent = BatchResult()
    _submit_splitting(runner, submissions, sent)
    return sent


def access_point_errors() -> tuple[type[Exception], ...]:
    """What an access point may have, or the file system that the event log lies on."""
    from swarm_runner import SwarmRunnerError

    return SwarmRunnerError, OSError


def _submit_splitting(runner: Runner, submissions: list[Submission], result: BatchResult) -> None:
    from swarm_runner import InvalidInputError

    if not submissions:
        return
    try:
        jobs = runner.submit([call.invocation for call in submissions])
    except InvalidInputError as error:
        faults = _messages_by_key(error)
        refused = [call for call in submissions if call.invocation.key in faults]
        result.rejected += [(call, "; ".join(faults[call.invocation.key])) for call in refused]
        if refused:
            _submit_splitting(runner, [call for call in submissions if call not in refused], result)
        elif len(submissions) > 1:
            for call in submissions:
                _submit_splitting(runner, [call], result)
        else:
            result.rejected.append((submissions[0], str(error)))
    except access_point_errors() as error:
        result.deferred += submissions
        result.problem = error
    else:
        result.submitted += zip(submissions, jobs, strict=True)


def _messages_by_key(error: InvalidInputError) -> dict[str, list[str]]:
    """The faults of each invocation; a fault's place begins with its key."""
    faults: dict[str, list[str]] = {}
    for fault in error.diagnostics:
        message = f"{fault.path}: {fault.message}" if fault.path else fault.message
        faults.setdefault(fault.key, []).append(message)
    return faults
