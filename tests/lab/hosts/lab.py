"""Creating, repairing, breaking and removing the lab."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import docker
import requests

from tests.lab.hosts import certificates, disk, images, network, ownership, registry, swarm
from tests.lab.hosts.cgroup import Cgroup
from tests.lab.hosts.commands import run
from tests.lab.hosts.engine import HostEngine
from tests.lab.hosts.layout import ROOT, SHARED, Node, nodes

_MEMORY_HEADROOM_MB = 64
_WORLD_WRITABLE = 0o1777  # jobs run as different users


def _no_progress(_message: str) -> None:
    return


@dataclass(frozen=True, slots=True)
class HostState:
    """One line of `status`. The Swarm's fields are empty if no manager responds."""

    node: Node
    connected: bool
    processes: int
    reachable: bool
    swarm: str = ""
    role: str = ""
    availability: str = ""


class Lab:
    """Three hosts. `tls` opens the API of the first to clients with a certificate."""

    def __init__(
        self,
        *,
        managers: int = 1,
        tls: bool = False,
        progress: Callable[[str], None] = _no_progress,
    ) -> None:
        if not 1 <= managers <= len(nodes()):
            raise ValueError(f"managers must be from 1 to {len(nodes())}, not {managers}")
        self._managers = managers
        self._tls = tls
        self._progress = progress

    def engine(self, node: Node) -> HostEngine:
        """Return the engine of a host."""
        return HostEngine(node, tls=self._tls and node == nodes()[0])

    def up(self) -> None:
        """Create the lab, or repair it from any state.

        Raises RuntimeError, docker.errors.DockerException or tenacity.RetryError.
        """
        ownership.claim()
        # A repair keeps TLS enabled.
        self._tls = self._tls or _has_tls(nodes()[0])
        SHARED.mkdir(parents=True, exist_ok=True)
        SHARED.chmod(_WORLD_WRITABLE)
        if self._tls:
            certificates.create()
        network.create_bridge()
        for node in nodes():
            network.attach(node)
        if registry.start():
            self._progress("started the registry")
        for node in nodes():
            if self.engine(node).start():
                self._progress(f"started the engine of {node.name}")
        with contextlib.ExitStack() as stack:
            clients = [
                (node, stack.enter_context(contextlib.closing(self.engine(node).client())))
                for node in nodes()
            ]
            self._progress("joining the hosts to one Swarm")
            swarm.form(clients, self._managers, self._progress)
            if not all(map(registry.has_image, images.published_images())):
                local_client = stack.enter_context(contextlib.closing(docker.from_env(timeout=600)))
                images.publish(local_client, clients[0][1], self._progress)

    def down(self) -> None:
        """Remove the lab from any state."""
        ownership.claim()
        for node in nodes():
            killed = self.engine(node).kill()
            if killed:
                self._progress(f"killed {killed} processes of {node.name}")
            network.detach(node)
        registry.stop()
        network.remove_bridge()
        _unmount_below(ROOT)
        if ROOT.exists():
            shutil.rmtree(ROOT)
            self._progress(f"removed {ROOT}")
        ownership.release()

    def kill(self, node: Node) -> int:
        """Kill the host's engine and its containers. Return the number of processes."""
        ownership.claim()
        return self.engine(node).kill()

    def start(self, node: Node) -> None:
        """Start the engine of a killed host, which rejoins the Swarm by itself."""
        network.attach(node)
        # With its previous settings.
        HostEngine(node, tls=_has_tls(node)).start()

    def partition(self, node: Node) -> None:
        """Disconnect the host from the others and from the machine. Its socket still responds."""
        network.partition(node)

    def block_registry(self, node: Node) -> None:
        """Block the host's access to the registry."""
        network.block_registry(node)

    def fill_disk(self, node: Node) -> None:
        """Fill the host's disk."""
        disk.fill(node)

    def freeze(self, node: Node) -> None:
        """Stop the host's engine; its containers keep running."""
        self.engine(node).signal(signal.SIGSTOP)

    def limit_memory(self, node: Node) -> None:
        """Leave the host almost no free memory."""
        Cgroup(node.cgroup).limit_memory(_MEMORY_HEADROOM_MB)

    def limit_processes(self, node: Node) -> None:
        """Let nothing start another process on the host."""
        Cgroup(node.cgroup).limit_processes(0)

    def heal(self, node: Node) -> None:
        """Undo everything that was done to a host that runs."""
        Cgroup(node.cgroup).remove_limits()
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            self.engine(node).signal(signal.SIGCONT)
        network.reconnect(node)
        disk.clear(node)

    def status(self) -> list[HostState]:
        """Return each host's state on this machine and in the Swarm."""
        swarm_nodes = self._swarm_nodes()
        states = []
        for node in nodes():
            engine = self.engine(node)
            state, role, availability = swarm_nodes.get(node.name, ("", "", ""))
            states.append(
                HostState(
                    node=node,
                    connected=network.connected(node),
                    processes=engine.processes(),
                    reachable=engine.is_reachable(),
                    swarm=state,
                    role=role,
                    availability=availability,
                )
            )
        return states

    def _swarm_nodes(self) -> dict[str, tuple[str, str, str]]:
        """Return state, role and availability of each host, from a manager that responds."""
        for node in nodes():
            engine = self.engine(node)
            if not engine.is_reachable():
                continue
            with contextlib.closing(engine.client(timeout_s=10)) as client:
                try:
                    found = client.nodes.list()
                # A worker, or a manager without a quorum.
                except (docker.errors.APIError, requests.RequestException):
                    continue
                return {
                    swarm_node.attrs["Description"]["Hostname"]: (
                        swarm_node.attrs["Status"]["State"],
                        swarm_node.attrs["Spec"]["Role"],
                        swarm_node.attrs["Spec"]["Availability"],
                    )
                    for swarm_node in found
                }
        return {}


def _has_tls(node: Node) -> bool:
    config = node.directory / "daemon.json"
    return config.exists() and "tlsverify" in config.read_text()


def _unmount_below(directory: Path) -> None:
    """Unmount leftovers, so that removing the directory does not reach through a mount.

    The engines' own mounts end with their namespaces.
    """
    for mount in sorted(_mounts(), reverse=True):
        if mount.startswith(f"{directory}{os.sep}"):
            run("umount", "--lazy", mount)


def _mounts() -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line.split()[4].encode().decode("unicode_escape") for line in lines]
