"""The autoscaler as a service of the pool."""

from __future__ import annotations

from collections.abc import Callable

from swarm_runner.model.pool import Pool
from swarm_runner.model.stack import WISH_LABEL, Stack
from swarm_runner.provisioner.tokens import Tokens
from swarm_runner.provisioner.waiting import Waiting
from swarm_runner.swarm.port import Swarm

END_LIMIT_S = 120.0


def keep_autoscaler(
    stack: Stack,
    swarm: Swarm,
    tokens: Tokens,
    progress: Callable[[str], None],
    waiting: Waiting,
    wanted: bool | None,
) -> None:
    """Make the service, or bring it to the stack's configuration, or remove it.

    None leaves it to whether there is one. Raises RefusedError when its image cannot be built.
    """
    name = stack.pool.autoscaler
    present = swarm.services(stack.pool.name).get(name)
    if wanted is False or (wanted is None and present is None):
        if present:
            progress(f"removing {name}")
            _end(stack.pool, swarm, waiting)
        return
    image = swarm.autoscaler_image(stack.image, progress)
    tokens.make_autoscaler_token()
    wish = stack.autoscaler(image, swarm.engine().node_id)
    if present is None:
        progress(f"making service {name}")
        swarm.create_service(wish)
    elif present.labels.get(WISH_LABEL) != wish.digest():
        progress(f"updating service {name}")
        swarm.update_service(wish)


def _end(pool: Pool, swarm: Swarm, waiting: Waiting) -> None:
    """Remove the service when its task has ended: what is scaled afterwards stays as it is."""
    swarm.scale_service(pool.autoscaler, 0)

    def left() -> bool:
        waiting.say("waiting for the autoscaler to end")
        return any(t.service == pool.autoscaler and not t.gone for t in swarm.tasks(pool.name))

    waiting.until(left, lambda there: not there, END_LIMIT_S)
    swarm.remove_services([pool.autoscaler])
