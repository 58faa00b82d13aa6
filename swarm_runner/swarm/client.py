"""A Docker Swarm through one engine's API (docker-py)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random

from swarm_runner.errors import ConflictError, PreconditionError
from swarm_runner.model.pool import CENTRAL_MANAGER
from swarm_runner.model.pool_status import DockerEngine, ServiceState, TaskState
from swarm_runner.swarm.api_parsing import host_of, replicas_of, spec_arguments, task_state
from swarm_runner.swarm.errors import translate_docker_errors
from swarm_runner.swarm.specs import CLASS_LABEL, POOL_LABEL, ServiceSpec

if TYPE_CHECKING:
    import docker

INITIALISED_LABEL = "swarm-runner.initialised"
CALL_TIMEOUT_S = 60
MAX_UPDATE_ATTEMPTS = 5


def _label_filter(pool: str) -> dict[str, str]:
    return {"label": f"{POOL_LABEL}={pool}"}


class DockerSwarm:
    """The Swarm of the engine that DOCKER_HOST, a docker context or `client` names.

    `adopted` names services that somebody else deployed, and the class of each, or `manager`.
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
        """See `port.Swarm`."""
        with translate_docker_errors("asking the engine about its Swarm"):
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
            host=host_of(self._api.base_url),
        )

    def initialise(self, address: str) -> None:
        """See `port.Swarm`."""
        with translate_docker_errors("making a Swarm"):
            self._client.swarm.init(
                advertise_addr=address, listen_addr=address, labels={INITIALISED_LABEL: "true"}
            )

    def leave(self) -> None:
        """See `port.Swarm`."""
        with translate_docker_errors("leaving the Swarm"):
            self._client.swarm.leave(force=True)

    def initialised_here(self) -> bool:
        """See `port.Swarm`."""
        with translate_docker_errors("asking about the Swarm"):
            spec = self._api.inspect_swarm()["Spec"]
            alone = len(self._api.nodes()) == 1 and not self._api.services()
        return alone and (spec.get("Labels") or {}).get(INITIALISED_LABEL) == "true"

    def pool_image(
        self, image: str | None, progress: Callable[[str], None], *, virtual_machines: bool = False
    ) -> str:
        """See `port.Swarm`."""
        from swarm_runner.swarm.images import PoolImage

        return PoolImage(self._client).ensure(image, progress, virtual_machines=virtual_machines)

    def autoscaler_image(self, base: str, progress: Callable[[str], None]) -> str:
        """See `port.Swarm`."""
        from swarm_runner.swarm.autoscaler_image import autoscaler_image

        return autoscaler_image(self._client, base, progress)

    def services(self, pool: str) -> dict[str, ServiceState]:
        """See `port.Swarm`."""
        states = {}
        for service in self._services(pool):
            spec = service["Spec"]
            states[spec["Name"]] = ServiceState(
                name=spec["Name"],
                image=spec["TaskTemplate"]["ContainerSpec"]["Image"],
                replicas=spec["Mode"]["Replicated"]["Replicas"],
                labels=spec["Labels"] | self._class_of(spec["Name"]),
                version=service["Version"]["Index"],
                environment=dict(
                    line.split("=", 1)
                    for line in spec["TaskTemplate"]["ContainerSpec"].get("Env") or ()
                    if "=" in line
                ),
                update=(service.get("UpdateStatus") or {}).get("State", ""),
                update_message=(service.get("UpdateStatus") or {}).get("Message", ""),
            )
        return states

    def _services(self, pool: str) -> list[Any]:
        """The pool's services, by their label, or by their names."""
        with translate_docker_errors("listing services"):
            if self._external_services is None:
                return list(self._api.services(filters=_label_filter(pool)))
            found = [
                s for s in self._api.services() if s["Spec"]["Name"] in self._external_services
            ]
        for service in found:
            if "Replicated" not in service["Spec"]["Mode"]:
                name = service["Spec"]["Name"]
                raise PreconditionError(f"service {name} is not replicated, so it cannot be scaled")
        return found

    def _class_of(self, service: str) -> dict[str, str]:
        name = (self._external_services or {}).get(service, CENTRAL_MANAGER)
        return {} if name == CENTRAL_MANAGER else {CLASS_LABEL: name}

    def tasks(self, pool: str) -> list[TaskState]:
        """See `port.Swarm`."""
        with translate_docker_errors("listing tasks"):
            names = {service["ID"]: service["Spec"]["Name"] for service in self._services(pool)}
            # Without a service a filter would let all pass.
            found = self._api.tasks(filters={"service": list(names)}) if names else []
            nodes = {node["ID"]: node for node in self._api.nodes()}
        return [task_state(task, names, nodes.get(task.get("NodeID", ""))) for task in found]

    def create_service(self, spec: ServiceSpec) -> None:
        """See `port.Swarm`."""
        from swarm_runner.swarm.services import service_arguments

        with translate_docker_errors(f"creating service {spec.name}"):
            self._api.create_service(**service_arguments(spec, self._secret_ids()))

    def update_service(self, spec: ServiceSpec, update_delay_s: int = 0) -> None:
        """See `port.Swarm`."""
        from swarm_runner.swarm.services import service_arguments

        def arguments(present: Mapping[str, Any]) -> dict[str, Any]:
            # The count is no part of a wish's digest.
            kept = spec.model_copy(update={"replicas": replicas_of(present["Spec"])})
            return service_arguments(kept, self._secret_ids(), update_delay_s)

        self._update(spec.name, "updating", arguments)

    def service_spec(self, name: str) -> Mapping[str, Any]:
        """See `port.Swarm`."""
        with translate_docker_errors(f"asking about service {name}"):
            spec: Mapping[str, Any] = self._api.inspect_service(name)["Spec"]
        return spec

    def restore_service(self, name: str, spec: Mapping[str, Any]) -> None:
        """See `port.Swarm`."""
        # Not Swarm's own rollback: that takes the replica count back too.
        self._update(
            name,
            "restoring",
            lambda present: spec_arguments(spec, replicas_of(present["Spec"])),
        )

    def scale_service(self, name: str, replicas: int, version: int | None = None) -> None:
        """See `port.Swarm`."""
        with translate_docker_errors(f"scaling service {name}"):
            spec = self._api.inspect_service(name)["Spec"]
        if replicas_of(spec) == replicas:
            # A changed service makes Swarm forget tasks on their way out; they finish all the same.
            return

        # Not Service.scale: it sends the spec back with defaults filled in, which Swarm
        # takes for a change, and replaces every task.
        def arguments(present: Mapping[str, Any]) -> dict[str, Any]:
            if version not in (None, present["Version"]["Index"]):
                raise ConflictError(f"scaling service {name}: somebody changed it meanwhile")
            return spec_arguments(present["Spec"], replicas)

        self._update(
            name, "scaling", arguments, max_attempts=MAX_UPDATE_ATTEMPTS if version is None else 1
        )

    def _update(
        self,
        name: str,
        action: str,
        build_arguments: Callable[[Mapping[str, Any]], dict[str, Any]],
        max_attempts: int = MAX_UPDATE_ATTEMPTS,
    ) -> None:
        """Change a service, again if another change came between reading and writing it."""

        def attempt() -> None:
            with translate_docker_errors(f"{action} service {name}"):
                present = self._api.inspect_service(name)
                self._api.update_service(
                    present["ID"], present["Version"]["Index"], **build_arguments(present)
                )

        Retrying(
            retry=retry_if_exception_type(ConflictError),
            stop=stop_after_attempt(max_attempts),
            wait=wait_random(0, 0.5),
            reraise=True,
        )(attempt)

    def remove_services(self, names: Sequence[str]) -> None:
        """See `port.Swarm`."""
        with translate_docker_errors("removing services"):
            present = {service["Spec"]["Name"] for service in self._api.services()}
            for name in names:
                if name in present:
                    self._api.remove_service(name)

    def networks(self, pool: str) -> set[str]:
        """See `port.Swarm`."""
        with translate_docker_errors("listing networks"):
            return {found["Name"] for found in self._api.networks(filters=_label_filter(pool))}

    def create_network(self, name: str, labels: Mapping[str, str]) -> None:
        """See `port.Swarm`."""
        with translate_docker_errors(f"creating network {name}"):
            self._api.create_network(name, driver="overlay", labels=dict(labels), scope="swarm")

    def secrets(self, pool: str) -> set[str]:
        """See `port.Swarm`."""
        with translate_docker_errors("listing secrets"):
            found = self._api.secrets(filters=_label_filter(pool))
        return {secret["Spec"]["Name"] for secret in found}

    def create_secret(self, name: str, data: bytes, labels: Mapping[str, str]) -> None:
        """See `port.Swarm`."""
        with translate_docker_errors(f"creating secret {name}"):
            self._api.create_secret(name, data, labels=dict(labels))

    def remove_pool_resources(self, pool: str, volumes: Sequence[str]) -> None:
        """See `port.Swarm`."""
        import docker.errors

        with translate_docker_errors("removing what is left of the pool"):
            for secret in self._api.secrets(filters=_label_filter(pool)):
                self._api.remove_secret(secret["ID"])
            for network in self._api.networks(filters=_label_filter(pool)):
                self._api.remove_network(network["Id"])
            for volume in volumes:
                with contextlib.suppress(docker.errors.NotFound):
                    self._api.remove_volume(volume)

    def remove_volumes(self, pool: str, image: str, volumes: Sequence[str]) -> list[str]:
        """See `port.Swarm`."""
        from swarm_runner.swarm.global_job import run_on_every_node

        command = ["docker", "volume", "rm", "--force", *volumes]
        with translate_docker_errors("removing the pool's volumes on every node"):
            return run_on_every_node(self._api, f"{pool}_htcondor-errand", image, command)

    def exec_in_service(self, service: str, command: Sequence[str]) -> bytes | None:
        """See `port.Swarm`."""
        label: dict[str, str | list[str] | bool] = {
            "label": f"com.docker.swarm.service.name={service}"
        }
        with translate_docker_errors(f"running {command[0]} in {service}"):
            for container in self._client.containers.list(filters=label):
                code, streams = container.exec_run(list(command), demux=True)
                output, complaint = (bytes(stream or b"") for stream in streams)
                if code:
                    said = complaint.decode(errors="replace").strip()
                    raise PreconditionError(f"{command[0]} in {service} ended with {code}: {said}")
                return output
        return None

    def _secret_ids(self) -> dict[str, str]:
        return {secret["Spec"]["Name"]: secret["ID"] for secret in self._api.secrets()}
