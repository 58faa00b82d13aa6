"""Checks that a command makes before it changes anything."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from swarm_runner.errors import Diagnostic, InvalidInputError, PreconditionError
from swarm_runner.model.pool import Pool
from swarm_runner.model.pool_status import DockerEngine, ServiceState
from swarm_runner.provisioner.nodes import MINIMUM_ENGINE, is_too_old
from swarm_runner.swarm.specs import SPEC_DIGEST_LABEL, Stack

# Variables of the manager's environment that running jobs and their executors depend on.
_IMMUTABLE_SETTINGS = {
    "SWARM_RUNNER_PORT": "the port",
    "SWARM_RUNNER_USER_NAME": "the job user",
    "SWARM_RUNNER_USER_UID": "the job user's uid",
    "SWARM_RUNNER_USER_GID": "the job user's gid",
}
_LOOPBACK = ("127.", "localhost", "::1")


class PermanentError(PreconditionError):
    """A precondition that waiting cannot satisfy."""


def check_host(pool: Pool, docker_engine: DockerEngine) -> None:
    """Raise InvalidInputError when pool.host is a loopback address and the engine is remote."""
    host = next((h for h, _ in pool.manager_addresses if h.startswith(_LOOPBACK)), None)
    if docker_engine.host and not docker_engine.host.startswith(_LOOPBACK) and host is not None:
        message = (
            f"is {host}, which is this host, but the manager runs on the node of the engine "
            f"at {docker_engine.host}; set it to the address at which clients reach that node"
        )
        path = "pool.host" if pool.managers == 1 else "pool.hosts"
        raise InvalidInputError([Diagnostic(message, path=path)])


def check_engine(docker_engine: DockerEngine) -> None:
    """Raise PreconditionError when the engine or its kernel cannot carry a pool."""
    if is_too_old(docker_engine.version):
        raise PreconditionError(
            f"engine {docker_engine.name} is Docker {docker_engine.version}, and a pool needs "
            f"{MINIMUM_ENGINE} or newer: upgrade the engine"
        )
    if docker_engine.rootless:
        raise PreconditionError(
            f"engine {docker_engine.name} runs without root (rootless mode), where no container "
            "can join Swarm's overlay networks: use an engine that root runs"
        )
    if not docker_engine.memory_limit:
        raise PreconditionError(
            f"the kernel of {docker_engine.name} does not limit the memory of containers, so that "
            "a job could use all memory of its node: boot it with the parameters "
            "`cgroup_enable=memory swapaccount=1`"
        )


def check_image(pool: Pool, docker_engine: DockerEngine, image: str) -> None:
    """Raise PreconditionError when only this engine has the image, and the Swarm has others."""
    if pool.image is None and docker_engine.nodes > 1:
        raise PreconditionError(
            f"of the Swarm's {docker_engine.nodes} nodes only {docker_engine.name} has the image "
            f"{image}. Push it to a registry that every node reaches "
            f"(`docker tag {image} REGISTRY/{image}`, `docker push REGISTRY/{image}`) and set "
            "pool.image to its name there"
        )


def check_counts(pool: Pool, replicas: Mapping[str, int]) -> None:
    """Raise InvalidInputError that names every unknown class and every count out of range."""
    diagnostics = []
    for name, count in replicas.items():
        capacity_class = pool.classes.get(name)
        maximum = capacity_class.max_replicas if capacity_class else None
        if capacity_class is None:
            diagnostics.append(
                Diagnostic(
                    f"is not a class of pool {pool.name}; its classes are "
                    f"{pool.describe_classes()}",
                    path=name,
                )
            )
        elif count < 0:
            diagnostics.append(Diagnostic(f"must be at least 0, not {count}", path=name))
        elif maximum is not None and count > maximum:
            diagnostics.append(
                Diagnostic(f"must be at most {maximum} (max_replicas), not {count}", path=name)
            )
    if diagnostics:
        raise InvalidInputError(diagnostics)


def check_managed(pool: Pool, services: Iterable[ServiceState]) -> None:
    """Raise PreconditionError when something else than `pool up` created one of the services."""
    for service in services:
        if pool.services is not None or SPEC_DIGEST_LABEL not in service.labels:
            raise PreconditionError(
                f"service {service.name} was not created by `pool up`, but by `docker stack "
                "deploy` or a similar tool: change or remove it with that tool. With pool.services "
                "in job_conf, `pool up` joins such a pool, and `pool status`, `pool scale` and "
                "submitting jobs work with it"
            )


def check_services_exist(
    pool: Pool, existing: Collection[str], classes: Iterable[str] | None = None
) -> None:
    """Raise PreconditionError when services are missing from `existing`, a set of service names.

    Checks every service of the pool, or only those of `classes`.
    """
    names: list[str | None] = [None, *pool.classes] if classes is None else [*classes]
    missing = [service for name in names if (service := pool.service(name)) not in existing]
    if missing:
        noun, pronoun = ("service", "it") if len(missing) == 1 else ("services", "them")
        verb = "is" if len(missing) == 1 else "are"
        raise PreconditionError(
            f"{noun} {', '.join(missing)} {verb} missing; run `swarm-runner pool up` to create "
            f"{pronoun}"
        )


def check_immutable_settings(pool: Pool, existing: Mapping[str, ServiceState]) -> None:
    """Raise PreconditionError when a setting changed that running jobs depend on."""
    spec = Stack(pool=pool, image="unused", node_id="unused").central_manager()
    environment = existing[spec.name].environment
    changes = [
        f"{setting} was {environment[name]} and is now {spec.environment[name]}"
        for name, setting in _IMMUTABLE_SETTINGS.items()
        if name in environment and environment[name] != spec.environment[name]
    ]
    former, current = (e.get("SWARM_RUNNER_SPOOL", "") for e in (environment, spec.environment))
    if former != current:
        own = "a volume of one node"
        raise PreconditionError(
            f"the queue is in {former or own}, and by the configuration in {current or own}: "
            "nothing copies it while the pool runs. Run `pool down --drain`, then `pool up`; or "
            "take the queue along with `pool backup FILE`, `pool down --force`, "
            "`pool restore FILE` and `pool up`"
        )
    if changes:
        raise PreconditionError(
            f"{'; '.join(changes)}: the change would lose running jobs. Run `pool down --drain`, "
            "then `pool up`, to create the pool again"
        )


def network_advice(pool: Pool) -> str:
    """Return what to do when the manager runs and cannot be reached over the network."""
    if pool.network.endpoint_mode == "vip":
        return (
            "Virtual addresses and the routing mesh need IP_VS in the kernel of every node "
            "(`modprobe ip_vs`). Load it, or set pool.network to "
            "{endpoint_mode: dnsrr, publish: host}, which works without it"
        )
    hosts = ", ".join(host for host, _ in pool.manager_addresses)
    setting = "pool.host" if pool.managers == 1 else "pool.hosts"
    return (
        f"Check that {hosts} ({setting}) is an address of the manager's node and that no "
        f"firewall blocks port {pool.port} (pool.port)"
    )
