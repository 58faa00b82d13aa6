"""The list of jobs: filters, order, reasons; and the history of one job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from swarm_runner.condor.ports import Ad
from swarm_runner.model.htcondor import HoldCode, JobStatus
from swarm_runner.model.job import Job, JobId, JobState
from swarm_runner.page.jobs import (
    MAX_CHOICES,
    MAX_FILTER_LENGTH,
    Explainer,
    JobBoard,
    JobFilter,
    JobRow,
)
from swarm_runner.page.timeline import timeline
from swarm_runner.page.views import View, parse_job_id
from swarm_runner.runner.explanation import explain
from tests.unit.page.made_pool import NOW_S, POOL, MadePool

POOL_OF_JOBS = MadePool(50, 300)


def board(ads: Sequence[Ad] = POOL_OF_JOBS.ads) -> JobBoard:
    return JobBoard(ads, NOW_S, limit=20_000)


def rows(ads: Sequence[Ad] = POOL_OF_JOBS.ads) -> list[JobRow]:
    """All jobs of a board, page by page."""
    listed = board(ads)
    pages = range(1, listed.select(JobFilter()).pages + 1)
    return [job for number in pages for job in listed.select(JobFilter(page=number)).jobs]


def test_held_jobs_come_first_and_then_those_that_wait_longest() -> None:
    jobs = rows()
    assert [job.state for job in jobs] == sorted(
        (job.state for job in jobs),
        key=[JobState.HELD, JobState.IDLE, JobState.RUNNING].index,
    )
    idle = [job.entered_s for job in jobs if job.state is JobState.IDLE]
    assert idle == sorted(idle)


@pytest.mark.parametrize(
    "job_filter",
    [
        JobFilter(state="idle"),
        JobFilter(capacity_class="gpu"),
        JobFilter(tool="star"),
        JobFilter(user="bob"),
        JobFilter(find="1001"),
        JobFilter(state="running", tool="bwa-mem2", user="alice"),
    ],
)
def test_a_filter_selects_what_it_names(job_filter: JobFilter) -> None:
    whole = board()
    page = whole.select(job_filter)
    assert 0 < page.total < len(whole)
    assert all(job_filter.accepts(job.ad) for job in page.jobs)
    accepted = sum(map(job_filter.accepts, POOL_OF_JOBS.ads))
    assert page.total == accepted


def test_the_user_is_the_one_who_has_the_share() -> None:
    galaxy = {"User": "galaxy@galaxy", "JobStatus": JobStatus.IDLE, "ProcId": 0}
    ads = [
        galaxy | {"ClusterId": 1, "AccountingGroup": "galaxy.anna_40uni_2ede"},
        galaxy | {"ClusterId": 2, "AccountingGroup": "galaxy.bob"},
        galaxy | {"ClusterId": 3},
    ]
    listed = board(ads)

    assert {job.user for job in rows(ads)} == {"galaxy/anna@uni.de", "galaxy/bob", "galaxy"}
    for name in ("galaxy/anna@uni.de", "anna@uni.de"):
        assert [job.id for job in listed.select(JobFilter(user=name)).jobs] == [JobId(1, 0)]
    assert [job.id for job in listed.select(JobFilter(user="galaxy")).jobs] == [JobId(3, 0)]


def test_pages_have_every_job_once() -> None:
    ids = [job.id for job in rows()]
    assert len(ids) == len(set(ids)) == len(POOL_OF_JOBS.ads)
    assert {board().find(job_id) is not None for job_id in ids} == {True}
    assert board().find(JobId(1, 1)) is None


def test_more_jobs_than_the_limit_have_a_message() -> None:
    ads = POOL_OF_JOBS.ads
    assert not JobBoard(ads[:100], NOW_S, limit=100).complete
    assert JobBoard(ads[:99], NOW_S, limit=100).complete


def test_choices_are_bounded() -> None:
    ads = [{**ad, "SwarmRunnerTool": f"tool-{n}"} for n, ad in enumerate(POOL_OF_JOBS.ads)]
    assert len(JobBoard(ads, NOW_S, 1000).tools) == MAX_CHOICES


@given(
    st.dictionaries(st.sampled_from(["state", "class", "tool", "user", "find", "page"]), st.text())
)
def test_any_query_is_a_filter_that_its_own_query_gives_again(query: dict[str, str]) -> None:
    job_filter = JobFilter.from_query(query)
    assert job_filter.page >= 1
    assert len(job_filter.tool) <= MAX_FILTER_LENGTH
    view = View.parse(f"/jobs?{job_filter.query()}")
    assert view is not None
    stripped = {name: getattr(view.job_filter, name) for name in ("state", "user", "page")}
    if all(text.isprintable() for text in query.values()):
        assert stripped == {name: getattr(job_filter, name) for name in stripped}


@given(st.text())
@example("//[")
@example("/jobs?" + "a&" * 900)
def test_any_address_is_a_view_or_none(url: str) -> None:
    view = View.parse(url)
    assert view is None or view.name in ("overview", "jobs", "job", "nodes", "history")
    hash(view)


@pytest.mark.parametrize(
    ("text", "job_id"),
    [
        ("17.0", JobId(17, 0)),
        ("017.00", JobId(17, 0)),
        ("17", None),
        ("17.", None),
        (".0", None),
        ("-1.0", None),
        ("1.0.0", None),
        ("²3.0", None),
        ("1" * 5000 + ".0", None),
    ],
)
def test_job_ids(text: str, job_id: JobId | None) -> None:
    assert parse_job_id(text) == job_id


def test_a_damaged_ad_is_left_out() -> None:
    ads: list[dict[str, Any]] = [{}, {"ClusterId": 1}, {"ClusterId": 1, "ProcId": 0}]
    assert len(JobBoard(ads, NOW_S, 10)) == 0
    bare = JobRow.from_ad({"ClusterId": 1, "ProcId": 0, "JobStatus": JobStatus.IDLE})
    assert bare is not None
    assert (bare.key, bare.user, bare.capacity_class) == ("", "", "")
    assert Explainer(POOL, []).explain(bare, NOW_S).summary


def test_a_reason_is_that_of_explain() -> None:
    slots = POOL_OF_JOBS.slot_list
    explainer = Explainer(POOL, slots)
    for row in rows()[:200]:
        job = Job(
            row.id, row.key, row.state, capacity_class=row.capacity_class, node=row.node or None
        )
        # Times are rounded to minutes; at full minutes, both are the same.
        now = row.entered_s + 600
        assert explainer.explain(row, now) == explain(job, row.ad, slots, POOL, now)


def test_jobs_that_request_the_same_are_explained_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from swarm_runner.page import jobs as jobs_module

    calls = []

    def count(*arguments: Any) -> Any:
        calls.append(arguments)
        return explain(*arguments)

    monkeypatch.setattr(jobs_module, "explain", count)
    ads = [{**ad, "EnteredCurrentStatus": int(NOW_S) - 500} for ad in POOL_OF_JOBS.ads]
    explainer = Explainer(POOL, POOL_OF_JOBS.slot_list)
    idle = [job for job in rows(ads) if job.state is JobState.IDLE]
    for job in idle:
        explainer.explain(job, NOW_S)
    assert len(idle) > 100
    # Twice for each class: also as if the job had just been submitted.
    assert len(calls) <= 3 * len(POOL.classes)


def messages(**ad: Any) -> list[str]:
    return [entry.message for entry in timeline({"QDate": 100, **ad})]


def test_the_events_of_a_job_that_ran_twice() -> None:
    assert messages(
        JobStatus=JobStatus.COMPLETED,
        EnteredCurrentStatus=900,
        CompletionDate=899,
        JobStartDate=200,
        LastVacateTime=400,
        VacateReason="the executor was drained",
        JobCurrentStartExecutingDate=500,
        NumJobStarts=2,
        MachineAttrCapacityClass0="big",
        MachineAttrSwarmNode0="node-3",
        ExitCode=1,
    ) == [
        "Submitted.",
        "Started for the first time.",
        "A run was ended before the job's end: the executor was drained",
        "Started in class big on node node-3, run 2.",
        "Ended with exit code 1.",
    ]


@pytest.mark.parametrize(
    ("ad", "message"),
    [
        (
            {
                "JobStatus": JobStatus.HELD,
                "HoldReasonCode": HoldCode.USER_REQUEST,
                "HoldReason": "x",
            },
            "Held: x",
        ),
        (
            {"JobStatus": JobStatus.HELD, "HoldReasonCode": HoldCode.SPOOLING_INPUT},
            "Waits for its input files.",
        ),
        ({"JobStatus": JobStatus.REMOVED, "RemoveReason": "by alice"}, "Removed: by alice"),
        ({"JobStatus": JobStatus.IDLE}, "Became idle: it waits for a slot."),
        (
            {"JobStatus": JobStatus.COMPLETED, "ExitBySignal": True, "ExitSignal": 9},
            "Ended by signal 9.",
        ),
    ],
)
def test_the_last_event(ad: dict[str, Any], message: str) -> None:
    assert messages(EnteredCurrentStatus=500, **ad)[-1] == message


def test_an_empty_ad_has_no_events() -> None:
    assert timeline({}) == []
