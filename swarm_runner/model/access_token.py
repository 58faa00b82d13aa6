"""A token that lets a user or a service use a pool: who it is for, its rights and its lifetime."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from pydantic import Field

from swarm_runner.model.text import FrozenModel

# Identities that HTCondor or the pool itself uses, and names of accounts in the pool image that
# have rights there.
RESERVED_NAMES = frozenset({"root", "condor", "executor", "autoscaler", "daemon", "nobody"})
DAY_S = 86_400
DEFAULT_LIFETIME_S = 365 * DAY_S
# `pool status` warns this long before a token expires.
EXPIRY_WARNING_S = 30 * DAY_S

Rights = Literal["submit", "read"]


class AccessToken(FrozenModel):
    """What the pool knows of a token. Times are in seconds since the epoch."""

    id: str
    identity: str = Field(description="user@pool; it owns the jobs that it submits")
    rights: Rights = Field(description="read: see the queue and the slots; submit: use them")
    created_at: int
    expires_at: int
    revoked_at: int | None = None

    def state(self, now: float) -> str:
        """Return whether it is valid at that time: valid, expires soon, expired or revoked."""
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at <= now:
            return "expired"
        return "expires soon" if self.expires_at - now < EXPIRY_WARNING_S else "valid"

    @property
    def expiry(self) -> str:
        """The time of its expiry, for people."""
        return f"{datetime.fromtimestamp(self.expires_at, UTC):%Y-%m-%d %H:%M} UTC"
