"""The conversion of Snakemake's resources to a request."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from snakemake.common.tbdstring import TBDString
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


def test_amounts_too_small_for_a_container_are_rounded_up() -> None:
    assert _request(_job(mem_mb=5, disk_mb=0)) == {"cpus": 1, "memory_mb": 16, "disk_mb": 1}


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
        ({"mem_mb": 100, "capacity_class": "big"}, 8000),
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
    assert route.candidates == ("normal", "big", "vast")


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
    constant = _job(mem_mb=100, next_attempt={"mem_mb": 100})
    assert _request(constant, escalate=True)["max_memory_mb"] == 8000


@pytest.mark.parametrize(("name", "value"), [("gpu", "many"), ("mem_mb", "a lot"), ("runtime", -1)])
def test_a_resource_of_the_wrong_type_is_rejected(name: str, value: object) -> None:
    resources: dict[str, Any] = {name: value}
    with pytest.raises(WorkflowError, match=f"resource {name}={value!r} is not a valid amount"):
        _request(_job(**resources))


def test_a_class_is_a_text() -> None:
    with pytest.raises(WorkflowError, match="capacity_class=3 is not a text"):
        requested_class(_job(capacity_class=3))
