"""Whose turn it is: accounts, groups, quotas and limits of a pool, and their names in HTCondor.

An account is `[GROUP/]USER`, below the identity whose token submits: `teaching/anna@uni.de`. In
HTCondor its name is `IDENTITY.GROUP.USER`, in which each part has only letters, digits and
underscores: other characters are written as an underscore and two hexadecimal digits.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Annotated, Self

from pydantic import AfterValidator, Field, StrictBool, StrictInt, model_validator

from swarm_runner.model.text import (
    FrozenModel,
    list_names,
    raise_diagnostics,
    refusal,
    reject_control_characters,
)

SEPARATOR = "/"
#: HTCondor's priority factor of a user for whom nothing is configured.
DEFAULT_PRIORITY_FACTOR = 1000.0
DEFAULT_TURN_S = 60
MAXIMUM_ACCOUNT_LENGTH = 100
_MAXIMUM_JOBS = 1_000_000
# They reach the central manager in one environment variable, of at most 128 KiB.
_MAXIMUM_ENTRIES = 300
_PLAIN = re.compile(r"[a-z0-9]")
_ESCAPE = re.compile(r"_([0-9a-f]{2})")
_IDENTITY = re.compile(r"[a-z][a-z0-9-]{0,39}")
_LIMIT_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


def _account(value: str) -> str:
    reject_control_characters(value)
    if len(value) > MAXIMUM_ACCOUNT_LENGTH:
        raise refusal(
            f"has {len(value)} characters, and an account has at most {MAXIMUM_ACCOUNT_LENGTH}; "
            "use a shorter name, such as the user's number"
        )
    for part in value.split(SEPARATOR):
        if not part or part != part.strip():
            raise refusal(
                f"{value!r} is not an account; write a user, or groups and a user: "
                "anna@uni.de, or teaching/anna@uni.de, without spaces around a part"
            )
    return value


def _share_name(value: str) -> str:
    identity = _account(value).split(SEPARATOR)[0]
    if not _IDENTITY.fullmatch(identity):
        raise refusal(
            f"{value!r} does not begin with an identity, the name of a token: "
            "`swarm-runner pool token list` shows them; write galaxy, or galaxy/anna@uni.de"
        )
    return value


def _limit_name(value: str) -> str:
    if not _LIMIT_NAME.fullmatch(value):
        raise refusal(
            f"{value!r} is not a name of a limit; use 1 to 40 lower-case letters, digits and _, "
            "and begin with a letter"
        )
    return value


Account = Annotated[str, AfterValidator(_account)]
ShareName = Annotated[str, AfterValidator(_share_name)]
LimitName = Annotated[str, AfterValidator(_limit_name)]
_Jobs = Annotated[StrictInt, Field(ge=1, le=_MAXIMUM_JOBS)]


def encode_account(account: str) -> str:
    """Return an account's name in HTCondor. Upper and lower case are the same user."""
    return ".".join(map(_encode_part, account.split(SEPARATOR)))


def _encode_part(part: str) -> str:
    return "".join(
        char if _PLAIN.fullmatch(char) else "".join(f"_{byte:02x}" for byte in char.encode())
        for char in part.lower()
    )


def decode_account(name: str) -> str:
    """Return the account of a name in HTCondor, such as that of a submitter."""
    return SEPARATOR.join(map(_decode_part, name.split(".")))


def _decode_part(part: str) -> str:
    encoded = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), part)
    return encoded.encode("latin-1", "replace").decode("utf-8", "replace")


class ShareGroup(FrozenModel):
    """A group of users that has a share of the pool together."""

    quota: float | None = Field(
        None,
        ge=0.001,
        le=1,
        description="its part of the pool's CPUs, or of the group above it, between 0 and 1; an "
        "equal part of what the others leave when absent",
    )
    surplus: StrictBool = Field(
        True, description="may use more than its quota while others do not need theirs"
    )
    priority_factor: float | None = Field(
        None,
        ge=1,
        le=1e9,
        description="of each of its users: with twice the factor a user gets half as much; 1000 "
        "when absent",
    )


class ShareUser(FrozenModel):
    """What differs for one user."""

    priority_factor: float | None = Field(
        None, ge=1, le=1e9, description="with twice the factor the user gets half as much"
    )
    floor: StrictInt | None = Field(
        None, ge=1, le=_MAXIMUM_JOBS, description="CPUs that the user gets before all others"
    )
    ceiling: StrictInt | None = Field(
        None, ge=1, le=_MAXIMUM_JOBS, description="the most CPUs that the user's jobs use at once"
    )

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.floor and self.ceiling and self.floor > self.ceiling:
            message = f"is {self.floor}, above ceiling ({self.ceiling})"
            raise_diagnostics(self, [(("floor",), message)])
        return self


class Shares(FrozenModel):
    """How a pool is divided among its users.

    Without any setting, each identity has an equal share, and each account that the pool's own
    identity names. The identities that have a group here name accounts below it.
    """

    turn_s: StrictInt = Field(
        DEFAULT_TURN_S,
        ge=0,
        le=86_400,
        description="seconds for which an executor runs one job of a user after another, before "
        "it is whose turn it is; a running job is never ended",
    )
    groups: dict[ShareName, ShareGroup] = Field(
        default_factory=dict,
        max_length=_MAXIMUM_ENTRIES,
        description="by identity, or identity/group: galaxy, galaxy/teaching",
    )
    users: dict[ShareName, ShareUser] = Field(
        default_factory=dict,
        max_length=_MAXIMUM_ENTRIES,
        description="by identity, or identity/account: alice, galaxy/anna@uni.de",
    )
    jobs_per_user: _Jobs | None = Field(
        None, description="the most jobs of one user that run at once; no limit when absent"
    )
    jobs_per_tool: dict[str, _Jobs] = Field(
        default_factory=dict,
        max_length=_MAXIMUM_ENTRIES,
        description="the most jobs of a tool that run at once, by its ID, or the last part of it "
        "without the version: bwa_mem",
    )
    limits: dict[LimitName, _Jobs] = Field(
        default_factory=dict,
        max_length=_MAXIMUM_ENTRIES,
        description="what there is of something that jobs name in `limits`, such as licences",
    )

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        raise_diagnostics(self, [*self._group_diagnostics(), *self._user_diagnostics()])
        return self

    def _group_diagnostics(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        names = {encode_account(name): name for name in self.groups}
        quotas: dict[str, float] = defaultdict(float)
        for name, group in self.groups.items():
            parent = name.rpartition(SEPARATOR)[0]
            if names[encode_account(name)] != name:
                yield ("groups", name), f"is {names[encode_account(name)]}, in another spelling"
            if parent and encode_account(parent) not in names:
                yield ("groups", name), f"is below {parent}, which is not a group; add it"
            quotas[parent] += group.quota or 0.0
            if quotas[parent] > 1 + 1e-9:
                above = f"the groups of {parent}" if parent else "the groups"
                yield (
                    ("groups", name, "quota"),
                    (
                        f"makes the quotas of {above} {quotas[parent]:g} together, above 1; a "
                        "quota is a part of the whole: lower one, or leave one out"
                    ),
                )
                quotas[parent] = 0.0
        for name, quota in self.quotas().items():
            if quota < 1e-6:
                yield (
                    ("groups", name),
                    (
                        "gets nothing: it has no quota, and those of the groups beside it are 1 "
                        "together; give it one, or lower theirs"
                    ),
                )

    def _user_diagnostics(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        groups = {encode_account(name) for name in self.groups}
        for name in self.users:
            if encode_account(name) in groups:
                own = f"{name}{SEPARATOR}{name.rpartition(SEPARATOR)[2]}"
                yield (
                    ("users", name),
                    f"is a group; {own} are the jobs that it submits for no account",
                )
        for tool in self.jobs_per_tool:
            if not tool.strip() or not tool.isprintable():
                yield ("jobs_per_tool", tool), "is not the ID of a tool"

    def quotas(self) -> dict[str, float]:
        """Return each group's part of the pool, or of the group above it.

        The groups without a quota, and those users who are in no group beside them, get equal parts
        of what the quotas leave.
        """
        siblings: dict[str, dict[str, float | None]] = defaultdict(dict)
        for name, group in self.groups.items():
            siblings[name.rpartition(SEPARATOR)[0]][name] = group.quota
        found: dict[str, float] = {}
        for groups in siblings.values():
            rest = max(1 - sum(quota or 0.0 for quota in groups.values()), 0.0)
            part = rest / (1 + sum(quota is None for quota in groups.values()))
            found |= {name: part if quota is None else quota for name, quota in groups.items()}
        return found

    def settings(self) -> dict[str, object]:
        """Return the settings as the central manager reads them, with HTCondor's names."""
        quotas = self.quotas()
        return {
            "groups": {
                encode_account(name): {
                    "quota": quotas[name],
                    "surplus": group.surplus,
                    "priority_factor": group.priority_factor,
                }
                for name, group in self.groups.items()
            },
            "users": {
                self.submitter(name): user.model_dump(exclude_none=True)
                for name, user in self.users.items()
            },
            "jobs_per_user": self.jobs_per_user,
            "jobs_per_tool": self.jobs_per_tool,
            "limits": self.limits,
        }

    def submitter(self, name: str) -> str:
        """Return a user's name in HTCondor: of an identity, an account below it, or a path."""
        encoded = encode_account(name)
        # An identity without a group is a submitter by its own name, which is not encoded.
        return encoded if "." in encoded else name

    def limit_diagnostics(self, requested: Mapping[str, int]) -> Iterator[str]:
        """Yield a message for each requested limit that the pool does not have, or not so much."""
        for name, amount in requested.items():
            there = self.limits.get(name)
            if there is None:
                known = list_names(sorted(self.limits)) or "none"
                yield f"{name!r} is not a limit of the pool; it has {known} (pool.shares.limits)"
            elif amount > there:
                yield f"{name} is {amount}, and the pool has {there} (pool.shares.limits)"
