"""A real pool for tests and benchmarks."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from swarm_runner.cli import factories
from swarm_runner.config.job_conf import parse_job_conf
from swarm_runner.model.pool import Destination
from swarm_runner.provisioner import Provisioner
from swarm_runner.provisioner.provisioner import UP_TIMEOUT_S

STATE_DIRECTORY = Path(__file__).parents[2] / ".state" / "lab"
# Different from the demonstration's pool and from the default.
NAME = "swarm-runner-test"
PORT = 9719


@dataclass(frozen=True, slots=True)
class LabPool:
    """A pool, and how to reach it. `volume` is a directory with the same path in jobs."""

    job_conf: Path
    destination: Destination
    volume: Path
    provisioner: Provisioner


@contextlib.contextmanager
def lab_pool(
    name: str = NAME,
    port: int = PORT,
    settings: Mapping[str, Any] | None = None,
    timeout_s: float = UP_TIMEOUT_S,
    volume: Path | None = None,
) -> Iterator[LabPool]:
    """Bring a new pool up, and take it down at the end.

    Removes the leftovers of an interrupted session first. `settings` are keys of `pool` in
    job_conf; they replace the defaults. `volume` is for a pool of hosts that share it. Raises
    PreconditionError if it is not up after `timeout_s`.
    """
    job_conf, volume = lab_files(name, port, settings or {}, volume)
    destination = parse_job_conf(job_conf.read_text(), str(job_conf)).destination()
    provisioner = factories.provisioner(destination, lambda _message: None)
    try:
        with swarm_lock():
            # An interrupted session may have left jobs and a different number of executors.
            provisioner.down(force=True)
            provisioner.up(initialise=True, timeout_s=timeout_s)
        yield LabPool(job_conf, destination, volume, provisioner)
    finally:
        with swarm_lock():
            provisioner.down(force=True)


@contextlib.contextmanager
def swarm_lock() -> Iterator[None]:
    """Hold the lock of the Swarm's pools.

    The last pool's `down` dissolves the Swarm, and a pool that is coming up beside it would lose
    its secrets and its network.
    """
    STATE_DIRECTORY.mkdir(parents=True, exist_ok=True)
    engine = re.sub(r"\W+", "-", os.environ.get("DOCKER_HOST", "local"))
    with (STATE_DIRECTORY / f"{engine}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def lab_files(
    name: str, port: int, settings: Mapping[str, Any], volume: Path | None = None
) -> tuple[Path, Path]:
    """Write a pool's job_conf and empty its volume. Return both paths."""
    state = STATE_DIRECTORY / name
    volume = volume or state / "volume"
    volume.mkdir(parents=True, exist_ok=True)
    volume.chmod(0o1777)  # the jobs' user writes here
    # Keep the directory itself, since a leftover pool has it mounted.
    for entry in volume.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink()
    state.mkdir(parents=True, exist_ok=True)
    job_conf = state / "job_conf.yml"
    job_conf.write_text(_job_conf(name, port, state, volume, settings))
    return job_conf, volume


def _job_conf(name: str, port: int, state: Path, volume: Path, settings: Mapping[str, Any]) -> str:
    pool = {
        "name": name,
        "port": port,
        "volumes": [str(volume)],
        "classes": {
            "normal": {"cpus": 1, "memory_mb": 1024, "replicas": 2, "max_replicas": 20},
            "big": {"cpus": 1, "memory_mb": 2048, "replicas": 1, "max_replicas": 4},
        },
        **settings,
    }
    runner = {"pool": pool, "token_directory": str(state / "tokens.d")}
    execution = {"default": "swarm", "environments": {"swarm": {"runner": "swarm"}}}
    return yaml.safe_dump({"runners": {"swarm": runner}, "execution": execution}, sort_keys=False)
