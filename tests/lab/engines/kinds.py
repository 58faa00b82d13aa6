"""The engines that the tests are tried on."""

from __future__ import annotations

import resource
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab.engines.suite import Suite

ROOT = Path(__file__).parents[3] / ".state" / "engines"
PREFIX = "swarm-runner-engine"
# In the range for benchmarks (RFC 2544), beside the three hosts' network.
_SUBNET = "198.18.78"

# What Docker 29 does by default, as far as an older engine can be told to do it: refuse versions of
# its API before 1.44, keep images in containerd, and give containers 1,024 file descriptors.
_AS_29_ENVIRONMENT = {"DOCKER_MIN_API_VERSION": "1.44"}
_AS_29_SETTINGS = {
    "features": {"containerd-snapshotter": True},
    "default-ulimits": {
        "nofile": {
            "Name": "nofile",
            "Soft": 1024,
            # As many as this machine may give: Docker 29 has 524,288.
            "Hard": min(524_288, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),
        }
    },
}


@dataclass(frozen=True, slots=True)
class EngineKind:
    """An engine of a Debian release with settings of its own.

    Attributes:
        number: Its place in the lab's network; one for each kind.
        settings: Keys of daemon.json.
        environment: Variables of dockerd.
    """

    name: str
    number: int
    suite: Suite
    settings: Mapping[str, object] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def directory(self) -> Path:
        """The directory of the engine's data, configuration and log."""
        return ROOT / self.name

    @property
    def namespace(self) -> str:
        """The name of its network namespace, and of its cgroup."""
        return f"{PREFIX}-{self.name}"

    @property
    def link(self) -> str:
        """The machine's end of its veth pair."""
        return f"srengine{self.number}"

    @property
    def gateway(self) -> str:
        """The machine's address on the veth pair."""
        return f"{_SUBNET}.{4 * self.number + 1}"

    @property
    def address(self) -> str:
        """The engine's address on the veth pair."""
        return f"{_SUBNET}.{4 * self.number + 2}"


KINDS = {
    kind.name: kind
    for kind in (
        EngineKind("bookworm", 0, Suite("bookworm")),
        EngineKind("trixie", 1, Suite("trixie")),
        EngineKind("sid", 2, Suite("sid")),
        EngineKind("as-29", 3, Suite("sid"), _AS_29_SETTINGS, _AS_29_ENVIRONMENT),
    )
}
