"""Removes a pool: its jobs first, then its services and everything created for them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial

from swarm_runner.condor.pool_query import PoolQueryPort
from swarm_runner.errors import PreconditionError, UnreachableError
from swarm_runner.model.pool import Pool
from swarm_runner.provisioner.managers import known_manager_nodes, run_in_holder
from swarm_runner.provisioner.waiter import Waiter
from swarm_runner.structured_log import get_logger
from swarm_runner.swarm import monitoring_specs
from swarm_runner.swarm.ports import Swarm
from swarm_runner.swarm.specs import Stack

log = get_logger(__name__)

STABLE_SLOTS_TIMEOUT_S = 120.0
EXECUTOR_STOP_TIMEOUT_S = 60.0
# Longer than Swarm lets a manager run on after it asked it to stop.
MANAGER_STOP_TIMEOUT_S = 90.0
REMOVAL_TIMEOUT_S = 180.0


class PoolJobs:
    """Waits for the jobs of a pool, or removes them."""

    def __init__(
        self,
        pool: Pool,
        swarm: Swarm,
        pool_query: PoolQueryPort,
        waiter: Waiter,
        progress: Callable[[str], None],
    ) -> None:
        self._pool = pool
        self._swarm = swarm
        self._pool_query = pool_query
        self._waiter = waiter
        self._progress = progress

    def ensure_empty_queue(self, *, drain: bool, force: bool) -> None:
        """Return when no job is left in the queue.

        With `drain`, wait for the jobs; with `force`, remove them; otherwise raise
        PreconditionError if there are any. Raises UnreachableError when the queue cannot be
        read, unless `force` is set.
        """
        try:
            job_count = self._pool_query.count_unfinished()
            if force:
                if job_count:
                    self._progress(f"removing jobs: {job_count}")
                    log.warning(
                        "Jobs removed", count=job_count, reason="forced removal of the pool"
                    )
                    self._remove_all()
            elif drain:
                self._waiter.poll_until(self._count_unfinished, lambda count: count == 0, None)
            elif job_count:
                raise PreconditionError(
                    f"jobs that have not ended, or whose outputs were not retrieved: {job_count}. "
                    "--drain waits for them, --force removes them"
                )
        except UnreachableError as error:
            if not force:
                raise UnreachableError(
                    f"{error}; cannot determine whether jobs are running. --force removes the "
                    "pool anyway"
                ) from error

    def _remove_all(self) -> None:
        try:
            self._pool_query.remove_all()
        except PreconditionError:
            # Some belong to other identities: only root on the manager may remove these.
            command = ["condor_rm", "-all", "-reason", "the pool is taken down"]
            run_in_holder(self._swarm, self._pool, command)

    def wait_for_stable_slots(self) -> None:
        """Wait up to two minutes until every running job is on an advertised slot.

        The schedd counts a job as running from the moment it contacts a slot. If the manager
        stops at that moment and the slot disappears, the new manager does not run the job again
        before its lease has expired.
        """

        def jobs_without_slot() -> set[str]:
            jobs = self._pool_query.running_ids() - {slot.job for slot in self._pool_query.slots()}
            if jobs:
                self._waiter.report(
                    f"waiting for the slots of running jobs: {', '.join(sorted(jobs))}"
                )
            return jobs

        with contextlib.suppress(PreconditionError):
            self._waiter.poll_until(
                jobs_without_slot, lambda jobs: not jobs, STABLE_SLOTS_TIMEOUT_S
            )

    def _count_unfinished(self) -> int:
        job_count = self._pool_query.count_unfinished()
        if job_count:
            running = sorted(slot.job for slot in self._pool_query.slots() if slot.job)
            suffix = f"; running: {', '.join(running)}" if running else ""
            self._waiter.report(
                "waiting for jobs to end and for their outputs to be retrieved: "
                f"{job_count}, including held jobs{suffix}"
            )
        return job_count


def tear_down(pool: Pool, swarm: Swarm, waiter: Waiter, progress: Callable[[str], None]) -> None:
    """Remove services, secrets, networks and volumes; report the nodes that were unreachable."""
    services = waiter.retry_while_unreachable(lambda: swarm.services(pool.name))
    stack = Stack(pool=pool, image="unused", node_id="unused")
    if services:
        further = {pool.autoscaler, pool.observer, pool.prometheus, pool.grafana}
        executors = sorted(set(services) - set(pool.manager_services) - further)
        names = [*executors, *sorted(set(services) - set(executors))]
        progress(f"removing {', '.join(names)}")
        # The autoscaler first: it would start executors again.
        waiter.retry_while_unreachable(partial(swarm.remove_services, [pool.autoscaler]))
        # HTCondor's daemons look for the collector's name, ten seconds each time, if it is gone:
        # executors stop while they can still tell it.
        _stop(pool, executors, swarm, waiter, EXECUTOR_STOP_TIMEOUT_S)
        if pool.spool is not None:
            managers = [name for name in pool.manager_services if name in services]
            _stop(pool, managers, swarm, waiter, MANAGER_STOP_TIMEOUT_S)
        waiter.retry_while_unreachable(partial(swarm.remove_services, names))
        for name in names:
            log.info("Service removed", service=name, reason="the pool is removed")
    progress("waiting for the containers to stop")
    volumes = [stack.spool_volume, stack.scratch_volume]
    monitoring_volumes = monitoring_specs.volumes(stack)
    # Swarm releases networks and volumes a moment after the last task.
    waiter.retry_while_refused(
        lambda: swarm.remove_pool_resources(pool.name, [*volumes, *monitoring_volumes]),
        REMOVAL_TIMEOUT_S,
    )
    if pool.spool is not None and services:
        _remove_queue(pool, pool.spool, next(iter(services.values())).image, swarm, progress)
    if pool.prometheus in services:
        volumes += monitoring_volumes
    if services and swarm.docker_engine().nodes > 1:
        image = next(iter(services.values())).image
        unreachable = swarm.remove_volumes(pool.name, image, volumes)
        if unreachable:
            hosts = ", ".join(unreachable)
            log.warning("Volumes not removed", pool=pool.name, nodes=hosts)
            progress(
                f"could not remove the pool's volumes on {hosts}: run `docker volume rm "
                f"{' '.join(volumes)}` there"
            )


def _remove_queue(
    pool: Pool, spool: str, image: str, swarm: Swarm, progress: Callable[[str], None]
) -> None:
    """Empty the shared spool, on the first of the managers' nodes that does it.

    Managers that Swarm does not reach any more see it and end. What one of them that hangs leaves
    has to be removed by hand.
    """
    nodes = known_manager_nodes(pool, swarm.docker_engine(), swarm.nodes())
    problem = "no node of a manager is up"
    for node in (node for node in nodes if node.ready):
        problem = swarm.remove_queue(pool.name, image, spool, node.id)
        if not problem:
            break
    if problem:
        log.warning("Spool not removed", pool=pool.name, path=spool, reason=problem)
        progress(
            f"could not remove the queue in {spool}: {problem}. Remove the files in that directory "
            "when no manager runs any more"
        )
        return
    down = ", ".join(node.name for node in nodes if not node.ready)
    if down:
        log.warning("Node of a manager is down", pool=pool.name, nodes=down)
        progress(
            f"{down} did not answer: a manager that still runs there ends when it reaches {spool}, "
            "which is empty now"
        )


def _stop(pool: Pool, services: list[str], swarm: Swarm, waiter: Waiter, timeout_s: float) -> None:
    """Scale services to 0, and wait until their tasks have ended on all nodes that are up."""

    def running() -> list[str]:
        tasks = [
            task
            for task in swarm.tasks(pool.name)
            if task.service in services and not (task.stopped or task.lost)
        ]
        if tasks:
            names = sorted({f"{task.service} on {task.node}" for task in tasks if task.node})
            waiter.report(f"waiting for {', '.join(names)} to stop")
        return [task.id for task in tasks]

    with contextlib.suppress(PreconditionError):
        for service in services:
            waiter.retry_while_unreachable(partial(swarm.scale_service, service, 0))
        waiter.poll_until(running, lambda tasks: not tasks, timeout_s)
