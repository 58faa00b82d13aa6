"""The contract between swarm_runner and its plugins (entry point group `swarm_runner`).

A plugin implements any of these six hooks with `hookimpl`. Arguments are frozen models. A plugin
that was registered later is asked first, the built-in policies last; None means no opinion. Each
plugin is called in a thread of its own, and has ten seconds for an answer. See `hooks.manager` for
what a plugin's fault costs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

# pluggy reads the names of arguments, not their types.
if TYPE_CHECKING:
    from collections.abc import Mapping

    from swarm_runner.model.invocation import Invocation
    from swarm_runner.model.job import Hold, Job, JobChange, Release, Remove
    from swarm_runner.model.pool import Destination, Pool, Route
    from swarm_runner.model.pool_status import PoolStatus
    from swarm_runner.model.scaling import ClassSnapshot, ScalingDecision, ScalingLimits

hookspec = pluggy.HookspecMarker("swarm_runner")
#: Marks a function of a plugin as the implementation of the hook of its name.
hookimpl = pluggy.HookimplMarker("swarm_runner")


@hookspec(firstresult=True)
def swarm_runner_route(
    invocation: Invocation, destination: Destination, pool: Pool
) -> Route | None:
    """Choose a capacity class. Called once for each invocation, before anything is submitted.

    Raise `InvalidInputError` to refuse the invocation.
    """


@hookspec
def swarm_runner_amend_submit(invocation: Invocation, route: Route) -> Mapping[str, str] | None:
    """Add or replace submit commands. Called once for each invocation, after its translation.

    Values are submit-language text: quote foreign text with `swarm_runner.submit.language`. A
    value with a control character refuses the invocation.
    """


@hookspec(firstresult=True)
def swarm_runner_job_held(job: Job, hold: Hold) -> Release | Remove | None:
    """Decide about a held job. Called once for each hold; without an opinion it stays held."""


@hookspec
def swarm_runner_job_changed(change: JobChange) -> None:
    """Observe a change of a job. Called for each change, in order, during `poll` and `wait`."""


@hookspec(firstresult=True)
def swarm_runner_size_class(
    capacity_class: ScalingLimits, status: ClassSnapshot
) -> ScalingDecision | int | None:
    """Decide how many executors a class has. Called for each class in each autoscaler round.

    The class's limits bound every answer. Answer from the arguments alone: `pool simulate` calls
    the same code, with simulated time in `status.time_s`.
    """


@hookspec
def swarm_runner_pool_changed(before: PoolStatus, after: PoolStatus) -> None:
    """Observe a change of the pool: executors that came, left or failed, and new problems.

    Called by the autoscaler. That jobs start and end is not a change of the pool.
    """
