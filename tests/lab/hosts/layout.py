"""Names, addresses and paths of the lab."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3] / ".state" / "lab-hosts"
PREFIX = "swarm-runner-lab"
BRIDGE = "srlab0"
# In the range for benchmarks (RFC 2544), which neither Docker nor Swarm assigns.
SUBNET = "198.18.77.0/24"
BRIDGE_ADDRESS = "198.18.77.1"  # the machine's address
NODE_COUNT = 3
# Names that Swarm assigns. There are no such devices.
GPUS = {3: ("GPU-1", "GPU-2")}

SHARED = ROOT / "shared"
CERTIFICATES = ROOT / "certificates"
TLS_PORT = 2376
SWARM_PORT = 2377
REGISTRY_PORT = 5000
REGISTRY = f"{BRIDGE_ADDRESS}:{REGISTRY_PORT}"
REGISTRY_CGROUP = f"{PREFIX}-registry"

_MAX_SOCKET_PATH = 107  # sun_path without its final null byte (unix(7))


@dataclass(frozen=True, slots=True)
class Node:
    """The names and paths of one host."""

    number: int

    @property
    def name(self) -> str:
        """The host name, which is also its name in the Swarm."""
        return f"swarm-{self.number}"

    @property
    def address(self) -> str:
        """The host's address on the bridge."""
        return f"198.18.77.{10 + self.number}"

    @property
    def gpus(self) -> tuple[str, ...]:
        """The names of its GPUs."""
        return GPUS.get(self.number, ())

    @property
    def namespace(self) -> str:
        """The name of its network namespace."""
        return f"{PREFIX}-{self.number}"

    @property
    def link(self) -> str:
        """The machine's end of the host's veth pair."""
        return f"srlab-{self.number}"

    @property
    def cgroup(self) -> str:
        """The cgroup that contains all of the host's processes."""
        return f"{PREFIX}-{self.number}"

    @property
    def directory(self) -> Path:
        """The directory of the engine's data, configuration and log."""
        return ROOT / self.name

    @property
    def socket(self) -> Path:
        """The socket of the engine's API."""
        return self.directory / "docker.sock"

    @property
    def disk(self) -> Path:
        """The image file of the host's disk."""
        return self.directory / "disk.img"

    @property
    def data(self) -> Path:
        """The mount point of the host's disk, with all of the engine's data."""
        return self.directory / "data"

    @property
    def pid_file(self) -> Path:
        """The file with the engine's process ID."""
        return self.directory / "docker.pid"

    @property
    def docker_host(self) -> str:
        """The engine's DOCKER_HOST. Raises ValueError if the socket's path is too long."""
        if len(str(self.socket)) > _MAX_SOCKET_PATH:
            raise ValueError(
                f"{self.socket} is longer than {_MAX_SOCKET_PATH} characters, the maximum for a "
                "socket; move the repository to a shorter path"
            )
        return f"unix://{self.socket}"

    @property
    def tls_host(self) -> str:
        """The engine's DOCKER_HOST over TLS."""
        return f"tcp://{self.address}:{TLS_PORT}"


def nodes() -> list[Node]:
    """Return the hosts in order. The first is a Swarm manager."""
    return [Node(number) for number in range(1, NODE_COUNT + 1)]


def node(name: str) -> Node:
    """Return the host with a name (`swarm-2`, or `2`). Raises ValueError if there is none."""
    for candidate in nodes():
        if name in (candidate.name, str(candidate.number)):
            return candidate
    names = ", ".join(candidate.name for candidate in nodes())
    raise ValueError(f"there is no host {name}; the hosts are {names}")
