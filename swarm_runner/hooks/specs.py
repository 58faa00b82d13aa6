"""The contract between swarm_runner and its plugins (entry-point group `swarm_runner`).

`None` means no opinion. Arguments are frozen models. The built-in policies are registered
through the same door, before any third party's, so that a later plugin is asked first.
"""

from __future__ import annotations

from collections.abc import Mapping

import pluggy

from swarm_runner.model.invocation import Invocation
from swarm_runner.model.job import Hold, Job, JobChange, Release, Remove
from swarm_runner.model.pool import Destination, Pool, Route
from swarm_runner.model.pool_status import PoolStatus
from swarm_runner.model.scaling import ClassSnapshot, ScalingDecision, ScalingLimits

hookspec = pluggy.HookspecMarker("swarm_runner")
hookimpl = pluggy.HookimplMarker("swarm_runner")


@hookspec(firstresult=True)
def swarm_runner_route(
    invocation: Invocation, destination: Destination, pool: Pool
) -> Route | None:
    """Choose a capacity class. Fires once for each invocation, before anything is submitted.

    Raise `InvalidInputError` to refuse the invocation.
    """


@hookspec
def swarm_runner_amend_submit(invocation: Invocation, route: Route) -> Mapping[str, str] | None:
    """Add or replace submit commands. Fires once for each invocation, after translation.

    Values are submit-language text: quote what is not yours with `swarm_runner.submit.description`.
    A control character in one is refused.
    """


@hookspec(firstresult=True)
def swarm_runner_job_held(job: Job, hold: Hold) -> Release | Remove | None:
    """Decide about a held job. Fires once for each hold. No opinion leaves it held."""


@hookspec
def swarm_runner_job_changed(change: JobChange) -> None:
    """Be told of a change. Fires in the thread that calls `watch` or `wait`, in log order."""


@hookspec(firstresult=True)
def swarm_runner_size_class(
    capacity_class: ScalingLimits, status: ClassSnapshot
) -> ScalingDecision | int | None:
    """Say how many executors a class is to have. Fires once for each class and look at the pool.

    The class's limits hold whatever is answered. Answer from the arguments alone: the same code
    decides for a pool and in `pool simulate`, where time is `status.time_s`.
    """


@hookspec
def swarm_runner_pool_changed(before: PoolStatus, after: PoolStatus) -> None:
    """Be told of a change of the pool: executors came, went or broke, or the pool is in trouble.

    Fires in the autoscaler, after a look that found it. Which jobs run where is no such change.
    """
