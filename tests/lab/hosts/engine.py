"""A host's Docker engine in its own namespaces."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import docker
import requests
from docker.errors import DockerException
from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from tests.lab.hosts import certificates, disk
from tests.lab.hosts.cgroup import Cgroup
from tests.lab.hosts.commands import run
from tests.lab.hosts.layout import PREFIX, REGISTRY, TLS_PORT, Node
from tests.lab.hosts.network import NAMESPACES

START_TIMEOUT_S = 180
CALL_TIMEOUT_S = 300
_LOG_TAIL = 5

# Enter the cgroup and the namespaces, then execute the engine. `nsenter --net` is used because
# `ip netns exec` hides the cgroups. The separate /run makes the host's socket /run/docker.sock, as
# on any host.
_START_SCRIPT = """
namespace=$1 name=$2 config=$3 log=$4 disk=$5 data=$6; shift 6
for procs_file; do echo $$ >"$procs_file"; done
exec >>"$log" 2>&1 </dev/null
exec nsenter --net="$namespace" unshare --mount --uts sh -euc '
    hostname "$1"; mount -t tmpfs -o mode=755 tmpfs /run; mount -o loop "$3" "$4"
    exec dockerd --config-file "$2"
' sh "$name" "$config" "$disk" "$data"
"""


class HostEngine:
    """The engine of one host. `tls` also opens its API to clients with a certificate."""

    def __init__(self, node: Node, *, tls: bool = False) -> None:
        self.node = node
        self._tls = tls
        self._cgroup = Cgroup(node.cgroup)
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
        arguments = (
            str(NAMESPACES / self.node.namespace),
            self.node.name,
            str(self._config),
            str(self.log),
            str(self.node.disk),
            str(self.node.data),
            *map(str, self._cgroup.create()),
        )
        # In a new session, so that it outlives this program.
        run("setsid", "--fork", "sh", "-euc", _START_SCRIPT, "sh", *arguments)
        self._wait_until_reachable()
        self._grant_access()
        return True

    def kill(self) -> int:
        """Kill the engine, its containerd and its containers. Return the number of processes."""
        return self._cgroup.kill()

    def processes(self) -> int:
        """Return the number of processes on the host, including those in containers."""
        return len(self._cgroup.pids())

    def is_reachable(self) -> bool:
        """Return whether the engine's API responds."""
        if not self.node.socket.is_socket():
            return False
        try:
            with contextlib.closing(self.client(timeout_s=5)) as client:
                return bool(client.ping())
        except (DockerException, requests.RequestException, OSError):
            return False

    def client(self, timeout_s: int = CALL_TIMEOUT_S) -> docker.DockerClient:
        """Return a new client. The caller closes it."""
        return docker.DockerClient(base_url=self.node.docker_host, timeout=timeout_s)

    @property
    def log(self) -> Path:
        """The engine's log."""
        return self.node.directory / "dockerd.log"

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

    def _wait_until_reachable(self) -> None:
        try:
            Retrying(
                retry=retry_if_result(lambda reachable: not reachable),
                wait=wait_fixed(0.3),
                stop=stop_after_delay(START_TIMEOUT_S),
            )(self.is_reachable)
        except RetryError as error:
            tail = self.log.read_text(errors="replace").splitlines()[-_LOG_TAIL:]
            message = f"the engine of {self.node.name} does not respond; {self.log} ends with:"
            raise RuntimeError("\n".join([message, *tail])) from error

    def _grant_access(self) -> None:
        """Give the group of the user who ran sudo access to the socket."""
        if "SUDO_GID" in os.environ:
            os.chown(self.node.socket, -1, int(os.environ["SUDO_GID"]))
