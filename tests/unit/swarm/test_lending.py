"""When an executor lends: its START and RANK, evaluated by HTCondor's own ClassAds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from swarm_runner.condor.connection import classad
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.pool import Destination, Pool
from swarm_runner.policy.routing import swarm_runner_route
from swarm_runner.submit.translation import CLASS_REQUIREMENT, translate
from swarm_runner.swarm.specs import Stack
from tests.unit.swarm.image import IMAGE, read_config

POOL = Pool.model_validate(
    {
        "classes": {
            "small": {"memory_mb": 128},
            "normal": {"memory_mb": 1024},
            "big": {"cpus": 4, "memory_mb": 4096, "disk_mb": 10, "lend_max_s": 120},
        }
    }
)
# What a negotiator's ad says of an executor that ended its last job long ago, and later sent an ad
# as it does every minute.
NOW = 1_000_000
UNUSED = {
    "PartitionableSlot": True,
    "Cpus": 4,
    "TotalSlotCpus": 4,
    "ChildCurrentRank": [],
    "UnusedValue": 1,
    "UnusedTime": NOW - 3600,
    "MyCurrentTime": NOW - 30,
    "LastHeardFrom": NOW - 30,
}
JUST_UNUSED = UNUSED | {"UnusedValue": 0, "UnusedTime": NOW - 300}
JUST_USED = {"Cpus": 3, "UnusedValue": 0, "UnusedTime": NOW - 31, "ChildCurrentRank": [0.0]}
DYNAMIC = {
    "PartitionableSlot": None,
    "DynamicSlot": True,
    "Cpus": 1,
    "TotalSlotCpus": 1,
    "LastHeardFrom": None,
}


@pytest.fixture(scope="module")
def lender(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the configuration of an executor of class big."""
    path = tmp_path_factory.mktemp("lender") / "condor_config"
    files = [IMAGE / name for name in ("executor.conf", "lending.conf")]
    path.write_text("".join(file.read_text() for file in files))
    return configuration(path, "big")


def configuration(path: Path, name: str) -> dict[str, str]:
    environment = Stack(pool=POOL, image="i", node_id="n").executors()[name].environment
    names = ["START", "RANK", "Unused", "CapacityClass", "LendMaxS", "LendTo"]
    if name != "big":
        names = names[:2] + names[3:4]
    values = read_config(*names, CONDOR_CONFIG=str(path), **environment)
    return dict(zip(names, values, strict=True))


def at_now(text: str) -> str:
    return text.replace("time()", str(NOW))


def slot_ad(settings: dict[str, str], values: dict[str, Any]) -> Any:
    ad = classad().ClassAd({n: v for n, v in values.items() if v is not None})
    for name, text in settings.items():
        ad[name] = classad().ExprTree(at_now(text))
    ad["Requirements"] = classad().ExprTree("START")
    return ad


def job_ad(pool: Pool = POOL, **fields: Any) -> Any:
    """Return the ad of a job as the library submits it."""
    resources = {"memory_mb": 500, "disk_mb": 5} | fields
    invocation = Invocation(key="k", image="debian", command=("true",), resources=resources)
    route = swarm_runner_route(invocation, Destination(pool=pool), pool)
    written = dict(translate(invocation, route, pool).commands)
    ad = classad().ClassAd(
        {"WantDocker": True, "RequestMemory": resources["memory_mb"], "RequestDisk": 5120}
    )
    ad["Requirements"] = classad().ExprTree(written["requirements"])
    ad["SwarmRunnerClass"] = classad().ExprTree(written["My.SwarmRunnerClass"])
    if "allowed_execute_duration" in written:
        ad["AllowedExecuteDuration"] = int(written["allowed_execute_duration"])
    return ad


def accepts(settings: dict[str, str], values: dict[str, Any], job: Any) -> bool:
    """Return whether the executor accepts the job, whatever the job requires."""
    job["Requirements"] = True
    return bool(job.symmetricMatch(slot_ad(settings, values)))


@pytest.mark.parametrize(
    ("values", "lends"),
    [
        (UNUSED, True),
        (JUST_UNUSED, True),
        (JUST_UNUSED | {"LastHeardFrom": NOW - 6}, True),
        (JUST_UNUSED | {"LastHeardFrom": NOW - 5}, False),
        # Its clock is an hour ahead.
        (UNUSED | {"UnusedTime": NOW + 3600, "MyCurrentTime": NOW + 3605}, True),
        (UNUSED | {"UnusedTime": NOW - 5, "MyCurrentTime": NOW, "LastHeardFrom": NOW}, False),
        (UNUSED | {"UnusedTime": NOW - 5, "MyCurrentTime": NOW, "LastHeardFrom": NOW - 1}, True),
        # HTCondor has not evaluated it yet.
        (UNUSED | {"UnusedValue": None, "UnusedTime": None, "LastHeardFrom": NOW - 1}, False),
        (UNUSED | JUST_USED, False),
        (UNUSED | JUST_USED | {"LastHeardFrom": NOW - 4, "MyCurrentTime": NOW - 30}, True),
        (UNUSED | JUST_USED | {"LastHeardFrom": NOW - 5, "MyCurrentTime": NOW - 30}, False),
        # The ad that the schedd gets with a claim, for what is left.
        (UNUSED | JUST_USED | {"LastHeardFrom": None, "MyCurrentTime": NOW - 31}, True),
        (
            UNUSED
            | JUST_USED
            | {"LastHeardFrom": None, "MyCurrentTime": NOW - 31, "ChildCurrentRank": [0.0, 1.0]},
            False,
        ),
        # The executor itself.
        (UNUSED | {"LastHeardFrom": None, "UnusedValue": 0}, True),
        (UNUSED | JUST_USED | {"LastHeardFrom": None, "MyCurrentTime": NOW}, False),
        (DYNAMIC, True),
        (DYNAMIC | {"TotalTimeClaimedBusy": 7}, False),
    ],
)
def test_when_an_executor_lends(
    lender: dict[str, str], values: dict[str, Any], lends: bool
) -> None:
    assert accepts(lender, values, job_ad(time_limit_s=120)) == lends


@pytest.mark.parametrize(
    ("changes", "lends"),
    [
        ({}, True),
        ({"AllowedExecuteDuration": 121}, False),
        ({"AllowedExecuteDuration": None}, False),
        ({"AllowedExecuteDuration": "120"}, False),
        ({"SwarmRunnerClass": "small"}, True),
        ({"SwarmRunnerClass": "huge"}, False),
        ({"SwarmRunnerClass": "small,normal"}, False),
        ({"WantDocker": None}, False),
        ({"RequestDisk": 10_241}, False),
    ],
)
def test_which_jobs_borrow(lender: dict[str, str], changes: dict[str, Any], lends: bool) -> None:
    job = job_ad(time_limit_s=120)
    for name, value in changes.items():
        if value is None:
            del job[name]
        else:
            job[name] = value
    assert accepts(lender, UNUSED, job) == lends


def test_an_own_job_takes_what_is_free_at_once(lender: dict[str, str]) -> None:
    for values in (
        JUST_UNUSED | {"LastHeardFrom": NOW},
        UNUSED | JUST_USED,
        DYNAMIC | {"TotalTimeClaimedBusy": 7},
    ):
        assert accepts(lender, values, job_ad(memory_mb=2048))


def test_a_class_that_does_not_lend_runs_only_its_own_jobs() -> None:
    settings = configuration(IMAGE / "executor.conf", "normal")
    assert accepts(settings, UNUSED, job_ad(time_limit_s=1))
    assert not accepts(settings, UNUSED, job_ad(memory_mb=100, time_limit_s=1))


def test_a_job_requires_its_class_or_a_new_match_with_one_that_lends(
    lender: dict[str, str],
) -> None:
    normal = configuration(IMAGE / "executor.conf", "normal")
    short, long = job_ad(time_limit_s=120), job_ad(time_limit_s=121)
    never_busy = slot_ad(lender, DYNAMIC)
    for job, matches in ((short, (True, True, False)), (long, (True, False, False))):
        slots = (slot_ad(normal, UNUSED), slot_ad(lender, UNUSED), never_busy)
        assert tuple(bool(job.symmetricMatch(slot)) for slot in slots) == matches


def test_the_requirement_is_what_it_was_where_nothing_is_lent() -> None:
    for job, expected in (
        (job_ad(Pool(), time_limit_s=60), CLASS_REQUIREMENT),
        (job_ad(), CLASS_REQUIREMENT),
        (job_ad(time_limit_s=121), CLASS_REQUIREMENT),
    ):
        assert str(job["Requirements"]) == str(classad().ExprTree(expected))


def test_executors_prefer_jobs_of_their_class(lender: dict[str, str]) -> None:
    """The schedd gives a claim to no job of a lower rank, and jobs go to higher ranks first."""
    for job, expected in ((job_ad(memory_mb=2048), 1), (job_ad(time_limit_s=1), 0)):
        slot = slot_ad(lender, UNUSED)
        rank = classad().ExprTree(lender["RANK"])
        assert rank.eval(slot, job) == expected
