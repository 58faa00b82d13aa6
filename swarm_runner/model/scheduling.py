"""Whose job an invocation is, how urgent, and on which nodes it may run."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, Field, StrictInt, StringConstraints

from swarm_runner.model.resources import Memory
from swarm_runner.model.shares import Account, LimitName
from swarm_runner.model.text import FrozenModel, Text, refusal

MAXIMUM_PRIORITY = 1_000_000
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,126}[A-Za-z0-9])?")


def _label(value: str) -> str:
    if not _LABEL.fullmatch(value):
        raise refusal(
            f"{value!r} is not the name of a label; use letters, digits and . _ - between them, "
            "as in `docker node update --label-add NAME=VALUE`"
        )
    return value


LabelName = Annotated[str, AfterValidator(_label)]
LabelValue = Annotated[Text, StringConstraints(max_length=200)]
GpuModel = Annotated[Text, StringConstraints(min_length=1, max_length=100)]
Priority = Annotated[StrictInt, Field(ge=-MAXIMUM_PRIORITY, le=MAXIMUM_PRIORITY)]


class Scheduling(FrozenModel):
    """What an invocation says about its place in the queue and in the pool, beside its size."""

    account: Account | None = Field(
        None,
        description="the user for whom it runs, who has a share of their own: `[GROUP/]USER`, "
        "below the identity that submits",
    )
    priority: Priority = Field(
        0, description="among the jobs of the same user: higher ones start first"
    )
    limits: dict[LimitName, Annotated[StrictInt, Field(ge=1, le=1_000_000)]] = Field(
        default_factory=dict,
        max_length=20,
        description="what it uses of the pool's `shares.limits`, such as licences",
    )
    node_labels: dict[LabelName, LabelValue] = Field(
        default_factory=dict,
        max_length=20,
        description="labels that its node has: only classes whose `constraints` name them",
    )
    gpu_model: GpuModel | None = Field(
        None, description="only classes whose `gpu_model` contains this text, in any case"
    )
    gpu_memory_mb: Memory | None = Field(
        None, description="MB of each GPU: only classes with at least this `gpu_memory_mb`"
    )

    def with_scheduling_defaults(self, defaults: Scheduling) -> dict[str, Any]:
        """Return the defaults for the fields that are not set."""
        unset = defaults.model_fields_set - self.model_fields_set
        return {name: getattr(defaults, name) for name in unset}
