"""One Galaxy on one pool, which all tests share."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import pytest
import yaml

from end_to_end.client import Client
from end_to_end.interactive_tool import InteractiveTool
from end_to_end.server import MASTER_KEY, Galaxy, SystemUser
from end_to_end.shell_tool import BUSYBOX, BUSYBOX_DOCKERFILE, ShellTool
from swarm_runner.demo.images import Images
from tests.lab.pool import LabPool, lab_pool
from tests.lab.stub_registry import StubRegistry

NAME = os.environ.get("SWARM_RUNNER_GALAXY_POOL", "swarm-runner-test-galaxy")
PORT = int(os.environ.get("SWARM_RUNNER_GALAXY_POOL_PORT", "9729"))
GALAXY_PORT = int(os.environ.get("SWARM_RUNNER_GALAXY_PORT", "9769"))
CLASSES = {
    "normal": {"cpus": 8, "memory_mb": 1024, "replicas": 3},
    "big": {"cpus": 12, "memory_mb": 2048, "replicas": 1},
}
SMALL_JOB = {"docker_enabled": True, "request_memory": 100, "request_disk": 50}
TOOLS: list[ShellTool | InteractiveTool] = [
    ShellTool("shell"),
    ShellTool("busybox", image=BUSYBOX),
    ShellTool("bare", image=None),
    ShellTool("bare_default", "default_image", image=None),
    *(
        ShellTool(f"{name}_tool", name)
        for name in (
            *("cores", "oom_schedd", "oom_galaxy", "oom_none", "walltime", "no_such_image"),
            *("no_image_name", "zero_memory", "wrong_unit", "vanilla", "no_class", "no_fit"),
            *("raw", "tpv", "aside", "waiting", "measured", "walltime_again", "outside"),
        )
    ),
    ShellTool("tpv_large", "tpv"),
    InteractiveTool("page", "interactive"),
    InteractiveTool("elsewhere"),
    InteractiveTool("deaf", "interactive", "sleep 600"),
]
TPV = {
    "global": {"default_inherits": "default"},
    "tools": {
        "default": {"cores": 1, "mem": 0.1},
        "tpv_large": {"cores": 2, "mem": "1.2"},
    },
    "destinations": {
        name: {
            "runner": "swarm",
            "min_accepted_mem": minimum,
            "max_accepted_mem": maximum,
            "params": {
                "docker_enabled": "true",
                "request_cpus": "{cores}",
                "request_memory": "{mem * 1024}",
                "request_disk": "50",
                "capacity_class": name.removeprefix("tpv_"),
            },
        }
        for name, minimum, maximum in (("tpv_normal", 0, 1), ("tpv_big", 1.01, 2))
    },
}


@dataclass(frozen=True)
class Deployment:
    """The server, its pool, and a user who is also an administrator."""

    galaxy: Galaxy
    pool: LabPool
    client: Client
    docker_engine: docker.DockerClient

    @property
    def runs_directory(self) -> Path:
        """A directory that jobs can write to."""
        return self.pool.volume / "runs"

    @property
    def central_manager(self) -> Any:
        """The container of the pool's central manager."""
        name = self.pool.destination.pool.service()
        label = f"com.docker.swarm.service.name={name}"
        (container,) = self.docker_engine.containers.list(filters={"label": label})
        return container


def copy_tokens(pool: LabPool, user: SystemUser) -> Path:
    """Copy the client's token for the user: HTCondor reads only tokens that its user owns."""
    directory = pool.job_conf.parent / "galaxy-tokens.d"
    shutil.copytree(pool.job_conf.parent / "tokens.d", directory, dirs_exist_ok=True)
    user.chown(directory)
    return directory


def build_job_conf(pool: LabPool, user: SystemUser) -> dict[str, Any]:
    """Return a job configuration with SwarmJobRunner, and Galaxy's local runner for uploads."""
    section = yaml.safe_load(pool.job_conf.read_text())["runners"]["swarm"]
    section |= {
        "load": "swarm_runner_galaxy.runner:SwarmJobRunner",
        "workers": 4,
        "token_directory": str(copy_tokens(pool, user)),
    }
    return {
        "runners": {
            "local": {"load": "galaxy.jobs.runners.local:LocalJobRunner", "workers": 2},
            "swarm": section,
        },
        "execution": {
            "default": "swarm",
            "environments": {
                "local": {"runner": "local"},
                "swarm": {"runner": "swarm", **SMALL_JOB},
            },
        },
        "tools": [{"class": "local", "environment": "local"}],
    }


def _build_environments(address: str, tpv: Path) -> dict[str, dict[str, Any]]:
    resubmission = {"condition": "memory_limit_reached", "environment": "more_memory"}
    params: dict[str, dict[str, Any]] = {
        "cores": {"request_cpus": 10},
        "oom_schedd": {"max_memory": 1500},
        "oom_galaxy": {"resubmit": [resubmission]},
        "oom_none": {},
        "more_memory": {"request_memory": "1500M"},
        "walltime": {"time_limit_s": 3},
        "walltime_again": {
            "time_limit_s": 3,
            "resubmit": [{"condition": "walltime_reached", "environment": "more_time"}],
        },
        "more_time": {"time_limit_s": 300},
        "no_such_image": {"docker_container_id_override": f"{address}/no-such:1"},
        "no_image_name": {"docker_container_id_override": "No Such Image!"},
        "default_image": {"docker_default_container_id": BUSYBOX},
        "zero_memory": {"request_memory": 0},
        "wrong_unit": {"request_memory": "2 GX"},
        "vanilla": {"universe": "vanilla"},
        "no_class": {"capacity_class": "huge"},
        "no_fit": {"request_memory": "64 GB"},
        # A class that the collection's many jobs do not occupy.
        "aside": {"capacity_class": "big"},
        "raw": {"htcondor_+TestGroup": '"a group"'},
        # No slot matches.
        "waiting": {"htcondor_requirements": "false"},
        "measured": {"metrics": [{"type": "core"}, {"type": "cgroup"}]},
        # Galaxy's own process sets no metadata, not even that of a small text.
        "outside": {"retry_metadata_internally": False},
        "interactive": {
            "interactive_tools": True,
            "container_options": {"network": "bridge"},
            "time_limit_s": 900,
        },
    }
    environments = {
        name: {"runner": "swarm", **SMALL_JOB, **extra} for name, extra in params.items()
    }
    environments["tpv"] = {"runner": "dynamic_tpv", "tpv_config_files": [str(tpv)]}
    return environments


@pytest.fixture(scope="session")
def registry() -> Iterator[StubRegistry]:
    with StubRegistry().running() as stub:
        yield stub


@pytest.fixture(scope="session")
def deployment(registry: StubRegistry) -> Iterator[Deployment]:
    user = SystemUser.for_tests()
    settings = {
        "user": {"name": user.name, "uid": user.uid, "gid": user.gid},
        "classes": CLASSES,
        "isolation": {"ports": "loopback", "networks": ["bridge"]},
    }
    docker_engine = docker.from_env()
    with lab_pool(NAME, PORT, settings) as pool:
        Images().build(print)
        docker_engine.images.build(fileobj=io.BytesIO(BUSYBOX_DOCKERFILE.encode()), tag=BUSYBOX)
        galaxy = Galaxy(pool.volume / "galaxy", GALAXY_PORT, user)
        conf = build_job_conf(pool, user)
        tpv = pool.volume / "tpv.yml"
        tpv.write_text(yaml.safe_dump(TPV))
        conf["execution"]["environments"] |= _build_environments(registry.address, tpv)
        conf["tools"] += [
            {"id": tool.id, "environment": tool.environment} for tool in TOOLS if tool.environment
        ]
        galaxy.configure(conf, TOOLS, interactivetools_enable=True)
        (pool.volume / "runs").mkdir()
        (pool.volume / "runs").chmod(0o777)
        galaxy.start()
        try:
            yield Deployment(galaxy, pool, Client(galaxy.url, MASTER_KEY, "admin"), docker_engine)
        finally:
            galaxy.stop()
    docker_engine.close()
