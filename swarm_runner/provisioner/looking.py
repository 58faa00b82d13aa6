"""One look at a pool, through Swarm and through HTCondor."""

from __future__ import annotations

import time
from collections.abc import Mapping

from swarm_runner.condor.view import PoolQueryPort
from swarm_runner.errors import PreconditionError, UnreachableError
from swarm_runner.model.pool import Pool
from swarm_runner.model.stack import NODE_LABEL
from swarm_runner.model.status import DockerEngine, PoolStatus, ServiceState
from swarm_runner.policy.health import black_holes
from swarm_runner.policy.status import build_pool_status
from swarm_runner.provisioner.health import MAX_RUNS, RUN_HISTORY_S
from swarm_runner.swarm.port import Swarm


class PoolInspector:
    """Joins what both say. Every method raises OutOfReachError when the Swarm does not answer."""

    def __init__(self, pool: Pool, swarm: Swarm, pool_query: PoolQueryPort) -> None:
        self._pool = pool
        self._swarm = swarm
        self._pool_query = pool_query

    def observe(self, *, autoscaler: bool = False) -> PoolStatus:
        """The pool; with `autoscaler` it is trouble when there is one and it does not run.

        Raises RefusedError when there is no pool; one whose collector does not answer is a status
        with trouble.
        """
        services = self._swarm.services(self._pool.name)
        if not services:
            raise PreconditionError(
                f"there is no pool {self._pool.name}; `swarm-runner pool up` makes it"
            )
        if not autoscaler:
            services.pop(self._pool.autoscaler, None)
        tasks = self._swarm.tasks(self._pool.name)
        try:
            return build_pool_status(self._pool, services, tasks, self._pool_query.slots())
        except UnreachableError as error:
            return build_pool_status(self._pool, services, tasks, None, problem=str(error))

    def status(self) -> PoolStatus:
        """All that there is to show; also why executors leave that Swarm did not tell to.

        Nobody has written that down: whoever told them looked at the same runs.
        """
        status = self.observe(autoscaler=True)
        told = {e.task for e in status.executors if e.retiring and not (e.stopping or e.problem)}
        if not told:
            return status
        try:
            holes = black_holes(self._pool_query.recent_runs(time.time() - RUN_HISTORY_S, MAX_RUNS))
        except UnreachableError:
            return status
        executors = tuple(
            line.model_copy(update={"problem": holes[line.task]})
            if line.task in told & holes.keys()
            else line
            for line in status.executors
        )
        return status.model_copy(update={"executors": executors})


def spool_node(
    pool: Pool, existing: Mapping[str, ServiceState], docker_engine: DockerEngine
) -> str:
    """The node that holds the queue: the services say which. Of a new pool it is the engine's."""
    ours = [service for service in existing.values() if NODE_LABEL in service.labels]
    ours.sort(key=lambda service: service.name != pool.service())
    return ours[0].labels[NODE_LABEL] if ours else docker_engine.node_id
