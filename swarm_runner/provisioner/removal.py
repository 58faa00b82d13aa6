"""Taking a pool's services away, and all that was made for them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from swarm_runner.model.pool import Pool
from swarm_runner.model.stack import Stack
from swarm_runner.provisioner.waiting import Waiter
from swarm_runner.swarm.port import Swarm

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
