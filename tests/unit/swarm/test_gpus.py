"""A class's GPUs on their way: from the Swarm to an executor, from there to a job's container."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from swarm_runner.model.pool import CapacityClass, Pool
from swarm_runner.swarm.services import service_arguments
from swarm_runner.swarm.specs import ServiceSpec, Stack
from tests.unit.swarm.image import IMAGE, load_program, read_config


def executor(gpus: int) -> ServiceSpec:
    pool = Pool(name="galaxy", classes={"gpu": CapacityClass(memory_mb=64, gpus=gpus)})
    return Stack(pool=pool, image="pool:1", node_id="node-1").executors()["gpu"]


def reserved(gpus: int) -> object:
    wish = executor(gpus)
    arguments = service_arguments(wish, {wish.secret.name: "id"})
    return arguments["task_template"]["Resources"]["Reservations"]


def test_an_executor_reserves_its_gpus() -> None:
    memory = {"MemoryBytes": 64 * 2**20}
    gpus = {"DiscreteResourceSpec": {"Kind": "gpu", "Value": 2}}
    assert reserved(2) == memory | {"GenericResources": [gpus]}
    assert reserved(0) == memory


def test_an_executor_offers_what_the_swarm_gave_it() -> None:
    [given] = read_config("MACHINE_RESOURCE_GPUs", DOCKER_RESOURCE_GPU="GPU-1,GPU-2")
    assert given == "GPU-1,GPU-2"
    assert read_config("MACHINE_RESOURCE_GPUs") == ["0"]  # and looks for none


def test_a_job_is_told_its_own_gpus_or_none() -> None:
    assert read_config(
        "ENVIRONMENT_FOR_AssignedGPUs",
        "ENVIRONMENT_VALUE_FOR_UnAssignedGPUs",
        "AUTO_SET_NVIDIA_VISIBLE_DEVICES",
    ) == ["NVIDIA_VISIBLE_DEVICES=/^// CUDA_VISIBLE_DEVICES=/^//", "void", "False"]


@pytest.fixture
def entrypoint() -> ModuleType:
    return load_program("entrypoint")


@pytest.mark.parametrize("given", ["1", "0,1", "GPU-1,2"])
def test_gpus_without_names_are_refused(
    entrypoint: ModuleType, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("DOCKER_RESOURCE_GPU", given)
    with pytest.raises(SystemExit, match="must name each by its UUID"):
        entrypoint.check_gpus()


@pytest.mark.parametrize("given", [None, "GPU-1", "GPU-1,GPU-2", "MIG-0a"])
def test_gpus_with_names_are_taken(
    entrypoint: ModuleType, monkeypatch: pytest.MonkeyPatch, given: str | None
) -> None:
    monkeypatch.delenv("DOCKER_RESOURCE_GPU", raising=False)
    if given is not None:
        monkeypatch.setenv("DOCKER_RESOURCE_GPU", given)
    entrypoint.check_gpus()


def wrapped(directory: Path, *arguments: str) -> list[str]:
    """What the wrapper says to docker."""
    source = (IMAGE / "docker-wrapper").read_text()
    for name, content in (("executor", "here"), ("pool", "galaxy")):
        (directory / name).write_text(content)
        source = source.replace(f"/run/swarm-runner-{name}", str(directory / name))
    docker = directory / "docker"
    docker.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    docker.chmod(0o755)
    wrapper = directory / "wrapper"
    wrapper.write_text(source.replace("/usr/bin/docker", str(docker)))
    wrapper.chmod(0o755)
    said = subprocess.run([wrapper, *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return said.stdout.splitlines()


MARKS = [
    *("--label", "swarm-runner.executor=here"),
    *("--label", "swarm-runner.pool=galaxy"),
]


def test_devices_are_for_the_nodes_runtime_to_give(tmp_path: Path) -> None:
    options = ["--memory=64m", "-e", "NVIDIA_VISIBLE_DEVICES=GPU-1"]
    devices = ["--device", "/dev/nvidiactl", "--device", "/dev/nvidia-uvm"]
    other = ["--device", "/dev/fuse"]
    # What a job's own command says is its own.
    rest = ["--workdir", "/scratch", "debian:trixie", "tool", "--device", "/dev/nvidia0", "a b", ""]
    said = wrapped(tmp_path, "create", *options, *devices, *other, *rest)
    assert said == ["create", "--interactive", *MARKS, *options, *other, *rest]


def test_what_else_is_said_to_docker(tmp_path: Path) -> None:
    assert wrapped(tmp_path, "create", "image") == ["create", "--interactive", *MARKS, "image"]
    assert wrapped(tmp_path, "start", "-a", "it") == ["start", "--attach", "--interactive", "it"]
    prune = ["container", "prune", "-f", "--filter", "label=swarm-runner.executor=here"]
    assert wrapped(tmp_path, "container", "prune", "-f", "--filter=label=org.htcondor") == prune
    assert wrapped(tmp_path, "rm", "it") == ["rm", "it"]
