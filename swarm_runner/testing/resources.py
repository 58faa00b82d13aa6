"""What belongs to the pools of a Swarm in memory, beside their services."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from swarm_runner.errors import PreconditionError
from swarm_runner.model.pool_status import ServiceState
from swarm_runner.swarm.specs import POOL_LABEL


class FakeResources(ABC):
    """Networks, secrets and volumes.

    `errands` has which volumes were to be removed on every node, `unreached` the nodes that were
    away.
    """

    def __init__(self) -> None:
        super().__init__()
        self.volume_removals: list[tuple[str, str, tuple[str, ...]]] = []
        self.unreachable_nodes: list[str] = []
        self._networks: dict[str, str] = {}
        self._secrets: dict[str, str] = {}

    @abstractmethod
    def check_reachable(self) -> None:
        """Raises OutOfReachError when the Swarm does not answer."""

    @abstractmethod
    def services(self, pool: str) -> dict[str, ServiceState]:
        """The pool's services by name."""

    def networks(self, pool: str) -> set[str]:
        """See `Swarm.networks`."""
        return {name for name, owner in self._networks.items() if owner == pool}

    def create_network(self, name: str, labels: Mapping[str, str]) -> None:
        """See `Swarm.create_network`."""
        self._networks[name] = labels[POOL_LABEL]

    def secrets(self, pool: str) -> set[str]:
        """See `Swarm.secrets`."""
        return {name for name, owner in self._secrets.items() if owner == pool}

    def create_secret(self, name: str, data: bytes, labels: Mapping[str, str]) -> None:
        """See `Swarm.create_secret`."""
        if not data:
            raise PreconditionError(f"creating secret {name}: it is empty")
        self._secrets[name] = labels[POOL_LABEL]

    def remove_pool_resources(self, pool: str, volumes: Sequence[str]) -> None:
        """See `Swarm.remove_rest`."""
        if self.services(pool):
            raise PreconditionError(f"removing {', '.join(volumes)}: they are in use")
        for kept in (self._networks, self._secrets):
            for name in [name for name, owner in kept.items() if owner == pool]:
                del kept[name]

    def remove_volumes(self, pool: str, image: str, volumes: Sequence[str]) -> list[str]:
        """See `Swarm.remove_volumes`; `errands` has what was asked, `unreached` the answer."""
        self.check_reachable()
        self.volume_removals.append((pool, image, tuple(volumes)))
        return list(self.unreachable_nodes)

    def delete_secret(self, name: str) -> None:
        """Remove a secret, as by hand."""
        del self._secrets[name]
