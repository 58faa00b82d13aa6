"""Submits a batch of jobs, so that an invalid job does not affect the others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from snakemake_executor_plugin_swarm_runner.invocations import Submission

if TYPE_CHECKING:
    from swarm_runner import InvalidInputError, Job, Runner


@dataclass
class BatchResult:
    """The result of submitting a batch."""

    # In the queue.
    submitted: list[tuple[Submission, Job]] = field(default_factory=list)
    # Invalid, with the reason. They cannot succeed.
    rejected: list[tuple[Submission, str]] = field(default_factory=list)
    # Not submitted because of `problem`. Submit them again later.
    deferred: list[Submission] = field(default_factory=list)
    problem: Exception | None = None


def submit_batch(runner: Runner, submissions: list[Submission]) -> BatchResult:
    """Submit all together; if some are rejected, submit the others without them."""
    result = BatchResult()
    _submit_splitting(runner, submissions, result)
    return result


def access_point_errors() -> tuple[type[Exception], ...]:
    """Return the exceptions of the access point, and of the file system with the event log."""
    from swarm_runner import SwarmRunnerError

    return SwarmRunnerError, OSError


def _submit_splitting(runner: Runner, submissions: list[Submission], result: BatchResult) -> None:
    from swarm_runner import InvalidInputError

    if not submissions:
        return
    try:
        jobs = runner.submit([submission.invocation for submission in submissions])
    except InvalidInputError as error:
        messages = _messages_by_key(error)
        rejected = [each for each in submissions if each.invocation.key in messages]
        result.rejected += [(each, "; ".join(messages[each.invocation.key])) for each in rejected]
        if rejected:
            _submit_splitting(
                runner, [each for each in submissions if each not in rejected], result
            )
        elif len(submissions) > 1:
            for submission in submissions:
                _submit_splitting(runner, [submission], result)
        else:
            result.rejected.append((submissions[0], str(error)))
    except access_point_errors() as error:
        result.deferred += submissions
        result.problem = error
    else:
        result.submitted += zip(submissions, jobs, strict=True)


def _messages_by_key(error: InvalidInputError) -> dict[str, list[str]]:
    """Return the messages for each invocation, by its key."""
    messages: dict[str, list[str]] = {}
    for diagnostic in error.diagnostics:
        path, message = diagnostic.path, diagnostic.message
        messages.setdefault(diagnostic.key, []).append(f"{path}: {message}" if path else message)
    return messages
