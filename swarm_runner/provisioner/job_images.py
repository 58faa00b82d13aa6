"""The images of jobs on the nodes of a pool: pull them before they are needed, or remove them.

An executor of each node does it (`swarm/image/node_images.py`), as its gateway would: with the
pool's logins, one pull at a time of each image, and without removing what a container uses.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pydantic import Field

from swarm_runner.errors import InvalidInputError, PreconditionError
from swarm_runner.model.pool import Pool
from swarm_runner.model.text import FrozenModel
from swarm_runner.structured_log import get_logger
from swarm_runner.swarm.ports import Swarm
from swarm_runner.swarm.specs import Stack

log = get_logger(__name__)
PULL_TIMEOUT_S, PRUNE_TIMEOUT_S = 3600.0, 300.0


class NodeImage(FrozenModel):
    """An image that a node pulled, in `seconds`, or removed, which freed `mb` MB."""

    name: str
    seconds: float | None = None
    mb: int | None = None


class NodeImages(FrozenModel):
    """What one node did. `problems` has a message for each image that it could not pull."""

    node: str
    images: tuple[NodeImage, ...] = ()
    problems: tuple[str, ...] = Field((), description="for each image that could not be pulled")


def pull_images(
    pool: Pool, swarm: Swarm, names: Sequence[str], timeout_s: float = PULL_TIMEOUT_S
) -> list[NodeImages]:
    """Pull images on every node that has an executor, and return what each node did.

    Raises InvalidInputError if there is no name, and PreconditionError if the pool does not exist.
    """
    if not names:
        raise InvalidInputError("name at least one image to pull")
    return _run(pool, swarm, ("pull", *names), timeout_s)


def prune_images(
    pool: Pool, swarm: Swarm, unused_s: float, timeout_s: float = PRUNE_TIMEOUT_S
) -> list[NodeImages]:
    """Remove the images that executors pulled and that no job has used for `unused_s` seconds.

    Raises PreconditionError if the pool does not exist.
    """
    return _run(pool, swarm, ("prune", str(unused_s)), timeout_s)


def _run(pool: Pool, swarm: Swarm, arguments: Sequence[str], timeout_s: float) -> list[NodeImages]:
    services = swarm.services(pool.name)
    names = [pool.service(name) for name in pool.classes if pool.service(name) in services]
    if not names:
        raise PreconditionError(
            f"there is no pool {pool.name} on this Swarm; run `swarm-runner pool up` to create it"
        )
    stack = Stack(pool=pool, image=services[names[0]].image, node_id="unused")
    result = swarm.manage_job_images(stack, arguments, timeout_s)
    reports = [NodeImages.model_validate(_parse(line)) for line in result.lines]
    for host in result.unfinished_hosts:
        problem = f"did not end within {timeout_s:.0f} s; the node may be drained or down"
        reports.append(NodeImages(node=host, problems=(problem,)))
    for report in reports:
        log.info(
            "Images managed",
            command=arguments[0],
            node=report.node,
            images=len(report.images),
            problems=len(report.problems),
        )
    return sorted(reports, key=lambda report: report.node)


def _parse(line: str) -> Any:
    return json.loads(line)
