"""The conversion of Snakemake's resources to a request."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from snakemake.common.tbdstring import TBDString
from snakemake_executor_plugin_swarm_runner.foreign_resources import (
    ignored_message,
    ignored_resources,
)
from snakemake_executor_plugin_swarm_runner.resources import requested_class, requested_resources
from snakemake_interface_common.exceptions import WorkflowError

from swarm_runner import (
    CapacityClass,
    Destination,
    Invocation,
    Pool,
    Resources,
    Route,
    Runner,
    hookimpl,
)
from swarm_runner.testing import FakeAccessPoint

POOL = Pool(
    classes={
        "normal": CapacityClass(cpus=2, memory_mb=1000),
        "big": CapacityClass(cpus=8, memory_mb=4000, gpus=1),
        "vast": CapacityClass(cpus=1, memory_mb=8000),
        "guests": CapacityClass(cpus=8, memory_mb=16000, virtual_machines=1),
    }
)
DESTINATION = Destination(pool=POOL)


def _job(*, next_attempt: dict[str, Any] | None = None, **resources: Any) -> Any:
    """A job with these resources, and others at the next attempt."""
    resources = {"_cores": 1, "_nodes": 1, "tmpdir": TBDString()} | resources
    evaluable = SimpleNamespace(is_evaluable=lambda: next_attempt is not None)
    rule = SimpleNamespace(
        expand_resources=lambda *_, **__: resources | (next_attempt or {}),
        resources=SimpleNamespace(get=lambda _: evaluable),
    )
    return SimpleNamespace(
        resources=resources,
        rule=rule,
        wildcards_dict={},
        input=[],
        attempt=1,
        is_group=lambda: False,
    )


def _request(
    job: Any, *, escalate: bool = False, destination: Destination = DESTINATION
) -> dict[str, Any]:
    return requested_resources(job, destination, escalate=escalate).model_dump(exclude_unset=True)


def test_the_destinations_defaults_apply_to_what_a_rule_leaves_out() -> None:
    assert _request(_job()) == {"cpus": 1}


def test_all_resources_of_a_rule() -> None:
    job = _job(_cores=4, mem_mb=300, disk_mb=20, runtime=3, gpu=1, capacity_class="big")
    assert _request(job) == {
        "cpus": 4,
        "memory_mb": 300,
        "disk_mb": 20,
        "time_limit_s": 180,
        "gpus": 1,
    }
    assert requested_class(job) == "big"


def test_an_amount_too_small_for_a_container_is_rounded_up() -> None:
    assert _request(_job(mem_mb=5)) == {"cpus": 1, "memory_mb": 16}


def test_0_is_the_default_as_for_other_executors() -> None:
    assert _request(_job(mem_mb=0, mem_gb=0, disk_mb=0, runtime=0, gpu=0)) == {"cpus": 1}


@pytest.mark.parametrize(
    ("resources", "request_"),
    [
        ({"mem_mb": 11399.999999}, {"memory_mb": 11400}),
        ({"mem_mb": 0.3 * 3 * 1000}, {"memory_mb": 900}),
        ({"mem_mb": 900.0000001}, {"memory_mb": 901}),
        ({"mem_mb": "900"}, {"memory_mb": 900}),
        ({"mem_gb": 3.8}, {"memory_mb": 3892}),
        ({"mem_gb": "1.5"}, {"memory_mb": 1536}),
        ({"mem_gib": 2}, {"memory_mb": 2048}),
        ({"request_memory": 300}, {"memory_mb": 300}),
        ({"request_memory": "2 GB"}, {"memory_mb": 2048}),
        ({"htcondor_request_mem_mb": 300}, {"memory_mb": 300}),
        ({"mem_mb_per_cpu": 100, "_cores": 4}, {"memory_mb": 400, "cpus": 4}),
        ({"mem_mb_per_cpu": 100, "cpus_per_task": 4}, {"memory_mb": 400, "cpus": 4}),
        ({"mem_per_cpu": "1G", "_cores": 2}, {"memory_mb": 2048, "cpus": 2}),
        # Snakemake's default for mem_mb stays beside what the workflow set.
        ({"mem_mb": 1000, "mem_gb": 2}, {"memory_mb": 2048}),
        ({"mem_mb": 3000, "mem_gb": 2}, {"memory_mb": 3000}),
        ({"cpus_per_task": 8}, {"cpus": 8}),
        ({"cpus_per_task": 1.5}, {"cpus": 2}),
        ({"cpus_per_task": "3.9999999999999996"}, {"cpus": 4}),
        ({"cpus_per_task": 0.1 * 3 * 10, "_cores": 1}, {"cpus": 3}),
        ({"cpus_per_task": 0.5, "mem_mb_per_cpu": 100}, {"cpus": 1, "memory_mb": 100}),
        ({"request_cpus": 3, "_cores": 4}, {"cpus": 4}),
        ({"disk_gb": 1}, {"disk_mb": 1024}),
        ({"request_disk": 1025}, {"disk_mb": 2}),
        ({"request_disk": "1GB"}, {"disk_mb": 1024}),
        ({"request_gpus": 2}, {"gpus": 2}),
        ({"nvidia_gpu": 1}, {"gpus": 1}),
        ({"time_min": 2}, {"time_limit_s": 120}),
        ({"allowed_execute_duration": 90}, {"time_limit_s": 90}),
        ({"mem_mb": 100, "retry_request_memory": "1G"}, {"memory_mb": 100, "max_memory_mb": 1024}),
    ],
)
def test_numbers_and_resources_of_other_executors(
    resources: dict[str, Any], request_: dict[str, int]
) -> None:
    assert _request(_job(**resources)) == {"cpus": 1} | request_


class Group(list[Any]):
    """A group of jobs, with the resources that Snakemake combines."""

    def __init__(self, members: list[Any], **resources: Any) -> None:
        super().__init__(members)
        self.resources = resources

    def is_group(self) -> bool:
        return True


def test_a_group_whose_jobs_run_one_after_another_needs_the_most_of_each() -> None:
    members = [
        _job(_cores=2, mem_mb=100, runtime=3, disk_mb=7),
        _job(_cores=1, mem_gb=1, time_min=2),
    ]
    request = requested_resources(Group(members), DESTINATION, escalate=False, sequential=True)
    assert request.model_dump(exclude_unset=True) == {
        "cpus": 2,
        "memory_mb": 1024,
        "disk_mb": 7,
        "time_limit_s": 300,
    }


def test_a_group_with_a_job_without_a_time_limit_has_none() -> None:
    group = Group([_job(runtime=3), _job()])
    request = requested_resources(group, DESTINATION, escalate=False, sequential=True)
    assert request.time_limit_s is None


def test_a_nested_group_has_the_resources_that_snakemake_combines() -> None:
    members = [_job(_cores=2, mem_mb_per_cpu=100, time_min=2), _job(mem_mb_per_cpu=50, time_min=1)]
    # Snakemake adds up amounts per CPU, and takes the larger of the times.
    group = Group(members, _cores=3, mem_mb_per_cpu=150, time_min=2)
    assert _request(group) == {"cpus": 3, "memory_mb": 300, "time_limit_s": 180}


@pytest.mark.parametrize(
    ("resources", "ignored"),
    [
        ({"slurm_partition": "long", "slurm_account": "me"}, ["slurm_account", "slurm_partition"]),
        ({"tasks": 1, "nodes": 1}, []),
        ({"tasks": 4, "mpi": "srun"}, ["mpi", "tasks"]),
        ({"walltime": "4:00:00", "lsf_queue": "q"}, ["lsf_queue", "walltime"]),
        # A workflow may declare resources of its own, which limit what runs at the same time.
        ({"api_calls": 1, "mem_gb": 2, "mem_mib": 3, "capacity_class": "big"}, []),
    ],
)
def test_resources_without_a_meaning_here(resources: dict[str, Any], ignored: list[str]) -> None:
    assert sorted(ignored_resources(_job(**resources).resources)) == ignored


def test_the_message_about_ignored_resources_says_what_to_use() -> None:
    resources = _job(slurm_partition="long", queue="q", walltime="1:00").resources
    assert ignored_message(ignored_resources(resources)) == (
        "the resources queue, slurm_partition, walltime have no effect on this pool (a pool has "
        "capacity classes: choose one with capacity_class; set the time limit with runtime, in "
        "minutes)"
    )


def test_a_resource_that_is_not_known_yet_is_not_requested() -> None:
    assert _request(_job(mem_mb=TBDString())) == {"cpus": 1}


@pytest.mark.parametrize(
    ("resources", "max_memory_mb"),
    [
        ({"mem_mb": 100}, 8000),
        ({"mem_mb": 100, "_cores": 2}, 4000),
        ({"mem_mb": 100, "gpu": 1}, 4000),
        ({"mem_mb": 100, "max_mem_mb": 900}, 900),
        ({"mem_mb": 100, "max_mem_mb": 0}, None),
        ({"mem_mb": 9000}, None),
        ({"mem_mb": 100, "capacity_class": "big"}, 4000),
        ({"mem_mb": 100, "capacity_class": "vast"}, 8000),
        ({"mem_mb": 100, "_cores": 4, "capacity_class": "normal"}, 4000),
        ({"mem_mb": 100, "capacity_class": "none such"}, 8000),
    ],
)
def test_the_memory_after_a_retry(resources: dict[str, Any], max_memory_mb: int | None) -> None:
    assert _request(_job(**resources), escalate=True).get("max_memory_mb") == max_memory_mb


class RouteRecorder:
    """A plugin that records the routes of submitted invocations."""

    def __init__(self) -> None:
        self.routes: list[Route] = []

    @hookimpl
    def swarm_runner_amend_submit(self, route: Route) -> None:
        self.routes.append(route)


def test_the_memory_after_a_retry_is_of_a_class_that_runs_containers(tmp_path: Path) -> None:
    resources = requested_resources(_job(mem_mb=100), DESTINATION, escalate=True)
    invocation = Invocation(image="debian", command=("true",), resources=resources)
    destination = DESTINATION.model_copy(update={"state_directory": str(tmp_path)})
    recorder = RouteRecorder()
    runner = Runner(destination, access_point=FakeAccessPoint(), plugins=[recorder])
    runner.submit([invocation])
    (route,) = recorder.routes
    assert route.candidates == ("normal", "vast")


def test_the_memory_after_a_retry_fits_the_destinations_other_defaults() -> None:
    two_cpus = DESTINATION.model_copy(update={"resources": Resources(cpus=2, gpus=1)})
    request = _request(_job(mem_mb=100), escalate=True, destination=two_cpus)
    assert request["max_memory_mb"] == 4000
    with_maximum = DESTINATION.model_copy(update={"resources": Resources(max_memory_mb=2000)})
    assert "max_memory_mb" not in _request(
        _job(mem_mb=100), escalate=True, destination=with_maximum
    )
    of_class_big = DESTINATION.model_copy(update={"capacity_class": "big"})
    request = _request(_job(mem_mb=100, _cores=2), escalate=True, destination=of_class_big)
    assert request["max_memory_mb"] == 4000


def test_a_rule_that_scales_its_memory_is_not_escalated() -> None:
    job = _job(mem_mb=100, next_attempt={"mem_mb": 200})
    assert "max_memory_mb" not in _request(job, escalate=True)
    job = _job(mem_gb=1, next_attempt={"mem_gb": 2})
    assert "max_memory_mb" not in _request(job, escalate=True)
    constant = _job(mem_mb=100, next_attempt={"mem_mb": 100})
    assert _request(constant, escalate=True)["max_memory_mb"] == 8000


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gpu", "many"),
        ("mem_mb", "a lot"),
        ("mem_mb", float("inf")),
        ("mem_mb", float("nan")),
        ("mem_gb", True),
        ("runtime", -1),
        ("request_memory", "2 * RequestCpus"),
    ],
)
def test_a_resource_of_the_wrong_type_is_rejected(name: str, value: object) -> None:
    resources: dict[str, Any] = {name: value}
    with pytest.raises(WorkflowError, match=re.escape(f"resource {name}={value!r} is not")):
        _request(_job(**resources))


def test_a_class_is_a_text() -> None:
    with pytest.raises(WorkflowError, match="capacity_class=3 is not a text"):
        requested_class(_job(capacity_class=3))
