"""What jobs used, and the advice that follows."""

from __future__ import annotations

import random as random_module
import re
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from swarm_runner.metrics.usage import (
    MAX_EXCEEDING_SHARE,
    MAX_RISK,
    MIN_JOBS,
    Distribution,
    GroupBy,
    JobUsage,
    advised,
    job_usage_from_ad,
    percentile,
    summarize,
)
from swarm_runner.metrics.usage_formats import snakemake_profile, tpv, trace
from swarm_runner.model.htcondor import JobStatus

HOSTILE = "a: [b]\n<script>\u202e\x1b[31m'\"{}#"


def job(used_mb: int | None, requested_mb: int = 4096, **fields: Any) -> JobUsage:
    defaults = JobUsage(
        tool="bwa",
        image="bwa:1",
        capacity_class="normal",
        requested_mb=requested_mb,
        used_mb=used_mb,
        wait_s=10,
        run_s=100,
        memory_kills=0,
        completed=True,
        queued_s=1000,
        cpus=2,
    )
    return defaults._replace(**fields)


JOBS = st.lists(
    st.builds(
        job,
        st.none() | st.integers(0, 100_000),
        st.integers(16, 100_000),
        tool=st.sampled_from(["a", "b", ""]),
        run_s=st.none() | st.floats(0, 1e6),
        completed=st.booleans(),
    ),
    max_size=120,
)


@given(st.lists(st.floats(0, 1e9), min_size=1), st.floats(0, 100))
def test_a_percentile_is_a_value_that_enough_values_do_not_exceed(
    values: list[float], percent: float
) -> None:
    ordered = sorted(values)
    found = percentile(ordered, percent)
    assert found in values
    assert sum(value <= found for value in values) >= len(values) * percent / 100 - 1e-9
    lower = [value for value in values if value < found]
    assert not lower or len(lower) < len(values) * percent / 100 + 1e-9


@given(JOBS)
def test_advice_keeps_what_it_promises(jobs: list[JobUsage]) -> None:
    for group in summarize(jobs):
        measured = [
            each.used_mb
            for each in jobs
            if each.tool == group.name and each.completed and each.used_mb is not None
        ]
        if group.advice is None:
            assert group.reason
            continue
        assert len(measured) >= MIN_JOBS
        exceeding = sum(used > group.advice.memory_mb for used in measured) / len(measured)
        assert group.advice.exceeding_share == exceeding <= MAX_EXCEEDING_SHARE
        assert group.advice.freed_share < 1


@given(JOBS)
def test_a_replay_has_every_job_and_a_second_run_for_each_that_exceeds(
    jobs: list[JobUsage],
) -> None:
    advice = {group.name: group.advice for group in summarize(jobs) if group.advice}
    exceeding = sum(
        each.tool in advice
        and each.used_mb is not None
        and each.used_mb > advice[each.tool].memory_mb
        for each in jobs
    )
    assert len(advised(jobs)) == len(jobs) + exceeding


@given(JOBS, st.randoms(use_true_random=False))
def test_the_order_of_the_jobs_does_not_matter(
    jobs: list[JobUsage], source: random_module.Random
) -> None:
    shuffled = list(jobs)
    source.shuffle(shuffled)
    names = [group.name for group in summarize(jobs)]
    assert sorted(names) == sorted(group.name for group in summarize(shuffled))
    assert sum(group.jobs for group in summarize(shuffled)) == len(jobs)


def test_too_large_a_request_is_lowered_and_too_small_a_one_raised() -> None:
    (large,) = summarize([job(900 + n) for n in range(100)])
    assert large.advice is not None
    assert large.advice.memory_mb == 1152  # 997 MB and a tenth, in steps of 128 MB
    assert round(large.advice.freed_share, 3) == round(1 - 1152 / 4096, 3)
    (small,) = summarize([job(2000, 1024, memory_kills=1) for _ in range(100)])
    assert small.advice is not None
    assert small.advice.memory_mb == 2304
    assert small.advice.freed_share < 0
    assert small.memory_kills == 100


def test_a_request_that_suffices_is_not_raised() -> None:
    (group,) = summarize([job(4000 + n % 96) for n in range(100)])
    assert (group.advice, group.reason) == (None, "the request is right")


def test_the_advice_reserves_least_with_the_second_runs() -> None:
    # Five of 1,000 jobs need much more than the others. To kill them is cheaper than their memory
    # for all; where ten times as many do, it is not allowed.
    few = [job(100 + n % 20) for n in range(995)] + [job(3000)] * 5
    (group,) = summarize(few)
    assert group.advice is not None
    assert (group.advice.memory_mb, group.advice.exceeding_share) == (128, 0.005)
    assert round(group.advice.freed_share, 4) == round(1 - (128 + 0.005 * 4096) / 4096, 4)
    (group,) = summarize(few[:950] + [job(3000)] * 50)
    assert group.advice is not None
    assert (group.advice.memory_mb, group.advice.exceeding_share) == (3072, 0)


def test_the_advice_of_a_sample_holds_for_the_jobs_to_come() -> None:
    random = random_module.Random(1)  # noqa: S311
    exceeded = []
    for _ in range(200):
        sample = [job(round(random.lognormvariate(6, 0.5)), 16_384) for _ in range(300)]
        (group,) = summarize(sample)
        assert group.advice is not None
        to_come = [random.lognormvariate(6, 0.5) for _ in range(2000)]
        exceeded.append(sum(used > group.advice.memory_mb for used in to_come) / 2000)
    assert sum(share > MAX_EXCEEDING_SHARE for share in exceeded) / 200 <= MAX_RISK


def test_few_jobs_give_no_advice() -> None:
    (group,) = summarize([job(100)] * (MIN_JOBS - 1))
    assert (group.advice, group.reason) == (None, "19 of at least 20 measured jobs")
    assert group.used_mb == Distribution(19, 100, 100, 100)


def test_groups_by_image_and_class() -> None:
    jobs = [job(1), job(1, image="other:2"), job(1, capacity_class="big")]
    assert [g.name for g in summarize(jobs, GroupBy.IMAGE)] == ["bwa:1", "other:2"]
    assert [g.name for g in summarize(jobs, GroupBy.CLASS)] == ["normal", "big"]


def test_an_ad_of_the_history() -> None:
    ad = {
        "SwarmRunnerTool": "bwa",
        "DockerImage": "bwa:1",
        "SwarmRunnerClass": "big",
        "JobStatus": JobStatus.COMPLETED,
        "RequestCpus": 2,
        "RequestMemory": 2048,
        "MemoryUsage": 900,
        "QDate": 1000,
        "JobStartDate": 1010,
        "JobCurrentStartDate": 1100,
        "CompletionDate": 1160,
        "NumVacatesByReason": {"JobOutOfResources": 1},
    }
    expected = JobUsage("bwa", "bwa:1", "big", 2048, 900, 10, 60, 1, True, 1000, 2)
    assert job_usage_from_ad(ad) == expected
    assert job_usage_from_ad({}).used_mb is None


def test_the_advice_as_files_of_other_programs() -> None:
    groups = summarize(
        [job(900, tool=tool) for tool in ("x/y.z:1.0+g", HOSTILE) for _ in range(30)]
    )

    tools = yaml.safe_load(tpv(groups))["tools"]
    assert {pattern for pattern in tools if re.fullmatch(pattern, "x/y.z:1.0+g")}
    assert not {pattern for pattern in tools if re.fullmatch(pattern, "x/yxz:1.0+g")}
    assert any(re.fullmatch(pattern, HOSTILE) for pattern in tools)
    assert {settings["mem"] for settings in tools.values()} == {1.0}
    rules = yaml.safe_load(snakemake_profile(groups))["set-resources"]
    assert rules == {"x/y.z:1.0+g": {"mem_mb": 1024}, HOSTILE: {"mem_mb": 1024}}


def test_a_trace_of_the_jobs() -> None:
    jobs = [job(1, queued_s=1300), job(1, queued_s=1000, run_s=5.5), job(1, run_s=None)]
    assert trace(jobs) == (
        "time_s,duration_s,cpus,memory_mb,class\n0,5.5,2,4096,normal\n300,100,2,4096,normal\n"
    )
