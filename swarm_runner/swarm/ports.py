"""What the provisioner asks of a Swarm. `DockerSwarm` and `testing.FakeSwarm` both answer it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from swarm_runner.model.pool_status import DockerEngine, ServiceState, TaskState
from swarm_runner.swarm.specs import ServiceSpec


class Swarm(Protocol):
    """Every method raises OutOfReachError when the engine or the Swarm does not answer."""

    def docker_engine(self) -> DockerEngine:
        """The engine and its part in a Swarm."""

    def initialise(self, address: str) -> None:
        """Make the engine the only manager of a new Swarm that listens at `address`."""

    def leave(self) -> None:
        """Dissolve the Swarm whose only node is this engine."""

    def initialised_here(self) -> bool:
        """Whether `initialise` made this Swarm and nothing but this engine is in it."""

    def pool_image(
        self, image: str | None, progress: Callable[[str], None], *, virtual_machines: bool = False
    ) -> str:
        """The image to run: `wanted`, pulled if the engine lacks it, or our own, built if need be.

        Of our own, `virtual_machines` asks for the variant that can run them.
        Raises RefusedError when it can be neither found nor built.
        """

    def autoscaler_image(self, base: str, progress: Callable[[str], None]) -> str:
        """The image of an autoscaler for pools of the image `base`; built if the engine lacks it.

        Raises RefusedError when it cannot be built.
        """

    def services(self, pool: str) -> dict[str, ServiceState]:
        """The pool's services by name."""

    def tasks(self, pool: str) -> list[TaskState]:
        """The pool's tasks; of those that ended, as many as Swarm remembers."""

    def create_service(self, spec: ServiceSpec) -> None:
        """Create it."""

    def update_service(self, spec: ServiceSpec, update_delay_s: int = 0) -> None:
        """Change everything but the replica count.

        Swarm replaces one task after another, at least `pace_s` seconds apart, and stops when a
        new one fails.
        """

    def service_spec(self, name: str) -> Mapping[str, Any]:
        """What the service is now, for `restore_service`. Its contents are Swarm's own."""

    def restore_service(self, name: str, spec: Mapping[str, Any]) -> None:
        """Make it again what it was when `service_spec` was asked, but for the replica count."""

    def scale_service(self, name: str, replicas: int, version: int | None = None) -> None:
        """Change the replica count, and nothing else.

        With `version`, only if the service is still as it was then; else ChangedError.
        """

    def remove_services(self, names: Sequence[str]) -> None:
        """Remove them; absent ones are no error. Tasks end in their own time."""

    def networks(self, pool: str) -> set[str]:
        """The pool's networks by name."""

    def create_network(self, name: str, labels: Mapping[str, str]) -> None:
        """An overlay."""

    def secrets(self, pool: str) -> set[str]:
        """The pool's secrets by name."""

    def create_secret(self, name: str, data: bytes, labels: Mapping[str, str]) -> None:
        """A secret; its data cannot be read back."""

    def remove_pool_resources(self, pool: str, volumes: Sequence[str]) -> None:
        """Remove the pool's secrets and networks, and the named volumes, that still exist.

        Raises RefusedError while something still uses one of them.
        """

    def remove_volumes(self, pool: str, image: str, volumes: Sequence[str]) -> list[str]:
        """Remove the named volumes on every node, by containers of that image.

        The hosts where they may remain come back: drained ones, and those that do not answer.
        """

    def exec_in_service(self, service: str, command: Sequence[str]) -> bytes | None:
        """Standard output of a command in the service's container on this engine.

        None when no container of it runs here. Raises RefusedError when the command fails.
        """
