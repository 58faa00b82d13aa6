"""A host's Docker engine, in namespaces of its own."""

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

START_TIMEOUT_S = 60
CALL_TIMEOUT_S = 300
_LOG_TAIL = 5

# Enter the cgroup, then the namespaces, and become the engine. `nsenter --net` rather than
# `ip netns exec`, which hides the cgroups; a /run of its own, so that the host's socket is
# /run/docker.sock for the host's containers, as anywhere.
_START_SCRIPT = """
namespace=$1 name=$2 config=$3 log=$4 disk=$5 data=$6; shift 6
for entrance; do echo $$ >"$entrance"; done
exec >>"$log" 2>&1 </dev/null
exec nsenter --net="$namespace" unshare --mount --uts sh -euc '
    hostname "$1"; mount -t tmpfs -o mode=755 tmpfs /run; mount -o loop "$3" "$4"
    exec dockerd --config-file "$2"
' sh "$name" "$config" "$disk" "$data"
"""


class HostEngine:
    """The engine of one host. `tls` also opens its API to the network, with client certificates."""

    def __init__(self, node: Node, *, tls: bool = False) -> None:
        self.node = node
        self._tls = tls
        self._cgroup = Cgroup(node.cgroup)
        self._config = node.directory / "daemon.json"

    def start(self) -> bool:
        """Start the engine, unless it runs as it should; whether it was started.

        What an earlier one has left running goes first. Raises RuntimeError when it does not
        answer.
        """
        wanted = json.dumps(self._settings(), indent=2)
        asked_for = self._config.exists() and self._config.read_text() == wanted
        if asked_for and self.is_reachable():
            return False
        self.kill()
        disk.create(self.node)
        self._config.write_text(wanted)
        for stale in (self.node.pid_file, self.node.socket):
            stale.unlink(missing_ok=True)
        namespace = str(NAMESPACES / self.node.namespace)
        places = (namespace, self.node.name, str(self._config), str(self.log))
        disks = (str(self.node.disk), str(self.node.data))
        entrances = map(str, self._cgroup.create())
        # A session of its own, and no child of ours: it outlives this program.
        run("setsid", "--fork", "sh", "-euc", _START_SCRIPT, "sh", *places, *disks, *entrances)
        self._wait_until_reachable()
        self._grant_access()
        return True

    def kill(self) -> int:
        """SIGKILL the engine, its containerd and all of its containers; how many processes."""
        return self._cgroup.kill()

    def processes(self) -> int:
        """How many there are on the host, containers' included."""
        return len(self._cgroup.pids())

    def is_reachable(self) -> bool:
        """Whether the API does."""
        if not self.node.socket.is_socket():
            return False
        try:
            with contextlib.closing(self.client(timeout_s=5)) as client:
                return bool(client.ping())
        except (DockerException, requests.RequestException, OSError):
            return False

    def client(self, timeout_s: int = CALL_TIMEOUT_S) -> docker.DockerClient:
        """A client of its own, to be closed."""
        return docker.DockerClient(base_url=self.node.docker_host, timeout=timeout_s)

    @property
    def log(self) -> Path:
        """Where the engine writes."""
        return self.node.directory / "dockerd.log"

    def _settings(self) -> dict[str, object]:
        hosts = ["unix:///run/docker.sock", self.node.docker_host]
        settings: dict[str, object] = {
            "data-root": str(self.node.data),
            "exec-root": f"/run/{PREFIX}",  # of the host's own /run
            "pidfile": str(self.node.pid_file),
            "cgroup-parent": f"/{self.node.cgroup}",
            "exec-opts": ["native.cgroupdriver=cgroupfs"],
            "hosts": hosts,
            "insecure-registries": [REGISTRY],
            # So that `debian:trixie` can be pulled by that name, where there is no Docker Hub.
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
                retry=retry_if_result(lambda answers: not answers),
                wait=wait_fixed(0.3),
                stop=stop_after_delay(START_TIMEOUT_S),
            )(self.is_reachable)
        except RetryError as error:
            last = self.log.read_text(errors="replace").splitlines()[-_LOG_TAIL:]
            raise RuntimeError(
                "\n".join(
                    [f"the engine of {self.node.name} does not answer; {self.log} ends", *last]
                )
            ) from error

    def _grant_access(self) -> None:
        """Whoever became root by sudo may use the engine too."""
        if "SUDO_GID" in os.environ:
            os.chown(self.node.socket, -1, int(os.environ["SUDO_GID"]))
