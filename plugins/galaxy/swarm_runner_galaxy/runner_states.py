"""Outcomes of jobs as Galaxy's runner states and messages: a table without other code."""

from __future__ import annotations

import re

from swarm_runner import Outcome, OutcomeKind

# Galaxy's names (galaxy/jobs/runners/util/__init__.py). `resubmit` conditions and TPV's rules
# refer to them.
MEMORY_LIMIT_REACHED = "memory_limit_reached"
WALLTIME_REACHED = "walltime_reached"
UNKNOWN_ERROR = "unknown_error"
# Not a name of Galaxy's, so that Galaxy does not resubmit the job: the schedd has already retried
# it with more memory.
MEMORY_LIMIT_REACHED_AFTER_ESCALATION = "memory_limit_reached_after_escalation"

_RUNNER_STATES = {
    OutcomeKind.OUT_OF_MEMORY: MEMORY_LIMIT_REACHED,
    OutcomeKind.TIME_LIMIT: WALLTIME_REACHED,
}
# The core's advice names keys of an invocation, which users of Galaxy cannot set.
_CORE_ADVICE = re.compile(r"(r)aise memory_mb or max_memory_mb", re.IGNORECASE)
_GALAXY_ADVICE = "sk your Galaxy's administrators for a higher limit (request_memory or max_memory)"


def runner_state(outcome: Outcome, *, schedd_escalates: bool) -> str:
    """Return Galaxy's runner state for a job whose script did not run to its end."""
    if outcome.kind is OutcomeKind.OUT_OF_MEMORY and schedd_escalates:
        return MEMORY_LIMIT_REACHED_AFTER_ESCALATION
    return _RUNNER_STATES.get(outcome.kind, UNKNOWN_ERROR)


def user_message(outcome: Outcome) -> str:
    """Return the message that Galaxy shows to the user."""
    return _CORE_ADVICE.sub(
        lambda found: ("A" if found[1].isupper() else "a") + _GALAXY_ADVICE, outcome.message
    )
