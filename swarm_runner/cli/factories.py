"""The one place where commands get hold of an access point, a Swarm, and who works with them.

Tests put fakes in place of these functions; commands call them through this module.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from swarm_runner.model.pool import Destination, Pool

if TYPE_CHECKING:
    from swarm_runner.condor.access_point import AccessPoint
    from swarm_runner.provisioner import Autoscaler, Provisioner
    from swarm_runner.runner import Runner
    from swarm_runner.swarm.ports import Swarm


def access_point(destination: Destination) -> AccessPoint:
    """The access point of a destination's pool. Nothing is sent yet."""
    from swarm_runner.condor.access_point import AccessPoint

    return AccessPoint.connect(destination.pool, destination.token_directory)


def swarm(pool: Pool) -> Swarm:
    """The Swarm that DOCKER_HOST or the docker context names. Nothing is sent yet."""
    from swarm_runner.swarm.client import DockerSwarm

    return DockerSwarm(external_services=pool.external_services())


def runner(destination: Destination, name: str) -> Runner:
    """A runner of that name; enter it to use it."""
    from swarm_runner.runner import Runner

    return Runner(destination, name=name, access_point=access_point(destination))


def provisioner(destination: Destination, progress: Callable[[str], None]) -> Provisioner:
    """What brings up, scales and takes down a destination's pool."""
    from swarm_runner.condor.connection import token_file
    from swarm_runner.provisioner import Provisioner

    pool = destination.pool
    token = token_file(pool.name, destination.token_directory)
    return Provisioner(pool, swarm(pool), access_point(destination), token, progress)


def autoscaler(destination: Destination, *, dry_run: bool) -> Autoscaler:
    """What sizes a destination's pool, with the installed plugins' policies."""
    from swarm_runner.hooks.manager import plugin_manager
    from swarm_runner.provisioner import Autoscaler

    view = access_point(destination)
    return Autoscaler(
        destination.pool, swarm(destination.pool), view, plugin_manager(), dry_run=dry_run
    )
