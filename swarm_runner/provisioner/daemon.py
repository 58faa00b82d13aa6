"""The autoscaler as a service of the pool."""

from __future__ import annotations

from collections.abc import Callable

from swarm_runner.model.pool import Pool
from swarm_runner.model.stack import SPEC_DIGEST_LABEL, Stack
from swarm_runner.provisioner.tokens import Tokens
from swarm_runner.provisioner.waiting import Waiter
from swarm_runner.swarm.port import Swarm

STOP_TIMEOUT_S = 120.0


def ensure_autoscaler(
    stack: Stack,
    swarm: Swarm,
    tokens: Tokens,
    progress: Callable[[str], None],
    waiter: Waiter,
    enabled: bool | None,
) -> None:
    """Make the service, or bring it to the stack's configuration, or remove it.

    None leaves it to whether there is one. Raises RefusedError when its image cannot be built.
    """
    name = stack.pool.autoscaler
    present = swarm.services(stack.pool.name).get(name)
    if enabled is False or (enabled is None and present is None):
        if present:
            progress(f"removing {name}")
            _stop(stack.pool, swarm, waiter)
        return
    image = swarm.autoscaler_image(stack.image, progress)
    tokens.ensure_autoscaler_token()
    wish = stack.autoscaler(image, swarm.docker_engine().node_id)
    if present is None:
        progress(f"making service {name}")
        swarm.create_service(wish)
    elif present.labels.get(SPEC_DIGEST_LABEL) != wish.digest():
        progress(f"updating service {name}")
        swarm.update_service(wish)


def _stop(pool: Pool, swarm: Swarm, waiter: Waiter) -> None:
    """Remove the service when its task has ended: what is scaled afterwards stays as it is."""
    swarm.scale_service(pool.autoscaler, 0)

    def left() -> bool:
        waiter.report("waiting for the autoscaler to end")
        return any(t.service == pool.autoscaler and not t.stopped for t in swarm.tasks(pool.name))

    waiter.poll_until(left, lambda there: not there, STOP_TIMEOUT_S)
    swarm.remove_services([pool.autoscaler])
