"""A Docker engine that lives in a cgroup of its own and is reached by its socket."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

import docker
import requests
from docker.errors import DockerException
from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from tests.lab.hosts.cgroup import Cgroup
from tests.lab.hosts.commands import run

START_TIMEOUT_S = 180
CALL_TIMEOUT_S = 300
_LOG_TAIL = 8

_ENTER_CGROUP = """
log=$1 count=$2; shift 2
while [ "$count" -gt 0 ]; do echo $$ >"$1"; shift; count=$((count - 1)); done
exec >>"$log" 2>&1 </dev/null
"""


class EngineDaemon:
    """The process of an engine, with its containers. Its kinds say how it is started."""

    def __init__(self, name: str, cgroup: str, docker_host: str, log: Path) -> None:
        self.name = name
        self.docker_host = docker_host
        self.log = log
        self._cgroup = Cgroup(cgroup)
        self._socket = Path(docker_host.removeprefix("unix://"))

    def kill(self) -> int:
        """Kill the engine, its containerd and its containers. Return the number of processes."""
        return self._cgroup.kill()

    def processes(self) -> int:
        """Return the number of processes in the engine's cgroup, including those in containers."""
        return len(self._cgroup.pids())

    def is_reachable(self) -> bool:
        """Return whether the engine's API responds."""
        if not self._socket.is_socket():
            return False
        try:
            with contextlib.closing(self.client(timeout_s=5)) as client:
                return bool(client.ping())
        except (DockerException, requests.RequestException, OSError):
            return False

    def client(self, timeout_s: int = CALL_TIMEOUT_S) -> docker.DockerClient:
        """Return a new client. The caller closes it."""
        return docker.DockerClient(base_url=self.docker_host, timeout=timeout_s)

    def _launch(
        self, script: str, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> None:
        """Run a shell script that becomes the engine, or runs it. Return when its API responds.

        The script gets the number of files into which it writes its process ID, these files, and
        the arguments. Raises RuntimeError with the end of the log if the API does not respond.
        """
        procs_files = self._cgroup.create()
        run(
            *("env", *(f"{name}={value}" for name, value in (environment or {}).items())),
            # In a new session, so that it outlives this program.
            *("setsid", "--fork", "sh", "-euc", _ENTER_CGROUP + script, "sh", str(self.log)),
            *(str(len(procs_files)), *map(str, procs_files), *arguments),
        )
        try:
            Retrying(
                retry=retry_if_result(lambda reachable: not reachable),
                wait=wait_fixed(0.3),
                stop=stop_after_delay(START_TIMEOUT_S),
            )(self.is_reachable)
        except RetryError as error:
            tail = self.log.read_text(errors="replace").splitlines()[-_LOG_TAIL:]
            message = f"the engine of {self.name} does not respond; {self.log} ends with:"
            raise RuntimeError("\n".join([message, *tail])) from error
