"""GPUs: from the Swarm to an executor, and from there to a job's container."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from swarm_runner.model.pool import CapacityClass, Pool
from swarm_runner.swarm.engine_api import service_arguments
from swarm_runner.swarm.specs import ServiceSpec, Stack
from tests.unit.swarm.image import IMAGE, load_program, read_config


def executor(gpus: int) -> ServiceSpec:
    pool = Pool(name="galaxy", classes={"gpu": CapacityClass(memory_mb=64, gpus=gpus)})
    return Stack(pool=pool, image="pool:1", node_id="node-1").executors()["gpu"]


def reserved(gpus: int) -> object:
    spec = executor(gpus)
    arguments = service_arguments(spec, {spec.secret.name: "id"})
    return arguments["task_template"]["Resources"]["Reservations"]


def test_an_executor_reserves_its_gpus() -> None:
    memory = {"MemoryBytes": 64 * 2**20}
    gpus = {"DiscreteResourceSpec": {"Kind": "gpu", "Value": 2}}
    assert reserved(2) == memory | {"GenericResources": [gpus]}
    assert reserved(0) == memory


def test_an_executor_advertises_the_gpus_of_its_task() -> None:
    [given] = read_config("MACHINE_RESOURCE_GPUs", DOCKER_RESOURCE_GPU="GPU-1,GPU-2")
    assert given == "GPU-1,GPU-2"
    assert read_config("MACHINE_RESOURCE_GPUs") == ["0"]  # no detection


def test_a_job_sees_its_own_gpus_only() -> None:
    assert read_config(
        "ENVIRONMENT_FOR_AssignedGPUs",
        "ENVIRONMENT_VALUE_FOR_UnAssignedGPUs",
        "AUTO_SET_NVIDIA_VISIBLE_DEVICES",
    ) == ["NVIDIA_VISIBLE_DEVICES=/^// CUDA_VISIBLE_DEVICES=/^//", "void", "False"]


@pytest.fixture
def entrypoint() -> ModuleType:
    return load_program("entrypoint")


@pytest.mark.parametrize("given", ["1", "0,1", "GPU-1,2"])
def test_gpus_without_uuids_are_rejected(
    entrypoint: ModuleType, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("DOCKER_RESOURCE_GPU", given)
    with pytest.raises(SystemExit, match="must name each by its UUID"):
        entrypoint.check_gpus()


@pytest.mark.parametrize("given", [None, "GPU-1", "GPU-1,GPU-2", "MIG-0a"])
def test_gpus_with_uuids_are_accepted(
    entrypoint: ModuleType, monkeypatch: pytest.MonkeyPatch, given: str | None
) -> None:
    monkeypatch.delenv("DOCKER_RESOURCE_GPU", raising=False)
    if given is not None:
        monkeypatch.setenv("DOCKER_RESOURCE_GPU", given)
    entrypoint.check_gpus()


def docker_arguments(directory: Path, *arguments: str) -> list[str]:
    """Return the arguments that the wrapper passes to docker."""
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
    done = subprocess.run([wrapper, *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.splitlines()


LABELS = [
    *("--label", "swarm-runner.executor=here"),
    *("--label", "swarm-runner.pool=galaxy"),
]


def test_nvidia_devices_are_left_to_the_container_runtime(tmp_path: Path) -> None:
    options = ["--memory=64m", "-e", "NVIDIA_VISIBLE_DEVICES=GPU-1"]
    devices = ["--device", "/dev/nvidiactl", "--device", "/dev/nvidia-uvm"]
    other = ["--device", "/dev/fuse"]
    # The job's own command must not change.
    rest = ["--workdir", "/scratch", "debian:trixie", "tool", "--device", "/dev/nvidia0", "a b", ""]
    arguments = docker_arguments(tmp_path, "create", *options, *devices, *other, *rest)
    assert arguments == ["create", "--interactive", *LABELS, *options, *other, *rest]


def test_other_docker_commands(tmp_path: Path) -> None:
    assert docker_arguments(tmp_path, "create", "image") == [
        "create",
        "--interactive",
        *LABELS,
        "image",
    ]
    assert docker_arguments(tmp_path, "start", "-a", "it") == [
        "start",
        "--attach",
        "--interactive",
        "it",
    ]
    prune = ["container", "prune", "-f", "--filter", "label=swarm-runner.executor=here"]
    assert (
        docker_arguments(tmp_path, "container", "prune", "-f", "--filter=label=org.htcondor")
        == prune
    )
    assert docker_arguments(tmp_path, "rm", "it") == ["rm", "it"]
