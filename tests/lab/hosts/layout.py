"""What the lab is made of, and what it is called."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3] / ".state" / "lab-hosts"
PREFIX = "swarm-runner-lab"
BRIDGE = "srlab0"
# Of the range for benchmarks (RFC 2544), which neither Docker nor a Swarm hands out.
SUBNET = "198.18.77.0/24"
BRIDGE_ADDRESS = "198.18.77.1"  # the bridge's own end
NODE_COUNT = 3
# Made up: names that the Swarm hands out. There is no device behind them.
GPUS = {3: ("GPU-1", "GPU-2")}

SHARED = ROOT / "shared"
CERTIFICATES = ROOT / "certificates"
TLS_PORT = 2376
SWARM_PORT = 2377
REGISTRY_PORT = 5000
REGISTRY = f"{BRIDGE_ADDRESS}:{REGISTRY_PORT}"
REGISTRY_CGROUP = f"{PREFIX}-registry"

_MAX_SOCKET_PATH = 107  # sun_path, without its closing zero


@dataclass(frozen=True, slots=True)
class Node:
    """One host: its names and places."""

    number: int

    @property
    def name(self) -> str:
        """The host's name, in its own eyes and in the Swarm's."""
        return f"swarm-{self.number}"

    @property
    def address(self) -> str:
        """On the bridge."""
        return f"198.18.77.{10 + self.number}"

    @property
    def gpus(self) -> tuple[str, ...]:
        """What its engine calls its GPUs."""
        return GPUS.get(self.number, ())

    @property
    def namespace(self) -> str:
        """The network namespace, for `ip netns`."""
        return f"{PREFIX}-{self.number}"

    @property
    def link(self) -> str:
        """The machine's end of the host's cable."""
        return f"srlab-{self.number}"

    @property
    def cgroup(self) -> str:
        """All that runs on the host is in this cgroup or below it."""
        return f"{PREFIX}-{self.number}"

    @property
    def directory(self) -> Path:
        """The engine's data, configuration and log."""
        return ROOT / self.name

    @property
    def socket(self) -> Path:
        """The engine's API, for the machine."""
        return self.directory / "docker.sock"

    @property
    def disk(self) -> Path:
        """The file that is the host's disk."""
        return self.directory / "disk.img"

    @property
    def data(self) -> Path:
        """Where the host has its disk mounted: all of the engine's data."""
        return self.directory / "data"

    @property
    def pid_file(self) -> Path:
        """Holds the engine's process id."""
        return self.directory / "docker.pid"

    @property
    def docker_host(self) -> str:
        """DOCKER_HOST of the engine. Raises ValueError when the path is too long for a socket."""
        if len(str(self.socket)) > _MAX_SOCKET_PATH:
            raise ValueError(f"{self.socket} is too long for a socket; move the repository")
        return f"unix://{self.socket}"

    @property
    def tls_host(self) -> str:
        """DOCKER_HOST of the engine over TLS."""
        return f"tcp://{self.address}:{TLS_PORT}"


def nodes() -> list[Node]:
    """The hosts, in order; the first is a Swarm manager."""
    return [Node(number) for number in range(1, NODE_COUNT + 1)]


def node(name: str) -> Node:
    """The host of that name (`swarm-2`, or `2`). Raises ValueError when there is none."""
    for one in nodes():
        if name in (one.name, str(one.number)):
            return one
    raise ValueError(f"there is no host {name}; there are {', '.join(n.name for n in nodes())}")
