"""What cannot work is refused before anything is made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from swarm_runner.errors import Diagnostic, InvalidInputError, PreconditionError
from swarm_runner.model.pool import Pool
from swarm_runner.model.pool_status import DockerEngine, ServiceState
from swarm_runner.swarm.specs import SPEC_DIGEST_LABEL, Stack

# Of the manager's environment: what running jobs and their executors rely on.
_IMMUTABLE_SETTINGS = {
    "SWARM_RUNNER_PORT": "the port",
    "SWARM_RUNNER_USER_NAME": "the job user",
    "SWARM_RUNNER_USER_UID": "the job user's uid",
    "SWARM_RUNNER_USER_GID": "the job user's gid",
}
_LOOPBACK = ("127.", "localhost", "::1")


def check_host(pool: Pool, docker_engine: DockerEngine) -> None:
    """Raise InvalidInputError when the pool's manager would be far away and called local."""
    if (
        docker_engine.host
        and not docker_engine.host.startswith(_LOOPBACK)
        and pool.host.startswith(_LOOPBACK)
    ):
        message = (
            f"is {pool.host}, this machine, but the manager will run beside the engine at "
            f"{docker_engine.host}; name the address at which clients reach that node"
        )
        raise InvalidInputError([Diagnostic(message, path="pool.host")])


def check_image(pool: Pool, docker_engine: DockerEngine, image: str) -> None:
    """Raise RefusedError when other nodes would have no way to an image that was built here."""
    if pool.image is None and docker_engine.nodes > 1:
        raise PreconditionError(
            f"the Swarm has {docker_engine.nodes} nodes, and {docker_engine.name} alone has {image}. "
            f"Push it to a registry that all of them reach (`docker tag {image} REGISTRY/{image}`, "
            f"`docker push REGISTRY/{image}`) and name it as pool.image"
        )


def check_counts(pool: Pool, replicas: Mapping[str, int]) -> None:
    """Raise InvalidInputError with every class that is unknown and every count out of range."""
    faults = []
    for name, count in replicas.items():
        shape = pool.classes.get(name)
        most = shape.max_replicas if shape else None
        if shape is None:
            faults.append(
                Diagnostic(f"no such class; the pool has {pool.describe_classes()}", source=name)
            )
        elif count < 0:
            faults.append(Diagnostic(f"{count} executors cannot be; 0 is the least", source=name))
        elif most is not None and count > most:
            faults.append(Diagnostic(f"{count} is above max_replicas {most}", source=name))
    if faults:
        raise InvalidInputError(faults)


def check_managed(pool: Pool, services: Iterable[ServiceState]) -> None:
    """Raise RefusedError when `pool up` did not make the services."""
    for service in services:
        if pool.services is not None or SPEC_DIGEST_LABEL not in service.labels:
            raise PreconditionError(
                f"{service.name} was not made by `pool up`, but by `docker stack deploy` or the "
                "like, which also changes and removes it. With pool.services in job_conf `pool up` "
                "enters such a pool, and `status`, `scale` and submitting work on it"
            )


def check_services_exist(
    pool: Pool, existing: Mapping[str, ServiceState], classes: Iterable[str] | None = None
) -> None:
    """Raise RefusedError when services of the pool, or of these classes, are missing."""
    names: list[str | None] = [None, *pool.classes] if classes is None else [*classes]
    wanted = [pool.service(name) for name in names]
    missing = [name for name in wanted if name not in existing]
    if missing:
        raise PreconditionError(
            f"service {', '.join(missing)} is missing; `swarm-runner pool up` makes it"
        )


def check_immutable_settings(pool: Pool, existing: Mapping[str, ServiceState]) -> None:
    """Raise RefusedError when a setting changed by which running jobs are reached."""
    wish = Stack(pool=pool, image="unused", node_id="unused").central_manager()
    there = existing[wish.name].environment
    changed = [
        f"{what} was {there[name]} and is {wish.environment[name]} now"
        for name, what in _IMMUTABLE_SETTINGS.items()
        if name in there and there[name] != wish.environment[name]
    ]
    if changed:
        raise PreconditionError(
            f"{'; '.join(changed)}: running jobs would be lost. `pool down --drain` and "
            "`pool up` make the pool anew"
        )


def network_advice(pool: Pool) -> str:
    """What to choose when the manager runs, and no way leads to it."""
    if pool.network.endpoint_mode == "vip":
        return (
            "Virtual addresses and the routing mesh need IP_VS in the kernel of every node "
            "(`modprobe ip_vs`); pool.network: {endpoint_mode: dnsrr, publish: host} needs nothing"
        )
    return (
        f"Does {pool.host} lead to the manager's node, and does a firewall let port {pool.port} "
        "pass? pool.host and pool.port set them"
    )
