"""The whole lab, from nothing to nothing."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import docker
import requests

from tests.lab.hosts import certificates, disk, images, network, ownership, registry, swarm
from tests.lab.hosts.commands import run
from tests.lab.hosts.engine import HostEngine
from tests.lab.hosts.layout import ROOT, SHARED, Node, nodes

_WORLD_WRITABLE = 0o1777  # jobs run as users of their own


def _no_progress(_message: str) -> None:
    return


@dataclass(frozen=True, slots=True)
class HostState:
    """One line of `status`. What only the Swarm's leader knows is empty when it does not answer."""

    node: Node
    connected: bool
    processes: int
    reachable: bool
    swarm: str = ""
    role: str = ""
    availability: str = ""


class Lab:
    """Three hosts. `tls` opens the first one's API to clients with a certificate."""

    def __init__(
        self,
        *,
        managers: int = 1,
        tls: bool = False,
        progress: Callable[[str], None] = _no_progress,
    ) -> None:
        if not 1 <= managers <= len(nodes()):
            raise ValueError(f"{managers} managers cannot be; there are {len(nodes())} hosts")
        self._managers = managers
        self._tls = tls
        self._progress = progress

    def engine(self, node: Node) -> HostEngine:
        """The engine of a host."""
        return HostEngine(node, tls=self._tls and node == nodes()[0])

    def up(self) -> None:
        """Make the lab, or what is missing of it, whatever an earlier one has left.

        Raises RuntimeError, docker.errors.DockerException or tenacity.RetryError.
        """
        ownership.claim()
        # Whoever only mends the lab leaves its way in open.
        self._tls = self._tls or _has_tls(nodes()[0])
        SHARED.mkdir(parents=True, exist_ok=True)
        SHARED.chmod(_WORLD_WRITABLE)
        if self._tls:
            certificates.create()
        network.make_bridge()
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
                machine = stack.enter_context(contextlib.closing(docker.from_env(timeout=600)))
                images.publish(machine, clients[0][1], self._progress)

    def down(self) -> None:
        """Remove all of it, whatever state it is in."""
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
        """SIGKILL the host's engine and all of its containers; how many processes those were."""
        ownership.claim()
        return self.engine(node).kill()

    def start(self, node: Node) -> None:
        """Start the engine of a host that was killed; it finds its place in the Swarm by itself."""
        network.attach(node)
        # As it was, whatever this lab was made with.
        HostEngine(node, tls=_has_tls(node)).start()

    def partition(self, node: Node) -> None:
        """Cut the host off from the others and the machine; its socket still answers."""
        network.partition(node)

    def block_registry(self, node: Node) -> None:
        """Keep the host from the registry."""
        network.block_registry(node)

    def fill_disk(self, node: Node) -> None:
        """Leave no room on the host's disk."""
        disk.fill(node)

    def heal(self, node: Node) -> None:
        """Undo `part`, `bar` and `fill`."""
        network.reconnect(node)
        disk.clear(node)

    def status(self) -> list[HostState]:
        """Each host, as the machine sees it and as the Swarm's leader does."""
        known = self._swarm_nodes()
        states = []
        for node in nodes():
            engine = self.engine(node)
            state, role, availability = known.get(node.name, ("", "", ""))
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
        """What some manager that answers says of each node."""
        for node in nodes():
            engine = self.engine(node)
            if not engine.is_reachable():
                continue
            with contextlib.closing(engine.client(timeout_s=10)) as client:
                try:
                    found = client.nodes.list()
                # A worker, or a manager without its quorum.
                except (docker.errors.APIError, requests.RequestException):
                    continue
                return {
                    one.attrs["Description"]["Hostname"]: (
                        one.attrs["Status"]["State"],
                        one.attrs["Spec"]["Role"],
                        one.attrs["Spec"]["Availability"],
                    )
                    for one in found
                }
        return {}


def _has_tls(node: Node) -> bool:
    config = node.directory / "daemon.json"
    return config.exists() and "tlsverify" in config.read_text()


def _unmount_below(directory: Path) -> None:
    """The engines' mounts go with their namespaces; nothing is removed through one that stays."""
    for mount in sorted(_mounts(), reverse=True):
        if mount.startswith(f"{directory}{os.sep}"):
            run("umount", "--lazy", mount)


def _mounts() -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line.split()[4].encode().decode("unicode_escape") for line in lines]
