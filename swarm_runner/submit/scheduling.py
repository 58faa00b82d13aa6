"""The submit commands for an invocation's place in the queue, and for loans. Most need none."""

from __future__ import annotations

from collections.abc import Iterator

from swarm_runner.errors import Diagnostic, InvalidInputError
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.lending import longest_loan_s
from swarm_runner.model.pool import Pool
from swarm_runner.model.shares import SEPARATOR, encode_account
from swarm_runner.model.text import list_names
from swarm_runner.submit.description import Commands
from swarm_runner.submit.language import classad_string

# An executor's START decides which classes, and when (image/lending.conf). The schedd gives claims
# that it has to further jobs; they are of dynamic slots, which no job borrows.
_LOAN = "TARGET.PartitionableSlot && MY.AllowedExecuteDuration <= TARGET.LendMaxS"


def scheduling_commands(invocation: Invocation, pool: Pool) -> Commands:
    """Return the commands for account, priority and limits.

    The access point puts the identity before the account. Raises InvalidInputError for a group or a
    limit that the pool does not have.
    """
    if not (invocation.account or invocation.priority or invocation.limits):
        return []
    diagnostics = [
        Diagnostic(message, key=invocation.key) for message in _problems(invocation, pool)
    ]
    if diagnostics:
        raise InvalidInputError(diagnostics)
    commands: Commands = []
    if invocation.account is not None:
        account = classad_string(encode_account(invocation.account))
        commands.append(("My.SwarmRunnerAccount", account))
    if invocation.priority:
        commands.append(("priority", str(invocation.priority)))
    if invocation.limits:
        limits = [f"named.{name}:{amount}" for name, amount in sorted(invocation.limits.items())]
        commands.append(("concurrency_limits", ",".join(limits)))
    return commands


def loan_requirement(invocation: Invocation, pool: Pool) -> str:
    """Return what follows a container's `CLASS_REQUIREMENT` if it is short enough for a loan."""
    time_limit_s = invocation.required_resources.time_limit_s
    is_short = time_limit_s is not None and time_limit_s <= longest_loan_s(pool)
    return f" || {_LOAN}" if is_short and invocation.vm is None else ""


def _problems(invocation: Invocation, pool: Pool) -> Iterator[str]:
    yield from pool.shares.limit_diagnostics(invocation.limits)
    group = encode_account((invocation.account or "").rpartition(SEPARATOR)[0])
    # Which identity submits is only known to the access point.
    known = {encode_account(name).partition(".")[2]: name for name in pool.shares.groups}
    if group and pool.shares.groups and group not in known:
        names = [name.partition(SEPARATOR)[2] for name in known.values() if SEPARATOR in name]
        yield (
            f"account {invocation.account!r} is in a group that the pool does not have; it has "
            f"{list_names(sorted(names)) or 'none'} (pool.shares.groups)"
        )
