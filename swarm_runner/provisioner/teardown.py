"""Taking a pool's services away, and all that was made for them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial

from swarm_runner.condor.ports import PoolQueryPort
from swarm_runner.errors import PreconditionError, UnreachableError
from swarm_runner.model.pool import Pool
from swarm_runner.provisioner.waiter import Waiter
from swarm_runner.swarm.ports import Swarm
from swarm_runner.swarm.specs import Stack

STABLE_SLOTS_TIMEOUT_S = 120.0


class PoolJobs:
    """Waits for the jobs of a pool, or removes them."""

    def __init__(
        self, pool_query: PoolQueryPort, waiter: Waiter, progress: Callable[[str], None]
    ) -> None:
        self._pool_query = pool_query
        self._waiter = waiter
        self._progress = progress

    def ensure_empty_queue(self, *, drain: bool, force: bool) -> None:
        """See to it that no job is in the queue any more.

        Raises RefusedError while there are some, unless `drain` waits for them or `force` removes
        them; OutOfReachError when nobody knows, unless `force` takes the risk.
        """
        try:
            waiting = self._pool_query.count_unfinished()
            if force:
                if waiting:
                    self._progress(f"removing {waiting} jobs")
                    self._pool_query.remove_all()
            elif drain:
                self._waiter.poll_until(self._count_unfinished, lambda left: left == 0, None)
            elif waiting:
                raise PreconditionError(
                    f"{waiting} jobs have not ended, or their outputs were not fetched; --drain "
                    "waits for them, --force removes them"
                )
        except UnreachableError as error:
            if not force:
                raise UnreachableError(
                    f"{error}; cannot tell whether jobs run. --force takes the pool down anyway"
                ) from error

    def wait_for_stable_slots(self) -> None:
        """Wait, at most two minutes, until each job that runs is on a slot that is there.

        A job is "running" from the moment that the schedd reaches for a slot. A manager that
        ends just then, while the slot is going, waits for that job's lease to end afterwards.
        """

        def astray() -> set[str]:
            jobs = self._pool_query.running_ids() - {slot.job for slot in self._pool_query.slots()}
            if jobs:
                self._waiter.report(
                    f"waiting until it is clear where {', '.join(sorted(jobs))} run"
                )
            return jobs

        with contextlib.suppress(PreconditionError):
            self._waiter.poll_until(astray, lambda jobs: not jobs, STABLE_SLOTS_TIMEOUT_S)

    def _count_unfinished(self) -> int:
        left = self._pool_query.count_unfinished()
        if left:
            running = sorted(slot.job for slot in self._pool_query.slots() if slot.job)
            named = f"; {', '.join(running)} run" if running else ""
            self._waiter.report(
                f"waiting until {left} jobs have ended, held ones too, and are fetched{named}"
            )
        return left


REMOVAL_TIMEOUT_S = 180.0


def tear_down(pool: Pool, swarm: Swarm, waiter: Waiter, progress: Callable[[str], None]) -> None:
    """Remove services, secrets, networks and volumes; what cannot be reached is told."""
    services = waiter.retry_while_unreachable(lambda: swarm.services(pool.name))
    stack = Stack(pool=pool, image="unused", node_id="unused")
    if services:
        # Executors first: they say goodbye to a collector that is still there.
        executors = sorted(set(services) - {pool.service()})
        progress(f"removing {', '.join([*executors, pool.service()])}")
        for names in (executors, [pool.service()]):
            waiter.retry_while_unreachable(partial(swarm.remove_services, names))
    progress("waiting for the containers to end")
    volumes = [stack.spool_volume, stack.scratch_volume]
    # Swarm lets go of networks and volumes a moment after the last task.
    waiter.retry_while_refused(
        lambda: swarm.remove_pool_resources(pool.name, volumes), REMOVAL_TIMEOUT_S
    )
    if services and swarm.docker_engine().nodes > 1:
        image = next(iter(services.values())).image
        left = swarm.remove_volumes(pool.name, image, volumes)
        if left:
            progress(
                f"{', '.join(left)} could not be asked: `docker volume rm {' '.join(volumes)}` "
                "there removes what is left of the pool"
            )
