"""GPUs: from the Swarm to an executor, and from there to a job's container."""

from __future__ import annotations

from types import ModuleType

import pytest

from swarm_runner.model.pool import CapacityClass, Pool
from swarm_runner.swarm.engine_api import service_arguments
from swarm_runner.swarm.specs import ServiceSpec, Stack
from tests.unit.swarm.image import load_program, read_config


def executor(gpus: int) -> ServiceSpec:
    pool = Pool(name="galaxy", classes={"gpu": CapacityClass(memory_mb=64, gpus=gpus)})
    return Stack(pool=pool, image="pool:1", node_id="node-1").executors()["gpu"]


def reserved(gpus: int) -> object:
    spec = executor(gpus)
    arguments = service_arguments(spec, {spec.secrets[0].name: "id"})
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
