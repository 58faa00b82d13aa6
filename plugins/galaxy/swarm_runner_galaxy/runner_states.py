"""What a job's end means to Galaxy."""

from __future__ import annotations

from swarm_runner.model.job import Outcome, OutcomeKind

# Galaxy's names of runner states, by which `resubmit` conditions and TPV's rules choose
# (galaxy/jobs/runners/util/__init__.py).
MEMORY_LIMIT_REACHED = "memory_limit_reached"
WALLTIME_REACHED = "walltime_reached"
UNKNOWN_ERROR = "unknown_error"
# No name of Galaxy's: nobody resubmits it. The schedd owned the other try, and has made it.
MEMORY_LIMIT_REACHED_AFTER_ESCALATION = "memory_limit_reached_after_escalation"

_RUNNER_STATES = {
    OutcomeKind.OUT_OF_MEMORY: MEMORY_LIMIT_REACHED,
    OutcomeKind.TIME_LIMIT: WALLTIME_REACHED,
}


def runner_state(outcome: Outcome, *, schedd_escalates: bool) -> str:
    """Galaxy's runner state for a job that did not end by itself."""
    if outcome.kind is OutcomeKind.OUT_OF_MEMORY and schedd_escalates:
        return MEMORY_LIMIT_REACHED_AFTER_ESCALATION
    return _RUNNER_STATES.get(outcome.kind, UNKNOWN_ERROR)


def user_message(outcome: Outcome) -> str:
    """The sentence that the user reads."""
    return outcome.message.replace(
        "raise memory_mb or max_memory_mb.",
        "ask your Galaxy's administrators for more (request_memory or max_memory).",
    )
