"""How often the access point is asked: seldom, whatever browsers do."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace

import pytest

from swarm_runner.condor.ports import Ad
from swarm_runner.errors import UnreachableError
from swarm_runner.model.htcondor import JobStatus
from swarm_runner.model.job import JobId, JobState
from swarm_runner.page import queue_reader
from swarm_runner.page.job_details import (
    DETAIL_AGE_S,
    DETAIL_INTERVAL_S,
    MAX_DETAILS,
    JobDetails,
)
from swarm_runner.page.queue_reader import INTERVAL_S, QueueReader
from swarm_runner.page.state import PageState
from tests.unit.page.made_pool import POOL, Clock, MadePool


def test_a_large_queue_is_read_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = MadePool(3, 5)
    reader = QueueReader(PageState(POOL, pool.clock), pool)
    assert reader.read() == INTERVAL_S
    times = iter([0.0, 10.0])
    monkeypatch.setattr(queue_reader, "time", SimpleNamespace(monotonic=lambda: next(times)))
    assert reader.read() == 500


def test_an_access_point_that_does_not_answer_leaves_the_last_list() -> None:
    pool = MadePool(3, 5)
    state = PageState(POOL, pool.clock)
    reader = QueueReader(state, pool)
    reader.read()
    before = state.jobs
    pool.unresponsive = {"jobs"}
    reader.read()
    assert state.jobs is before


def test_the_queue_is_read_when_a_browser_comes_and_not_before() -> None:
    pool = MadePool(3, 5)
    state = PageState(POOL, pool.clock)
    read = threading.Event()
    state.add_listener(read.set)
    with QueueReader(state, pool) as reader:
        assert not reader.is_watched
        assert not read.wait(0.05)
        reader.watch(jobs=True)
        assert read.wait(10)
        reader.watch(jobs=True)
    assert pool.calls["queued_jobs"] == 1


def hold(pool: MadePool, number: int) -> None:
    for position, ad in enumerate(pool.ads):
        ad["JobStatus"] = JobStatus.HELD if position < number else JobStatus.IDLE


def test_a_browser_that_shows_no_jobs_costs_a_number_alone() -> None:
    pool = MadePool(3, 5)
    hold(pool, 3)
    state = PageState(POOL, pool.clock)
    changed = threading.Event()
    state.add_listener(changed.set)
    with QueueReader(state, pool) as reader:
        reader.watch(jobs=False)
        assert changed.wait(10)
        assert state.held == 3
        assert pool.calls["queued_jobs"] == 0
        changed.clear()
        reader.watch(jobs=True)  # it does not wait for the interval's end
        assert changed.wait(INTERVAL_S / 2)
        assert state.jobs is not None
        assert state.held == state.jobs.by_state[JobState.HELD] == 3
    assert pool.calls["queued_jobs"] == 1


def test_an_access_point_that_does_not_answer_leaves_the_last_number() -> None:
    pool = MadePool(3, 5)
    hold(pool, 3)
    state = PageState(POOL, pool.clock)
    reader = QueueReader(state, pool)
    reader.count()
    pool.unresponsive = {"queue"}
    reader.count()
    assert state.held == 3


class SlowSource:
    """An access point that answers when the test lets it."""

    def __init__(self) -> None:
        self.asked: list[JobId] = []
        self.answer = threading.Semaphore(0)
        self.reachable = True

    def queued_jobs(self, _limit: int) -> list[Ad]:
        return []

    def find_job(self, job_id: JobId) -> Ad | None:
        self.asked.append(job_id)
        assert self.answer.acquire(timeout=10)
        if not self.reachable:
            raise UnreachableError("nothing answers")
        return {"ClusterId": job_id.cluster, "ProcId": job_id.proc}


def test_a_thousand_browsers_cause_one_query() -> None:
    async def check() -> None:
        source, clock = SlowSource(), Clock()
        details = JobDetails(source, clock)
        gets = [asyncio.create_task(details.get(JobId(1, 0))) for _ in range(1000)]
        await asyncio.sleep(0)
        source.answer.release()
        assert {(await get).ad == {"ClusterId": 1, "ProcId": 0} for get in gets} == {True}
        clock.now_s += DETAIL_AGE_S - 1
        await details.get(JobId(1, 0))
        assert len(source.asked) == 1
        details.close()

    asyncio.run(check())


def test_a_thousand_different_jobs_cause_one_query_at_a_time() -> None:
    async def check() -> None:
        source, clock = SlowSource(), Clock()
        details = JobDetails(source, clock)
        gets = [asyncio.create_task(details.get(JobId(n, 0))) for n in range(1000)]
        await asyncio.sleep(0)
        source.answer.release()
        answers = [await get for get in gets]
        assert len(source.asked) == 1
        assert sum(answer.ad is not None for answer in answers) == 1
        assert answers[-1].problem.startswith("Many jobs are being looked at")
        clock.now_s += DETAIL_INTERVAL_S
        source.answer.release()
        assert (await details.get(JobId(7, 0))).ad is not None
        details.close()

    asyncio.run(check())


def test_a_browser_does_not_wait_long() -> None:
    async def check() -> None:
        source = SlowSource()
        changed = asyncio.Event()
        details = JobDetails(source, Clock(), changed.set)
        answer = await details.get(JobId(1, 0), timeout_s=0.01)
        assert (answer.ad, answer.problem) == (None, "The access point has not answered yet.")
        source.answer.release()
        await asyncio.wait_for(changed.wait(), 10)
        assert details.known(JobId(1, 0)) is not None
        details.close()

    asyncio.run(check())


def test_what_was_known_last_stays_while_the_access_point_is_silent() -> None:
    async def check() -> None:
        source, clock = SlowSource(), Clock()
        details = JobDetails(source, clock)
        source.answer.release()
        await details.get(JobId(1, 0))
        source.reachable = False
        clock.now_s += DETAIL_AGE_S
        source.answer.release()
        answer = await details.get(JobId(1, 0))
        assert answer.ad == {"ClusterId": 1, "ProcId": 0}
        assert answer.problem == "nothing answers"
        details.close()

    asyncio.run(check())


def test_what_is_kept_of_jobs_is_bounded() -> None:
    async def check() -> None:
        source, clock = SlowSource(), Clock()
        details = JobDetails(source, clock)
        for number in range(MAX_DETAILS + 5):
            clock.now_s += DETAIL_INTERVAL_S
            source.answer.release()
            await details.get(JobId(number, 0))
        assert details.known(JobId(0, 0)) is None
        assert details.known(JobId(MAX_DETAILS + 4, 0)) is not None
        details.close()

    asyncio.run(check())
