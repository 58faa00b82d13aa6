"""A host's Docker engine in its own namespaces."""

from __future__ import annotations

import json
import os
import signal

from tests.lab.hosts import certificates, disk
from tests.lab.hosts.engine_daemon import EngineDaemon
from tests.lab.hosts.layout import PREFIX, REGISTRY, TLS_PORT, Node
from tests.lab.hosts.network import NAMESPACES

# Enter the namespaces, then run the engine. `nsenter --net` is used because `ip netns exec`
# hides the cgroups. The separate /run makes the host's socket /run/docker.sock, as on any host.
_START_SCRIPT = """
namespace=$1; shift
exec nsenter --net="$namespace" unshare --mount --uts sh -euc '
    hostname "$1"; mount -t tmpfs -o mode=755 tmpfs /run; mount -o loop "$3" "$4"
    # As systemd does: Docker 20.10 may end by a fault of its own (SetServiceTasksRemove).
    until dockerd --config-file "$2"; do sleep 1; done
' sh "$@"
"""


class HostEngine(EngineDaemon):
    """The engine of one host. `tls` also opens its API to clients with a certificate."""

    def __init__(self, node: Node, *, tls: bool = False) -> None:
        super().__init__(node.name, node.cgroup, node.docker_host, node.directory / "dockerd.log")
        self.node = node
        self._tls = tls
        self._config = node.directory / "daemon.json"

    def start(self) -> bool:
        """Start the engine, unless it runs with these settings. Return whether it was started.

        Kills the processes of a previous engine first. Raises RuntimeError if the engine does not
        respond.
        """
        settings = json.dumps(self._settings(), indent=2)
        is_current = self._config.exists() and self._config.read_text() == settings
        if is_current and self.is_reachable():
            return False
        self.kill()
        disk.create(self.node)
        self._config.write_text(settings)
        for stale in (self.node.pid_file, self.node.socket):
            stale.unlink(missing_ok=True)
        self._launch(
            _START_SCRIPT,
            str(NAMESPACES / self.node.namespace),
            self.node.name,
            str(self._config),
            str(self.node.disk),
            str(self.node.data),
        )
        self._grant_access()
        return True

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the engine alone, not to its containers."""
        os.kill(int(self.node.pid_file.read_text()), number)

    def _settings(self) -> dict[str, object]:
        hosts = ["unix:///run/docker.sock", self.node.docker_host]
        settings: dict[str, object] = {
            "data-root": str(self.node.data),
            "exec-root": f"/run/{PREFIX}",  # in the host's separate /run
            "pidfile": str(self.node.pid_file),
            "cgroup-parent": f"/{self.node.cgroup}",
            "exec-opts": ["native.cgroupdriver=cgroupfs"],
            "hosts": hosts,
            "insecure-registries": [REGISTRY],
            # The lab's hosts pull `debian:trixie` without access to Docker Hub.
            "registry-mirrors": [f"http://{REGISTRY}"],
        }
        if self.node.gpus:
            settings["node-generic-resources"] = [f"gpu={name}" for name in self.node.gpus]
        if self._tls:
            bundle = certificates.server(self.node)
            hosts.append(f"tcp://{self.node.address}:{TLS_PORT}")
            settings |= {
                "tlsverify": True,
                "tlscacert": str(bundle / "ca.pem"),
                "tlscert": str(bundle / "cert.pem"),
                "tlskey": str(bundle / "key.pem"),
            }
        return settings

    def _grant_access(self) -> None:
        """Give the group of the user who ran sudo access to the socket."""
        if "SUDO_GID" in os.environ:
            os.chown(self.node.socket, -1, int(os.environ["SUDO_GID"]))
