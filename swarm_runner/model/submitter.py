"""A submitter: a user, or a group of users, among whom the negotiator divides a pool."""

from __future__ import annotations

from pydantic import Field

from swarm_runner.model.shares import decode_account
from swarm_runner.model.text import FrozenModel


class Submitter(FrozenModel):
    """What HTCondor knows of one submitter.

    `name` is HTCondor's, without the pool's domain. Those with a lower `priority` come first: it is
    what the submitter used lately, times its factor. A group has a `quota`, in CPUs. `floor` and
    `ceiling` are CPUs, too.
    """

    name: str
    idle_jobs: int = Field(0, ge=0)
    running_jobs: int = Field(0, ge=0)
    cpus_in_use: float = Field(0, ge=0)
    priority: float = Field(0, ge=0)
    group: str = ""
    is_group: bool = False
    quota: float | None = None
    floor: float | None = None
    ceiling: float | None = None

    @property
    def account(self) -> str:
        """The name as people write it: `IDENTITY/ACCOUNT`, or an identity."""
        return decode_account(self.name)

    @property
    def at_ceiling(self) -> bool:
        """Whether it may not use more CPUs."""
        return self.ceiling is not None and self.cpus_in_use >= self.ceiling

    @property
    def below_floor(self) -> bool:
        """Whether it gets CPUs before all others."""
        return self.floor is not None and self.cpus_in_use < self.floor

    def __str__(self) -> str:
        return f"{self.account} ({self.cpus_in_use:g} CPUs in use, priority {self.priority:.1f})"
