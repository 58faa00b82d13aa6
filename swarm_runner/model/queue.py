"""The queue as a sizing decision needs it: figures by shape, however many jobs there are."""

from __future__ import annotations

from pydantic import Field

from swarm_runner.model.demand import ResourceAmounts
from swarm_runner.model.text import FrozenModel


class IdleJobGroup(ResourceAmounts):
    """Idle jobs of one class and one request.

    `capacity_class` is what the job's own expression says now; empty when it says nothing, and
    then no executor takes it. Clusters grow with time: `first_cluster` is the oldest job's.
    """

    capacity_class: str
    count: int = Field(ge=1)
    first_cluster: int
    last_cluster: int


class FinishedJob(FrozenModel):
    """A job that left the queue, by its end or otherwise. One that never ran has no `runtime_s`."""

    capacity_class: str
    ended_s: float
    runtime_s: float | None = Field(None, ge=0)
