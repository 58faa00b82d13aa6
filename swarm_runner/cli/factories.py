"""Creates the objects that commands work with: access point, Swarm, runner, provisioner.

Commands call these functions through the module, so that tests can replace them with fakes.
Creating an object does not connect to anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from swarm_runner.condor.daemons import Daemon, TokenClaims
    from swarm_runner.condor.pool_query import PoolQuery, PoolQueryPort
    from swarm_runner.condor.pool_query_process import PoolQueryProcess
    from swarm_runner.condor.token_check import TokenCheck
    from swarm_runner.metrics.pool_metrics import PoolMetrics
    from swarm_runner.model.pool import Destination, Pool
    from swarm_runner.provisioner import Autoscaler, Provisioner
    from swarm_runner.provisioner.autoscaler import AutoscalerRound
    from swarm_runner.runner import Runner
    from swarm_runner.swarm.engine_facts import EngineFacts
    from swarm_runner.swarm.job_containers import JobContainers
    from swarm_runner.swarm.ports import Swarm


def access_point(destination: Destination) -> PoolQuery:
    """Return the access point of a destination's pool."""
    from swarm_runner.condor.pool_query import PoolQuery

    return PoolQuery.connect(destination.pool, destination.token_directory)


def swarm(pool: Pool) -> Swarm:
    """Return the Swarm that DOCKER_HOST or the docker context selects."""
    from swarm_runner.swarm.client import DockerSwarm

    return DockerSwarm(external_services=pool.external_services())


def job_containers(destination: Destination) -> JobContainers:
    """Return the containers of a pool's running jobs, on the engine that `swarm` uses."""
    from swarm_runner.condor.tokens import token_file
    from swarm_runner.swarm.job_containers import JobContainers

    pool = destination.pool.name
    return JobContainers(pool, token_file(pool, destination.token_directory))


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


def autoscaler(
    destination: Destination,
    *,
    dry_run: bool,
    on_round: Callable[[AutoscalerRound], None] | None = None,
    pool_query: PoolQueryPort | None = None,
) -> Autoscaler:
    """Return the autoscaler of a destination's pool, with the installed plugins' policies.

    `pool_query` replaces the destination's access point.
    """
    from swarm_runner.hooks.manager import Hooks
    from swarm_runner.provisioner import Autoscaler

    pool = destination.pool
    return Autoscaler(
        pool,
        swarm(pool),
        access_point(destination) if pool_query is None else pool_query,
        Hooks(),
        dry_run=dry_run,
        on_round=on_round,
    )


def pool_metrics(destination: Destination) -> PoolMetrics:
    """Return the metrics of a destination's pool."""
    from swarm_runner.condor.daemons import read_claims
    from swarm_runner.condor.tokens import token_file
    from swarm_runner.metrics.pool_metrics import PoolMetrics

    pool = destination.pool
    claims = read_claims(token_file(pool.name, destination.token_directory))
    expires_s = claims.expires_s if claims else None
    return PoolMetrics(pool, access_point(destination).schedd_statistics, expires_s)


def pool_query_process(destination: Destination, timeout_s: float) -> PoolQueryProcess:
    """Return the access point of a destination's pool in a process of its own; close it.

    A call that takes longer than `timeout_s` raises UnreachableError.
    """
    from swarm_runner.condor.pool_query_process import PoolQueryProcess

    return PoolQueryProcess.connect(destination.pool, destination.token_directory, timeout_s)


def token_check(destination: Destination) -> Callable[[str], TokenCheck]:
    """Return what asks a destination's pool whether it accepts a token for reading."""
    from functools import partial

    from swarm_runner.condor.token_check import check_token

    return partial(check_token, destination.pool)


def engine_facts() -> EngineFacts:
    """Return what `doctor` checks of the Docker engine. Raises UnreachableError."""
    from swarm_runner.swarm.engine_facts import read_engine

    return read_engine()


def pool_image(destination: Destination | None) -> str:
    """Return the reference of the pool image that `pool up` uses."""
    from swarm_runner.swarm.engine_facts import default_pool_image

    configured = destination.pool.image if destination is not None else None
    return configured or default_pool_image()


def token(destination: Destination, now_s: float) -> tuple[str | None, TokenClaims | None]:
    """Return why the token for a pool cannot be used, or None, and the token's claims."""
    from swarm_runner.condor.daemons import read_claims
    from swarm_runner.condor.tokens import token_file, token_problem

    file = token_file(destination.pool.name, destination.token_directory)
    return token_problem(file, now_s), read_claims(file)


def daemons(destination: Destination) -> list[Daemon]:
    """Return the daemons of a destination's pool. Raises UnreachableError."""
    from swarm_runner.condor.daemons import read_daemons

    return read_daemons(destination.pool, destination.token_directory)
