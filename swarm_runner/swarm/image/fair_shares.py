"""The shares of a pool's users, as HTCondor configuration and as settings of its accountant.

The access point itself puts a job's identity before the account that the job names, so that an
identity can name users below its own name, and nobody else's. Only the pool's own identity and
those that have a group may name any; the jobs of others count for their identity.

Sources: HTCondor manual, "User Priorities and Negotiation" and "Group Accounting"; HTCondor 25.14's
NegotiationUtils.cpp (names of limits) and Accountant.cpp (names of submitters).
"""

import json
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Of model/shares.py: an account's name in HTCondor, with a dot below each group.
ACCOUNT_PATTERN = r"^[a-z0-9_]{1,600}(\.[a-z0-9_]{1,600})*$"
# The prefixes of limits that the access point sets; a job may not name them itself.
OWN_LIMITS = r"(^|[^A-Za-z0-9_.])(user|tool)[.]"
_OWN_LIMITS_REASON = "ConcurrencyLimits: only the pool sets those of users and tools"
# Where access_point_policy.py notes a refused attribute.
REFUSAL = "SwarmRunnerRefused"
# The negotiator counts limits by what executors have advertised. A cycle that begins before they
# have advertised the matches of the last one would hand out the same licence twice.
LIMITS_DELAY_S = 10
_DEFAULT_FACTOR, _NO_FLOOR, _NO_CEILING = 1000.0, 0, -1
# What was set in the accountant's database, which outlives the container.
RECORD = Path("/var/lib/swarm-runner/spool/swarm-runner-shares.json")
_RETRY_S, _ATTEMPTS = 5, 60
_PROGRAM = "/usr/bin/condor_userprio"
Settings = Mapping[str, Any]


def from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings that model/shares.py wrote; empty if the pool has none."""
    settings = json.loads(environment.get("SWARM_RUNNER_SHARES", "{}"))
    return dict(settings)


def identities(settings: Settings) -> list[str]:
    """Return the identities that have a group."""
    top = (name for name in settings.get("groups", {}) if "." not in name)
    return [re.sub("_2d", "-", name) for name in top]


def transforms(settings: Settings, pool_user: str) -> list[str]:
    """Return the job transforms, each with its name on the first line."""
    grouped = identities(settings)
    # An identity's name has only letters, digits and hyphens.
    own = 'replaceall("-", MY.Owner, "_2d")'
    found = [
        _transform(
            "SwarmRunnerOwnLimits",
            f"isString(MY.ConcurrencyLimits) && regexp({_string(OWN_LIMITS)}, "
            'MY.ConcurrencyLimits, "i")',
            f"SET {REFUSAL} {_string(_OWN_LIMITS_REASON)}",
        ),
        _transform(
            "SwarmRunnerAccount",
            f"isString(MY.SwarmRunnerAccount) && {_is_owner('MY', [pool_user, *grouped])} "
            "&& MY.AccountingGroup =?= undefined",
            f'EVALSET AccountingGroup strcat({own}, ".", MY.SwarmRunnerAccount)',
        ),
    ]
    if grouped:
        # A submitter may not have the name of a group.
        found.append(
            _transform(
                "SwarmRunnerGroup",
                f"{_is_owner('MY', grouped)} && MY.AccountingGroup =?= undefined",
                f'EVALSET AccountingGroup strcat({own}, ".", {own})',
            )
        )
    if settings.get("jobs_per_user"):
        # A dot becomes two underscores, which no account contains: one limit for each account.
        who = f'replaceall("[.]", MY.AccountingGroup ?: {own}, "__")'
        who = f'replaceall("[^A-Za-z0-9_]", {who}, "_2d")'
        found.append(_limit("SwarmRunnerUserLimit", "true", f'strcat("user.", {who})'))
    for number, tool in enumerate(settings.get("jobs_per_tool", {})):
        pattern = _string(f"^(.*/)?{_literal(tool)}(/[^/]*)?$")
        found.append(
            _limit(
                f"SwarmRunnerTool{number}",
                f"isString(MY.SwarmRunnerTool) && regexp({pattern}, MY.SwarmRunnerTool)",
                _string(f"tool.t{number}"),
            )
        )
    return found


def is_own_account(settings: Settings) -> str:
    """Return the expression that a job's accounting group is below its own identity's name."""
    grouped = identities(settings)
    if not grouped:
        return "false"
    own = 'replaceall("-", JOB.Owner, "_2d")'
    return (
        f"({_is_owner('JOB', grouped)} && JOB.AccountingGroup =?= "
        f'strcat({own}, ".", JOB.SwarmRunnerAccount ?: {own}))'
    )


def configuration(settings: Settings) -> str:
    """Return the negotiator's configuration."""
    lines = []
    if any(settings.get(key) for key in ("jobs_per_user", "jobs_per_tool", "limits")):
        lines.append(f"NEGOTIATOR_CYCLE_DELAY = {LIMITS_DELAY_S}")
    groups = settings.get("groups", {})
    if groups:
        lines.append("GROUP_NAMES = " + ", ".join(groups))
    for name, group in groups.items():
        lines.append(f"GROUP_QUOTA_DYNAMIC_{name} = {group['quota']:.9f}")
        lines.append(f"GROUP_ACCEPT_SURPLUS_{name} = {group['surplus']}")
        if group["priority_factor"] is not None:
            lines.append(f"GROUP_PRIO_FACTOR_{name} = {group['priority_factor']}")
    if settings.get("jobs_per_user"):
        lines.append(f"CONCURRENCY_LIMIT_DEFAULT_user = {settings['jobs_per_user']}")
    for number, jobs in enumerate(settings.get("jobs_per_tool", {}).values()):
        lines.append(f"tool.t{number}_LIMIT = {jobs}")
    for name, amount in settings.get("limits", {}).items():
        lines.append(f"named.{name}_LIMIT = {amount}")
    return "".join(f"{line}\n" for line in lines)


def user_commands(settings: Settings, applied: Settings, pool: str) -> list[list[str]]:
    """Return the commands that make the accountant's settings of users those of the pool.

    `applied` are the users whose settings an earlier call made: what is no longer configured
    becomes HTCondor's default again.
    """
    defaults = {"priority_factor": _DEFAULT_FACTOR, "floor": _NO_FLOOR, "ceiling": _NO_CEILING}
    options = {
        "priority_factor": "-setfactor",
        "floor": "-setfloor",
        "ceiling": "-setceiling",
    }
    users = settings.get("users", {})
    return [
        [options[key], f"{name}@{pool}", str(users.get(name, {}).get(key, defaults[key]))]
        for name in sorted(users.keys() | applied.keys())
        for key in options
        if users.get(name, {}).get(key) != applied.get(name, {}).get(key)
    ]


def apply_to_users(settings: Settings, pool: str, record: Path = RECORD) -> bool:
    """Set priority factors, floors and ceilings, once the negotiator answers.

    Return whether all were set. What could not be set is tried again at the next start.
    """
    try:
        applied = json.loads(record.read_text())
    except (OSError, ValueError):
        applied = {}
    commands = user_commands(settings, applied, pool)
    if not commands:
        return True
    if not all(map(_run_until_accepted, commands)):
        sys.stderr.write(
            "swarm-runner: the negotiator did not accept the settings of users in pool.shares\n"
        )
        return False
    temporary = record.with_suffix(".new")
    temporary.write_text(json.dumps(settings.get("users", {})))
    temporary.rename(record)
    return True


def _run_until_accepted(arguments: list[str]) -> bool:
    """Run a command until it succeeds: the negotiator may not have started yet."""
    for _ in range(_ATTEMPTS):
        done = subprocess.run([_PROGRAM, *arguments], check=False, stdout=subprocess.DEVNULL)
        if done.returncode == 0:
            return True
        time.sleep(_RETRY_S)
    return False


def _transform(name: str, condition: str, *commands: str) -> str:
    lines = [name, f"  REQUIREMENTS {condition}", *(f"  {command}" for command in commands)]
    return "\n".join(lines)


def _limit(name: str, condition: str, limit: str) -> str:
    """Return a transform that adds a limit to those that the job names."""
    others = 'ifThenElse(isString(MY.ConcurrencyLimits), strcat(MY.ConcurrencyLimits, ","), "")'
    return _transform(name, condition, f"EVALSET ConcurrencyLimits strcat({others}, {limit})")


def _is_owner(scope: str, names: list[str]) -> str:
    alternatives = " || ".join(f"{scope}.Owner =?= {_string(name)}" for name in names)
    return f"({alternatives})"


def _literal(text: str) -> str:
    """Return a pattern for a text, in classes: a backslash has meanings of its own in a ClassAd."""
    return "".join(
        char if char.isalnum() or char in "_/-" else rf"\{char}" if char in "^]" else f"[{char}]"
        for char in text
    )


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("$(", "$(DOLLAR)(")
