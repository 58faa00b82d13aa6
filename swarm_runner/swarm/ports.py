"""The port to a Docker Swarm. `DockerSwarm` and `testing.FakeSwarm` implement it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any, Protocol

from swarm_runner.model.pool_status import (
    AddressSpace,
    DockerEngine,
    ServiceState,
    SwarmNode,
    TaskState,
)
from swarm_runner.swarm.global_job import GlobalJobResult
from swarm_runner.swarm.specs import ServiceSpec, Stack


class Swarm(Protocol):
    """The operations that the provisioner performs on a Swarm.

    Every method raises UnreachableError if the engine or the Swarm does not answer, and
    PreconditionError if the engine rejects the request.
    """

    def docker_engine(self) -> DockerEngine:
        """Return the engine's description and its role in a Swarm."""

    def nodes(self) -> list[SwarmNode]:
        """Return the nodes of the Swarm, in the order of their names."""

    def initialise(self, address: str) -> None:
        """Create a Swarm with this engine as its only manager, listening at `address`."""

    def leave(self) -> None:
        """Make this engine leave its Swarm, which dissolves a single-node Swarm."""

    def initialised_here(self) -> bool:
        """Return whether `initialise` created this Swarm and it is unused.

        An unused Swarm has no other node and no service.
        """

    def pool_image(
        self, image: str | None, progress: Callable[[str], None], *, virtual_machines: bool = False
    ) -> str:
        """Return the reference of a pool image that the engine has.

        `image` is pulled if the engine lacks it. Without `image`, the image of this package is used
        and built if necessary; `virtual_machines` selects the variant that can run VMs. `progress`
        receives a message for each step.

        Raises PreconditionError if the image can be neither pulled nor built.
        """

    def autoscaler_image(
        self, image: str | None, base: str, progress: Callable[[str], None]
    ) -> str:
        """Return the reference of an autoscaler image that the engine has.

        `image` is pulled if the engine lacks it. Without `image`, one that is based on the pool
        image `base` is used, and built if necessary.

        Raises PreconditionError if it can be neither pulled nor built.
        """

    def services(self, pool: str) -> dict[str, ServiceState]:
        """Return the pool's services by name."""

    def tasks(self, pool: str) -> list[TaskState]:
        """Return the pool's tasks, with those stopped tasks that Swarm still remembers."""

    def create_service(self, spec: ServiceSpec) -> None:
        """Create a service. Its network and secret must exist."""

    def update_service(self, spec: ServiceSpec, update_delay_s: int = 0) -> None:
        """Change everything in a service except its replica count.

        Swarm replaces one task after another, at least `update_delay_s` seconds apart, and pauses
        when a new task fails.
        """

    def service_spec(self, name: str) -> Mapping[str, Any]:
        """Return a service's current spec for `restore_service`; its content is opaque."""

    def restore_service(self, name: str, spec: Mapping[str, Any]) -> None:
        """Restore a spec that `service_spec` returned, except its replica count."""

    def scale_service(self, name: str, replicas: int, version: int | None = None) -> None:
        """Change the replica count, and nothing else.

        Raises ConflictError if `version` is given and the service has another version by now.
        """

    def remove_services(self, names: Sequence[str]) -> None:
        """Remove the services that exist, without waiting for their tasks to stop."""

    def networks(self, pool: str) -> set[str]:
        """Return the names of the pool's networks."""

    def network_subnet(self, name: str) -> str:
        """Return the subnet of a network; empty if Swarm has not allocated one."""

    def address_space(self) -> AddressSpace:
        """Return Swarm's address pools, and the subnets of the networks that the engine knows."""

    def create_network(self, name: str, labels: Mapping[str, str], subnet: str) -> None:
        """Create an overlay network. Swarm does not check here whether the subnet is free."""

    def secrets(self, pool: str) -> set[str]:
        """Return the names of the pool's secrets."""

    def create_secret(self, name: str, data: bytes, labels: Mapping[str, str]) -> None:
        """Create a secret. Swarm never returns its data."""

    def configs(self, pool: str) -> set[str]:
        """Return the names of the pool's configs."""

    def create_config(self, name: str, data: bytes, labels: Mapping[str, str]) -> None:
        """Create a config. It cannot be changed, and everybody who may read the Swarm reads it."""

    def remove_configs(self, names: Sequence[str]) -> None:
        """Remove the configs that exist. Raises PreconditionError while one of them is in use."""

    def remove_pool_resources(self, pool: str, volumes: Sequence[str]) -> None:
        """Remove the pool's secrets, configs and networks, and the named volumes on this engine.

        Resources that do not exist are ignored.

        Raises PreconditionError while one of them is in use.
        """

    def remove_volumes(self, pool: str, image: str, volumes: Sequence[str]) -> list[str]:
        """Remove the named volumes on every node, with containers of `image`.

        Return the hosts on which they may remain, for example because they are drained or down.
        """

    def remove_queue(self, pool: str, image: str, directory: str, node_id: str) -> str:
        """Empty the spool of managers, a directory of a node, in a container of `image`.

        Managers that still use it see that, wherever they run, and end. Return why it was not
        done, or nothing: the node may be down, and a manager may hang and keep the queue's lock.
        """

    def manage_job_images(
        self, stack: Stack, arguments: Sequence[str], timeout_s: float
    ) -> GlobalJobResult:
        """Run image/node_images.py with these arguments in an executor of every node that has one.

        The result has a line of JSON from each of these nodes that answered within `timeout_s`
        seconds.
        """

    def copy_output(self, service: str, command: Sequence[str], file: IO[bytes]) -> bool:
        """Write the output of a command in the service's container on this engine to a file.

        Return whether there is such a container.

        Raises PreconditionError if the command fails.
        """

    def image_version(self, image: str) -> str:
        """Return the version of HTCondor in a pool image that the engine has."""

    def fill_spool(self, stack: Stack, archive: IO[bytes]) -> None:
        """Unpack a tar file into the spool of a pool that does not exist yet.

        Raises PreconditionError if the spool has files.
        """

    def exec_in_service(self, service: str, command: Sequence[str]) -> bytes | None:
        """Run a command in the service's container on this engine and return its standard output.

        Return None if no container of the service runs on this engine.

        Raises PreconditionError if the command fails.
        """
