"""The CPU time of an engine with all of its containers, and of the processes that use it."""

from __future__ import annotations

import os
import resource
import socket
import struct
import time
from pathlib import Path

import docker

_CGROUP_ROOT = Path("/sys/fs/cgroup")
_IDLE_SAMPLE_S = 3.0


class CpuMeter:
    """Sums CPU seconds: the cgroup of engine and containers and this process; else the machine.

    An engine and containers that share no cgroup of their own are measured with the whole machine,
    less what the machine used in the seconds before.
    """

    def __init__(self, client: docker.DockerClient, container_id: str) -> None:
        container_pid = client.api.inspect_container(container_id)["State"]["Pid"]
        self._cgroup = _common_cgroup(_engine_pid(client), container_pid)
        self._background = 0.0
        if self._cgroup is None:
            before = self._total()
            time.sleep(_IDLE_SAMPLE_S)
            self._background = (self._total() - before) / _IDLE_SAMPLE_S
        self._start = self._total()
        self._started = time.monotonic()

    @property
    def what(self) -> str:
        """What is measured."""
        return "engine and containers" if self._cgroup is not None else "whole machine"

    def restart(self) -> None:
        """Measure from now on."""
        self._start, self._started = self._total(), time.monotonic()

    def seconds(self) -> float:
        """Return the CPU seconds since the start."""
        elapsed = time.monotonic() - self._started
        return self._total() - self._start - self._background * elapsed

    def _total(self) -> float:
        if self._cgroup is None:
            fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
            user, nice, system, _idle, _wait, irq, softirq = map(int, fields[:7])
            return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
        own = sum(
            usage.ru_utime + usage.ru_stime
            for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        )
        return own + _cgroup_seconds(self._cgroup)


def _engine_pid(client: docker.DockerClient) -> int:
    path = client.api.base_url.removeprefix("http+docker://localhost")
    path = path or os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.connect(path.removeprefix("unix://"))
        credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    pid: int = struct.unpack("3i", credentials)[0]
    return pid


def _common_cgroup(*pids: int) -> str | None:
    """Return the cgroup that contains all processes, or None if it is the root."""
    paths = [_cgroup_of(pid).strip("/").split("/") for pid in pids]
    common: list[str] = []
    for parts in zip(*paths, strict=False):
        if len(set(parts)) > 1 or not parts[0]:
            break
        common.append(parts[0])
    return "/".join(common) or None


def _cgroup_of(pid: int) -> str:
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "cpuacct" in controllers.split(",") or not controllers:
            return path
    return "/"


def _cgroup_seconds(cgroup: str) -> float:
    legacy = _CGROUP_ROOT / "cpuacct" / cgroup / "cpuacct.usage"
    if legacy.exists():
        return int(legacy.read_text()) / 1e9
    usage = (_CGROUP_ROOT / cgroup / "cpu.stat").read_text().split("\n", 1)[0]
    return int(usage.removeprefix("usage_usec ")) / 1e6
