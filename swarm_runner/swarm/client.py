"""The `Swarm` port, implemented with docker-py against one Docker engine."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import IO, TYPE_CHECKING, Any

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random,
)

from swarm_runner.errors import ConflictError, PreconditionError
from swarm_runner.model.pool import CENTRAL_MANAGER
from swarm_runner.model.pool_status import (
    AddressSpace,
    DockerEngine,
    ServiceState,
    SwarmNode,
    TaskState,
)
from swarm_runner.structured_log import get_logger
from swarm_runner.swarm import spool_files
from swarm_runner.swarm.engine_api import (
    DEFAULT_ADDRESS_POOLS,
    host_of,
    is_rootless,
    replicas_of,
    service_arguments,
    service_state,
    subnets,
    swarm_node,
    task_state,
    unchanged_arguments,
)
from swarm_runner.swarm.errors import translate_docker_errors
from swarm_runner.swarm.execution import execute
from swarm_runner.swarm.specs import (
    CLASS_LABEL,
    POOL_LABEL,
    QUEUE_LOCK_PROGRAM,
    ServiceSpec,
    Stack,
)

if TYPE_CHECKING:
    import docker

    from swarm_runner.swarm.global_job import GlobalJobResult

log = get_logger(__name__)

INITIALISED_LABEL = "swarm-runner.initialised"
CALL_TIMEOUT_S = 60
MAX_UPDATE_ATTEMPTS = 5
# Runs in a container of the pool image, of any version: none of them needs docker's command for it.
_REMOVE_VOLUMES = """
import sys
import docker
for volume in docker.from_env().api.volumes(filters={"name": sys.argv[1:]})["Volumes"]:
    if volume["Name"] in sys.argv[1:]:
        docker.from_env().api.remove_volume(volume["Name"], force=True)
"""
# An executor has the logins and knows what was pulled. A container that mounted the scratch volume
# instead would keep it from being removed: Swarm leaves the ended containers of a job on the node.
_EXEC_IN_EXECUTOR = """
import sys
import docker
program = "/usr/local/libexec/swarm-runner/node_images.py"
for container in docker.from_env(timeout=3600).containers.list():
    if container.labels.get("com.docker.swarm.service.name") in sys.argv[1].split(","):
        # As swarm_runner.swarm.execution, which says why.
        api = container.client.api
        process = api.exec_create(container.id, ["python3", program, *sys.argv[2:]])["Id"]
        address = f"{api.base_url}/v{api.api_version}/exec/{process}/start"
        response = api.post(address, json={"Detach": False, "Tty": False}, stream=True)
        response.raise_for_status()
        while header := response.raw.read(8):
            stream = sys.stdout if header[0] == 1 else sys.stderr
            stream.buffer.write(response.raw.read(int.from_bytes(header[4:], "big")))
        break
"""


def _label_filter(pool: str) -> dict[str, str]:
    return {"label": f"{POOL_LABEL}={pool}"}


class DockerSwarm:
    """The Swarm of one Docker engine. See `swarm.ports.Swarm` for the methods.

    `client` selects the engine; without it, DOCKER_HOST or the docker context does. The first call
    connects. `external_services` maps the names of services that another tool deployed to their
    capacity class, or to `manager`.
    """

    def __init__(
        self,
        client: docker.DockerClient | None = None,
        external_services: Mapping[str, str] | None = None,
    ) -> None:
        self._injected_client = client
        self._external_services = external_services

    @cached_property
    def _client(self) -> docker.DockerClient:
        from swarm_runner.swarm.connection import connect

        return self._injected_client or connect(CALL_TIMEOUT_S)

    @property
    def _api(self) -> Any:
        return self._client.api

    def docker_engine(self) -> DockerEngine:
        """See `Swarm`."""
        with translate_docker_errors("querying the Docker engine"):
            info = self._client.info()
        swarm = info["Swarm"]
        return DockerEngine(
            name=info["Name"],
            version=info["ServerVersion"],
            swarm=swarm["LocalNodeState"] == "active",
            swarm_manager=bool(swarm.get("ControlAvailable")),
            node_id=swarm.get("NodeID", ""),
            address=swarm.get("NodeAddr", ""),
            nodes=swarm.get("Nodes") or 0,
            managers=swarm.get("Managers") or 0,
            host=host_of(self._api),
            memory_limit=bool(info.get("MemoryLimit", True)),
            rootless=is_rootless(info),
        )

    def nodes(self) -> list[SwarmNode]:
        """See `Swarm`."""
        with translate_docker_errors("listing nodes"):
            nodes = [swarm_node(node) for node in self._api.nodes()]
        return sorted(nodes, key=lambda node: node.name)

    def initialise(self, address: str) -> None:
        """See `Swarm`."""
        with translate_docker_errors("creating a Swarm"):
            self._client.swarm.init(
                advertise_addr=address, listen_addr=address, labels={INITIALISED_LABEL: "true"}
            )
        log.info("Swarm created", address=address)

    def leave(self) -> None:
        """See `Swarm`."""
        with translate_docker_errors("leaving the Swarm"):
            self._client.swarm.leave(force=True)
        log.info("Swarm left")

    def initialised_here(self) -> bool:
        """See `Swarm`."""
        with translate_docker_errors("inspecting the Swarm"):
            spec = self._api.inspect_swarm()["Spec"]
            unused = len(self._api.nodes()) == 1 and not self._api.services()
        return unused and (spec.get("Labels") or {}).get(INITIALISED_LABEL) == "true"

    def pool_image(
        self, image: str | None, progress: Callable[[str], None], *, virtual_machines: bool = False
    ) -> str:
        """See `Swarm`."""
        from swarm_runner.swarm.images import ensure_pool_image

        return ensure_pool_image(self._client, image, progress, virtual_machines=virtual_machines)

    def autoscaler_image(
        self, image: str | None, base: str, progress: Callable[[str], None]
    ) -> str:
        """See `Swarm`."""
        from swarm_runner.swarm.images import ensure_autoscaler_image

        return ensure_autoscaler_image(self._client, image, base, progress)

    def services(self, pool: str) -> dict[str, ServiceState]:
        """See `Swarm`."""
        states = [
            service_state(service, self._class_label(service["Spec"]["Name"]))
            for service in self._services(pool)
        ]
        return {state.name: state for state in states}

    def _services(self, pool: str) -> list[Any]:
        """Return the pool's services, found by their label, or by name if they are external."""
        external = self._external_services
        with translate_docker_errors("listing services"):
            if external is None:
                return list(self._api.services(filters=_label_filter(pool)))
            services = [s for s in self._api.services() if s["Spec"]["Name"] in external]
        for service in services:
            if "Replicated" not in service["Spec"]["Mode"]:
                raise PreconditionError(
                    f"service {service['Spec']['Name']} is not replicated, so it cannot be "
                    "scaled; deploy it with `mode: replicated`"
                )
        return services

    def _class_label(self, service: str) -> dict[str, str]:
        """Return the class label of an external service; other services have their own."""
        capacity_class = (self._external_services or {}).get(service, CENTRAL_MANAGER)
        return {} if capacity_class == CENTRAL_MANAGER else {CLASS_LABEL: capacity_class}

    def tasks(self, pool: str) -> list[TaskState]:
        """See `Swarm`."""
        with translate_docker_errors("listing tasks"):
            names = {service["ID"]: service["Spec"]["Name"] for service in self._services(pool)}
            # An empty filter matches every task.
            tasks = self._api.tasks(filters={"service": list(names)}) if names else []
            nodes = {node["ID"]: node for node in self._api.nodes()}
        return [task_state(task, names, nodes.get(task.get("NodeID", ""))) for task in tasks]

    def create_service(self, spec: ServiceSpec) -> None:
        """See `Swarm`."""
        with translate_docker_errors(f"creating service {spec.name}"):
            self._api.create_service(
                **service_arguments(spec, self._secret_ids(), config_ids=self._config_ids(spec))
            )
        log.debug("Service created", service=spec.name, image=spec.image, replicas=spec.replicas)

    def update_service(self, spec: ServiceSpec, update_delay_s: int = 0) -> None:
        """See `Swarm`."""

        def build_arguments(existing: Mapping[str, Any]) -> dict[str, Any]:
            current = spec.model_copy(update={"replicas": replicas_of(existing["Spec"])})
            configs = self._config_ids(spec)
            return service_arguments(current, self._secret_ids(), update_delay_s, configs)

        self._update(spec.name, "updating", build_arguments)
        log.debug("Service updated", service=spec.name, image=spec.image)

    def service_spec(self, name: str) -> Mapping[str, Any]:
        """See `Swarm`."""
        with translate_docker_errors(f"inspecting service {name}"):
            spec: Mapping[str, Any] = self._api.inspect_service(name)["Spec"]
        return spec

    def restore_service(self, name: str, spec: Mapping[str, Any]) -> None:
        """See `Swarm`."""
        # Swarm's own rollback would also restore the replica count.
        self._update(
            name,
            "restoring",
            lambda existing: unchanged_arguments(spec, replicas_of(existing["Spec"])),
        )
        log.debug("Service restored", service=name)

    def scale_service(self, name: str, replicas: int, version: int | None = None) -> None:
        """See `Swarm`."""
        with translate_docker_errors(f"scaling service {name}"):
            spec = self._api.inspect_service(name)["Spec"]
        if replicas_of(spec) == replicas:
            # Any update makes Swarm forget the tasks that are still stopping.
            return

        def build_arguments(existing: Mapping[str, Any]) -> dict[str, Any]:
            if version not in (None, existing["Version"]["Index"]):
                raise ConflictError(
                    f"scaling service {name}: the service changed since it was read; try again"
                )
            return unchanged_arguments(existing["Spec"], replicas)

        # A caller that names a version must decide anew after a conflict.
        max_attempts = MAX_UPDATE_ATTEMPTS if version is None else 1
        self._update(name, "scaling", build_arguments, max_attempts)
        log.debug("Service scaled", service=name, replicas=replicas)

    def _update(
        self,
        name: str,
        action: str,
        build_arguments: Callable[[Mapping[str, Any]], dict[str, Any]],
        max_attempts: int = MAX_UPDATE_ATTEMPTS,
    ) -> None:
        """Read a service and write it back changed; retry if it changed in between."""

        def attempt() -> None:
            with translate_docker_errors(f"{action} service {name}"):
                existing = self._api.inspect_service(name)
                self._api.update_service(
                    existing["ID"], existing["Version"]["Index"], **build_arguments(existing)
                )

        def log_retry(state: RetryCallState) -> None:
            log.debug("Service update retried", service=name, attempt=state.attempt_number + 1)

        Retrying(
            retry=retry_if_exception_type(ConflictError),
            stop=stop_after_attempt(max_attempts),
            wait=wait_random(0, 0.5),
            before_sleep=log_retry,
            reraise=True,
        )(attempt)

    def remove_services(self, names: Sequence[str]) -> None:
        """See `Swarm`."""
        with translate_docker_errors("removing services"):
            existing = {service["Spec"]["Name"] for service in self._api.services()}
            for name in names:
                if name in existing:
                    self._api.remove_service(name)
                    log.debug("Service removed", service=name)

    def networks(self, pool: str) -> set[str]:
        """See `Swarm`."""
        with translate_docker_errors("listing networks"):
            return {network["Name"] for network in self._api.networks(filters=_label_filter(pool))}

    def network_subnet(self, name: str) -> str:
        """See `Swarm`."""
        with translate_docker_errors(f"inspecting network {name}"):
            networks = self._api.networks(names=[name])
        # The filter also finds names that contain it.
        return next(
            (s for network in networks if network["Name"] == name for s in subnets(network)), ""
        )

    def address_space(self) -> AddressSpace:
        """See `Swarm`."""
        with translate_docker_errors("listing networks"):
            cluster = self._client.info().get("Swarm", {}).get("Cluster") or {}
            networks = self._api.networks()
        return AddressSpace(
            pools=tuple(cluster.get("DefaultAddrPool") or DEFAULT_ADDRESS_POOLS),
            used=tuple((network["Name"], s) for network in networks for s in subnets(network)),
        )

    def create_network(self, name: str, labels: Mapping[str, str], subnet: str) -> None:
        """See `Swarm`."""
        from docker.types import IPAMConfig, IPAMPool

        with translate_docker_errors(f"creating network {name}"):
            self._api.create_network(
                name,
                driver="overlay",
                ipam=IPAMConfig(pool_configs=[IPAMPool(subnet=subnet)]),
                labels=dict(labels),
                scope="swarm",
            )

    def secrets(self, pool: str) -> set[str]:
        """See `Swarm`."""
        with translate_docker_errors("listing secrets"):
            secrets = self._api.secrets(filters=_label_filter(pool))
        return {secret["Spec"]["Name"] for secret in secrets}

    def create_secret(self, name: str, data: bytes, labels: Mapping[str, str]) -> None:
        """See `Swarm`."""
        with translate_docker_errors(f"creating secret {name}"):
            self._api.create_secret(name, data, labels=dict(labels))

    def configs(self, pool: str) -> set[str]:
        """See `Swarm`."""
        with translate_docker_errors("listing configs"):
            configs = self._api.configs(filters=_label_filter(pool))
        return {config["Spec"]["Name"] for config in configs}

    def create_config(self, name: str, data: bytes, labels: Mapping[str, str]) -> None:
        """See `Swarm`."""
        with translate_docker_errors(f"creating config {name}"):
            self._api.create_config(name, data, labels=dict(labels))

    def remove_configs(self, names: Sequence[str]) -> None:
        """See `Swarm`."""
        with translate_docker_errors("removing configs"):
            for config in self._api.configs():
                if config["Spec"]["Name"] in names:
                    self._api.remove_config(config["ID"])

    def remove_pool_resources(self, pool: str, volumes: Sequence[str]) -> None:
        """See `Swarm`."""
        import docker.errors

        with translate_docker_errors("removing the pool's secrets, configs, networks and volumes"):
            for secret in self._api.secrets(filters=_label_filter(pool)):
                self._api.remove_secret(secret["ID"])
            for config in self._api.configs(filters=_label_filter(pool)):
                self._api.remove_config(config["ID"])
            for network in self._api.networks(filters=_label_filter(pool)):
                self._api.remove_network(network["Id"])
            for volume in volumes:
                with contextlib.suppress(docker.errors.NotFound):
                    self._api.remove_volume(volume)
            # The engine lists a network that Swarm has no more until the last container has left
            # it. A new pool would take it for its own.
            if left := self._api.networks(filters=_label_filter(pool)):
                raise PreconditionError(f"the engine still uses the network {left[0]['Name']}")

    def remove_volumes(self, pool: str, image: str, volumes: Sequence[str]) -> list[str]:
        """See `Swarm`."""
        from swarm_runner.swarm.global_job import run_on_every_node

        command = ["python3", "-c", _REMOVE_VOLUMES, *volumes]
        with translate_docker_errors("removing the pool's volumes on every node"):
            name = f"{pool}_htcondor-errand"
            return run_on_every_node(self._api, name, image, command).unfinished_hosts

    def remove_queue(self, pool: str, image: str, directory: str, node_id: str) -> str:
        """See `Swarm`."""
        from swarm_runner.swarm.global_job import DIRECTORY, run_on_every_node

        command = ["python3", QUEUE_LOCK_PROGRAM, "remove", DIRECTORY]
        with translate_docker_errors(f"removing the files in {directory}"):
            result = run_on_every_node(
                self._api,
                f"{pool}_htcondor-errand",
                image,
                command,
                directory=directory,
                node_id=node_id,
            )
        if not result.unfinished_hosts:
            return ""
        host = result.unfinished_hosts[0]
        return next(reversed(result.lines), f"{host} did not do it in time")

    def manage_job_images(
        self, stack: Stack, arguments: Sequence[str], timeout_s: float
    ) -> GlobalJobResult:
        """See `Swarm`."""
        from swarm_runner.swarm.global_job import run_on_every_node

        services = ",".join(stack.executors()[name].name for name in stack.pool.classes)
        command = ["python3", "-c", _EXEC_IN_EXECUTOR, services, *arguments]
        name = f"{stack.pool.name}_htcondor-images"
        with translate_docker_errors("managing the images of jobs on every node"):
            return run_on_every_node(self._api, name, stack.image, command, timeout_s=timeout_s)

    def copy_output(self, service: str, command: Sequence[str], file: IO[bytes]) -> bool:
        """See `Swarm`."""
        return spool_files.copy_output(self._client, service, list(command), file)

    def image_version(self, image: str) -> str:
        """See `Swarm`."""
        return spool_files.image_version(self._client, image)

    def fill_spool(self, stack: Stack, archive: IO[bytes]) -> None:
        """See `Swarm`."""
        spool_files.fill_spool(self._client, stack, archive)

    def exec_in_service(self, service: str, command: Sequence[str]) -> bytes | None:
        """See `Swarm`."""
        label: dict[str, str | list[str] | bool] = {
            "label": f"com.docker.swarm.service.name={service}"
        }
        with translate_docker_errors(f"running {command[0]} in {service}"):
            for container in self._client.containers.list(filters=label):
                done = execute(container, command)
                if done.exit_code:
                    raise PreconditionError(
                        f"running {command[0]} in {service}: exit code {done.exit_code}: "
                        f"{done.errors.decode(errors='replace').strip()}"
                    )
                return done.output
        return None

    def _config_ids(self, spec: ServiceSpec) -> dict[str, str]:
        if not spec.configs:
            return {}
        return {config["Spec"]["Name"]: config["ID"] for config in self._api.configs()}

    def _secret_ids(self) -> dict[str, str]:
        return {secret["Spec"]["Name"]: secret["ID"] for secret in self._api.secrets()}
