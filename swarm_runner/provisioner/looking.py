"""One look at a pool, through Swarm and through HTCondor."""

from __future__ import annotations

import time
from collections.abc import Mapping

from swarm_runner.condor.view import PoolView
from swarm_runner.errors import OutOfReachError, RefusedError
from swarm_runner.model.pool import Pool
from swarm_runner.model.stack import NODE_LABEL
from swarm_runner.model.status import EngineState, PoolStatus, ServiceState
from swarm_runner.policy.health import black_holes
from swarm_runner.policy.status import join
from swarm_runner.provisioner.health import RECENT_S, RUNS
from swarm_runner.swarm.port import Swarm


class Looking:
    """Joins what both say. Every method raises OutOfReachError when the Swarm does not answer."""

    def __init__(self, pool: Pool, swarm: Swarm, view: PoolView) -> None:
        self._pool = pool
        self._swarm = swarm
        self._view = view

    def look(self, *, autoscaler: bool = False) -> PoolStatus:
        """The pool; with `autoscaler` it is trouble when there is one and it does not run.

        Raises RefusedError when there is no pool; one whose collector does not answer is a status
        with trouble.
        """
        services = self._swarm.services(self._pool.name)
        if not services:
            raise RefusedError(
                f"there is no pool {self._pool.name}; `swarm-runner pool up` makes it"
            )
        if not autoscaler:
            services.pop(self._pool.autoscaler, None)
        tasks = self._swarm.tasks(self._pool.name)
        try:
            return join(self._pool, services, tasks, self._view.slots())
        except OutOfReachError as error:
            return join(self._pool, services, tasks, None, trouble=str(error))

    def shown(self) -> PoolStatus:
        """All that there is to show; also why executors leave that Swarm did not tell to.

        Nobody has written that down: whoever told them looked at the same runs.
        """
        status = self.look(autoscaler=True)
        told = {e.task for e in status.executors if e.retiring and not (e.going or e.trouble)}
        if not told:
            return status
        try:
            holes = black_holes(self._view.runs(time.time() - RECENT_S, RUNS))
        except OutOfReachError:
            return status
        executors = tuple(
            line.model_copy(update={"trouble": holes[line.task]})
            if line.task in told & holes.keys()
            else line
            for line in status.executors
        )
        return status.model_copy(update={"executors": executors})


def queue_node(pool: Pool, present: Mapping[str, ServiceState], engine: EngineState) -> str:
    """The node that holds the queue: the services say which. Of a new pool it is the engine's."""
    ours = [service for service in present.values() if NODE_LABEL in service.labels]
    ours.sort(key=lambda service: service.name != pool.service())
    return ours[0].labels[NODE_LABEL] if ours else engine.node_id
