"""A Galaxy with its own HTCondor runners and SwarmJobRunner, on one pool."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import docker
from end_to_end.conftest import CLASSES, GALAXY_PORT, NAME, PORT, SMALL_JOB, build_job_conf
from end_to_end.server import Galaxy, SystemUser
from end_to_end.shell_tool import DEBIAN, ShellTool

from benchmarks.condor_commands import CommandUsage, condor_commands
from benchmarks.harness import Harness
from tests.lab.pool import LabPool, lab_pool
from tests.lab.stub_registry import StubRegistry

# Capacity for 120 sleeping jobs: HTCondor reserves 128 MB for a job that requests 100 MB.
LARGE_CLASSES = {"normal": {"cpus": 40, "memory_mb": 5200, "replicas": 3}}
# Galaxy's defaults; the tests poll more often. The polls determine the cost of a job's lifetime.
MONITOR_SLEEPS = {"job_runner_monitor_sleep": 1.0, "job_handler_monitor_sleep": 1.0}
# The runners whose tools have a container that Galaxy knows.
CONTAINER_RUNNERS = ("swarm", "floor")
GalaxyT = TypeVar("GalaxyT", bound=Galaxy)


@dataclass(frozen=True)
class Server(Generic[GalaxyT]):
    """A Galaxy with all runners, its pool, and the CPU time of the `condor_*` programs."""

    galaxy: GalaxyT
    pool: LabPool
    command_usage: CommandUsage


@contextlib.contextmanager
def running_harness(*, large: bool) -> Iterator[Harness]:
    """Run one process and the pool for the block. A large pool runs 120 jobs at a time."""
    classes = LARGE_CLASSES if large else CLASSES
    probe = {"probe": {"load": "benchmarks.probe:ProbeRunner", "workers": 1}}
    with running_server(Galaxy, classes, probe) as server:
        yield Harness(server.galaxy, server.pool, _probe_file(server.galaxy), server.command_usage)


@contextlib.contextmanager
def running_server(
    create: Callable[[Path, int, SystemUser], GalaxyT],
    classes: Mapping[str, Any],
    runners: Mapping[str, Any] | None = None,
    **job_conf: Any,
) -> Iterator[Server[GalaxyT]]:
    """Run a server and the pool for the block. The last two are added to its job_conf."""
    docker_host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    # For the runner that starts containers itself.
    group = Path(docker_host.removeprefix("unix://")).stat().st_gid
    user = replace(SystemUser.for_tests(), groups=(group,))
    docker_engine = docker.from_env()
    owner = {"name": user.name, "uid": user.uid, "gid": user.gid}
    with (
        contextlib.closing(docker_engine),
        StubRegistry().running() as registry,
        lab_pool(NAME, PORT, {"user": owner, "classes": dict(classes)}) as pool,
    ):
        label = f"com.docker.swarm.service.name={pool.destination.pool.service()}"
        (central_manager,) = docker_engine.containers.list(filters={"label": label})
        galaxy = create(pool.volume / "galaxy", GALAXY_PORT, user)
        conf = _build_job_conf(pool, user, f"{registry.address}/no-such:1") | job_conf
        conf["runners"] |= runners or {}
        galaxy.configure(conf, _build_tools(conf), **MONITOR_SLEEPS)
        directory = galaxy.directory / "commands"
        with condor_commands(central_manager, user.name, directory) as command_usage:
            galaxy.extra_environment = {
                "SWARM_RUNNER_PROBE": str(_probe_file(galaxy)),
                "PYTHONPATH": str(Path(__file__).parents[1]),
                "PATH": f"{directory}:{Path(sys.executable).parent}:{os.environ['PATH']}",
                "DOCKER_HOST": docker_host,
                "CONDOR_CONFIG": str(_write_condor_config(pool, galaxy.directory, user)),
            }
            galaxy.start()
            try:
                yield Server(galaxy, pool, command_usage)
            finally:
                galaxy.stop()


def _probe_file(galaxy: Galaxy) -> Path:
    return galaxy.directory / "probe.json"


def _build_tools(conf: dict[str, Any]) -> list[ShellTool]:
    """Return a tool for each environment that has the tool's name."""
    return [
        ShellTool(name, name, image=DEBIAN if name.startswith(CONTAINER_RUNNERS) else None)
        for name in (tool.get("id") for tool in conf["tools"])
        if name
    ]


def _build_job_conf(pool: LabPool, user: SystemUser, missing_image: str) -> dict[str, Any]:
    conf = build_job_conf(pool, user)
    conf["runners"] |= {
        "floor": {"load": "benchmarks.floor:FloorRunner", "workers": 4},
        "floor_docker": {"load": "benchmarks.floor:DockerFloorRunner", "workers": 4},
        "condor": {"load": "galaxy.jobs.runners.condor:CondorJobRunner", "workers": 4},
        "htcondor": {
            "load": "galaxy.jobs.runners.htcondor:HTCondorJobRunner",
            "workers": 4,
            "htcondor_collector": pool.destination.pool.address,
        },
    }
    peer_params = {
        "universe": "docker",
        "docker_image": DEBIAN,
        "request_cpus": 1,
        "request_memory": "100",
        "request_disk": "50M",
        "+SwarmRunnerClass": '"normal"',
        "should_transfer_files": "NO",
    }
    environments = conf["execution"]["environments"]
    for name in ("condor", "htcondor"):
        environments[f"{name}_shell"] = {"runner": name, "params": peer_params}
        environments[f"{name}_image"] = {
            "runner": name,
            "params": peer_params | {"docker_image": missing_image},
        }
        outside = {"embed_metadata_in_job": False}
        environments[f"{name}_outside_shell"] = {"runner": name, "params": peer_params | outside}
    for name in ("floor", "floor_docker"):
        environments[f"{name}_shell"] = {"runner": name, "docker_enabled": True, "image": DEBIAN}
    environments["swarm_shell"] = {"runner": "swarm", **SMALL_JOB}
    environments["swarm_image"] = {
        "runner": "swarm",
        **SMALL_JOB,
        "docker_container_id_override": missing_image,
    }
    conf["tools"] += [{"id": name, "environment": name} for name in environments if "_" in name]
    return conf


def _write_condor_config(pool: LabPool, directory: Path, user: SystemUser) -> Path:
    """Write the configuration that HTCondor's bindings read, for htcondor.py."""
    settings = pool.destination.pool
    file = directory / "condor_config"
    file.write_text(
        f"CONDOR_HOST = {settings.host}\nCOLLECTOR_HOST = {settings.address}\n"
        f"SEC_TOKEN_DIRECTORY = {pool.job_conf.parent}/galaxy-tokens.d\n"
        "SEC_CLIENT_AUTHENTICATION = REQUIRED\nSEC_CLIENT_AUTHENTICATION_METHODS = IDTOKENS\n"
        f"TRUST_DOMAIN = {settings.name}\nUID_DOMAIN = {settings.name}\n"
        f"FILESYSTEM_DOMAIN = {settings.name}\n"
    )
    user.chown(directory)
    return file
