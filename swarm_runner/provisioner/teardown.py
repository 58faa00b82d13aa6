"""Removes a pool: its jobs first, then its services and everything created for them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial

from swarm_runner.condor.pool_query import PoolQueryPort
from swarm_runner.errors import PreconditionError, UnreachableError
from swarm_runner.model.pool import Pool
from swarm_runner.provisioner.waiter import Waiter
from swarm_runner.structured_log import get_logger
from swarm_runner.swarm import monitoring_specs
from swarm_runner.swarm.ports import Swarm
from swarm_runner.swarm.specs import Stack

log = get_logger(__name__)

STABLE_SLOTS_TIMEOUT_S = 120.0
EXECUTOR_STOP_TIMEOUT_S = 60.0
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
            self._swarm.exec_in_service(self._pool.service(), command)

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
        executors = sorted(set(services) - {pool.service()} - further)
        names = [*executors, *sorted(set(services) - set(executors))]
        progress(f"removing {', '.join(names)}")
        # The autoscaler first: it would start executors again.
        waiter.retry_while_unreachable(partial(swarm.remove_services, [pool.autoscaler]))
        _stop_executors(pool, executors, swarm, waiter)
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


def _stop_executors(pool: Pool, services: list[str], swarm: Swarm, waiter: Waiter) -> None:
    """Stop the executors while they can tell the collector that they stop.

    HTCondor's daemons look for the collector's name, ten seconds each time, if it is gone.
    """

    def running() -> list[str]:
        return [
            task.id
            for task in swarm.tasks(pool.name)
            if task.service in services and not (task.stopped or task.lost)
        ]

    with contextlib.suppress(PreconditionError):
        for service in services:
            waiter.retry_while_unreachable(partial(swarm.scale_service, service, 0))
        waiter.poll_until(running, lambda tasks: not tasks, EXECUTOR_STOP_TIMEOUT_S)
