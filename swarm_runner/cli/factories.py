"""Creates the objects that commands work with: access point, Swarm, runner, provisioner.

Commands call these functions through the module, so that tests can replace them with fakes.
Creating an object does not connect to anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from swarm_runner.model.pool import Destination, Pool

if TYPE_CHECKING:
    from swarm_runner.condor.pool_query import PoolQuery
    from swarm_runner.provisioner import Autoscaler, Provisioner
    from swarm_runner.runner import Runner
    from swarm_runner.swarm.ports import Swarm


def access_point(destination: Destination) -> PoolQuery:
    """Return the access point of a destination's pool."""
    from swarm_runner.condor.pool_query import PoolQuery

    return PoolQuery.connect(destination.pool, destination.token_directory)


def swarm(pool: Pool) -> Swarm:
    """Return the Swarm that DOCKER_HOST or the docker context selects."""
    from swarm_runner.swarm.client import DockerSwarm

    return DockerSwarm(external_services=pool.external_services())


def runner(destination: Destination, name: str) -> Runner:
    """Return a runner; it starts when its context is entered."""
    from swarm_runner.runner import Runner

    return Runner(destination, name=name, access_point=access_point(destination))


def provisioner(destination: Destination, progress: Callable[[str], None]) -> Provisioner:
    """Return the provisioner of a destination's pool."""
    from swarm_runner.condor.tokens import token_file
    from swarm_runner.provisioner import Provisioner

    pool = destination.pool
    token = token_file(pool.name, destination.token_directory)
    return Provisioner(pool, swarm(pool), access_point(destination), token, progress)


def autoscaler(destination: Destination, *, dry_run: bool) -> Autoscaler:
    """Return the autoscaler of a destination's pool, with the installed plugins' policies."""
    from swarm_runner.hooks.manager import Hooks
    from swarm_runner.provisioner import Autoscaler

    pool = destination.pool
    return Autoscaler(pool, swarm(pool), access_point(destination), Hooks(), dry_run=dry_run)
