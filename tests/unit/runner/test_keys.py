"""Each key runs once: found, looked up when in doubt, withdrawn when a batch fails."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from swarm_runner.errors import InvalidInputError, SubmitUnresolvedError, UnreachableError
from swarm_runner.model.job import JobId, JobState
from tests.unit.runner.conftest import RunnerHarness


def test_the_same_key_adopts_the_first_job(harness: RunnerHarness) -> None:
    single, many = harness.invocation("one"), harness.invocation("many", repeat=2)
    with harness.runner() as runner:
        first = runner.submit([single, many])
        assert [job.id for job in runner.submit([single, many])] == [job.id for job in first]
    with harness.runner() as again:
        assert [job.id for job in again.submit([many, single])] == [
            first[1].id,
            first[2].id,
            first[0].id,
        ]
    assert len(harness.access_point.queue) == 3


def test_a_key_that_has_ended_is_adopted_with_its_outcome(harness: RunnerHarness) -> None:
    invocation = harness.invocation("one")
    with harness.runner() as runner:
        (job,) = runner.submit([invocation])
    harness.run_later(harness.access_point.start, job.id)
    harness.run_later(harness.access_point.finish, job.id, 3)
    with harness.runner() as again:
        (found,) = again.submit([invocation])
    assert (found.id, found.state) == (job.id, JobState.COMPLETED)
    assert found.outcome is not None
    assert found.outcome.exit_code == 3
    assert harness.access_point.calls["submit"] == 1


def test_keys_of_ended_jobs_are_adopted_in_separate_submits(harness: RunnerHarness) -> None:
    keys = [f"key-{number}" for number in range(4)]
    with harness.runner() as runner:
        jobs = runner.submit([harness.invocation(key) for key in keys])
    for job in jobs:
        harness.run_later(harness.access_point.start, job.id)
        harness.run_later(harness.access_point.finish, job.id)
    harness.clock.advance(3600)
    submits = harness.access_point.calls["submit"]
    with harness.runner() as again:
        for key, job in zip(keys, jobs, strict=True):
            assert [found.id for found in again.submit([harness.invocation(key)])] == [job.id]
    assert harness.access_point.calls["submit"] == submits


def test_looking_up_a_key_in_the_history_reports_no_other_keys(poll_harness: RunnerHarness) -> None:
    with poll_harness.runner() as runner:
        jobs = runner.submit([poll_harness.invocation("submitted"), poll_harness.invocation("not")])
        other = runner.submit([poll_harness.invocation("other")])[0]
    for job in jobs:
        poll_harness.run_later(poll_harness.access_point.start, job.id)
        poll_harness.run_later(poll_harness.access_point.finish, job.id)
    with poll_harness.runner() as again:
        again.poll()
        poll_harness.run_later(poll_harness.access_point.start, other.id)
        poll_harness.run_later(poll_harness.access_point.finish, other.id)
        again.submit([poll_harness.invocation("submitted")])
        ended = [change.job.key for change in again.poll() if change.job.state.ended]
        assert sorted(set(ended)) == ["other", "submitted"]


def test_keys_of_forgotten_jobs_are_not_submitted_again(harness: RunnerHarness) -> None:
    with harness.runner() as runner:
        ended, active = runner.submit([harness.invocation("ended"), harness.invocation("active")])
        many = runner.submit([harness.invocation("many", repeat=3)])
        for job in (ended, *many):
            harness.run_later(harness.access_point.start, job.id)
            harness.run_later(harness.access_point.finish, job.id)
        runner.wait([ended, *many])
        runner.forget([ended, active, many[0], JobId(9999, 0)])
        assert [job.id for job in runner.jobs()] == [active.id, many[1].id, many[2].id]
        assert runner.find("ended") == []
        with pytest.raises(InvalidInputError, match="does not know this job"):
            runner.wait([ended])
        submits = harness.access_point.calls["submit"]
        again = runner.submit(
            [
                harness.invocation("many", repeat=3),
                harness.invocation("ended"),
                harness.invocation("new"),
            ]
        )
        assert [job.id for job in again[:4]] == [*(job.id for job in many), ended.id]
        assert again[3].outcome is not None
        assert again[3].outcome.ok
        assert harness.access_point.calls["submit"] == submits + 1


def test_find_returns_the_jobs_of_a_key_without_a_submit(harness: RunnerHarness) -> None:
    with harness.runner() as runner:
        jobs = runner.submit([harness.invocation("many", repeat=2)])
    with harness.runner() as again:
        assert [job.id for job in again.find("many")] == [job.id for job in jobs]
        assert again.find("other") == []
    assert harness.access_point.calls["submit"] == 1


def test_two_programs_of_one_name_submit_a_key_once(harness: RunnerHarness) -> None:
    invocation = harness.invocation("one")
    with harness.runner() as first, harness.runner() as second:
        first.jobs()
        second.jobs()
        (job,) = first.submit([invocation])
        (found,) = second.submit([invocation])
        assert job.id == found.id
    assert len(harness.access_point.queue) == 1


def test_runners_of_two_names_do_not_see_each_other(harness: RunnerHarness) -> None:
    with harness.runner("left") as left, harness.runner("right") as right:
        (left_job,) = left.submit([harness.invocation("same")])
        (right_job,) = right.submit([harness.invocation("same")])
        assert left_job.id != right_job.id
        assert [job.id for job in left.recover()] == [left_job.id]
        with pytest.raises(InvalidInputError, match="does not know this job"):
            left.wait([right_job])


@pytest.mark.parametrize("committed", [True, False])
def test_a_submit_in_doubt_is_looked_up_and_never_repeated(
    harness: RunnerHarness, committed: bool
) -> None:
    batch = [harness.invocation(command=["echo", str(n)]) for n in range(20)]
    harness.access_point.submit_failures = [committed]
    with harness.runner() as runner:
        jobs = runner.submit(batch)
        assert [job.key for job in jobs] == [invocation.key for invocation in batch]
        assert sorted(job.id for job in jobs) == sorted(harness.access_point.queue)
        assert len(runner.poll()) == 20
    assert harness.access_point.calls["submit"] == (1 if committed else 2)


def test_an_access_point_that_accepts_no_submit(harness: RunnerHarness) -> None:
    harness.access_point.submit_failures = [False] * 9
    with harness.runner() as runner, pytest.raises(UnreachableError, match="accepted no submit"):
        runner.submit([harness.invocation()])
    assert harness.access_point.queue == {}


@pytest.mark.parametrize("generated_keys", [True, False])
def test_an_unresolved_submit_is_resolved_by_submitting_again(
    log_harness: RunnerHarness, generated_keys: bool
) -> None:
    batch = [log_harness.invocation(None if generated_keys else f"k{n}") for n in range(3)]
    with log_harness.runner() as runner:
        runner.recover()
        jobs = log_harness.access_point.jobs
        log_harness.access_point.submit_failures = [True]
        log_harness.access_point.jobs = _unreachable  # type: ignore[method-assign,assignment]
        with pytest.raises(SubmitUnresolvedError, match="Submit the same invocations again"):
            runner.submit(batch)
        log_harness.access_point.jobs = jobs  # type: ignore[method-assign]
        again = runner.submit(batch)
        assert [job.key for job in again] == [invocation.key for invocation in batch]
        assert sorted(job.id for job in runner.jobs()) == sorted(log_harness.access_point.queue)
    assert len(log_harness.access_point.queue) == 3


def test_generated_keys_in_doubt_are_looked_up_too(poll_harness: RunnerHarness) -> None:
    batch = [poll_harness.invocation() for _ in range(3)]
    with poll_harness.runner() as runner:
        runner.jobs()
        jobs = poll_harness.access_point.jobs
        poll_harness.access_point.submit_failures = [True]
        poll_harness.access_point.jobs = _unreachable  # type: ignore[method-assign,assignment]
        with pytest.raises(SubmitUnresolvedError):
            runner.submit(batch)
        poll_harness.access_point.jobs = jobs  # type: ignore[method-assign]
        assert len(runner.submit(batch)) == 3
    assert len(poll_harness.access_point.queue) == 3


def _unreachable(*arguments: object, **kwargs: object) -> None:
    raise UnreachableError(f"unreachable: {arguments} {kwargs}")


def test_a_batch_that_fails_part_way_is_withdrawn(harness: RunnerHarness) -> None:
    harness.access_point.submit_failures = []
    submit, calls = harness.access_point.submit, 0

    def second_fails(batch: object, *, spool: bool = False) -> object:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise UnreachableError("no route")
        return submit(batch, spool=spool)  # type: ignore[arg-type]

    harness.access_point.submit = second_fails  # type: ignore[method-assign,assignment]
    batch = [harness.invocation("a"), harness.invocation("b", environment={"X": "1"})]
    with harness.runner() as runner:
        with pytest.raises(UnreachableError, match="no route"):
            runner.submit(batch)
        assert harness.access_point.queue == {}
        assert runner.poll() == []
        assert runner.jobs() == []
        harness.clock.advance(5)
        # A withdrawn job counts as never submitted.
        assert [job.state for job in runner.submit(batch)] == [JobState.IDLE, JobState.IDLE]
    with harness.runner() as again:
        assert [job.key for job in again.recover()] == ["a", "b"]


def test_recover_returns_the_same_jobs_from_the_log_and_by_polling(
    log_harness: RunnerHarness,
) -> None:
    polling = log_harness.destination.model_copy(update={"state_directory": str(log_harness.home)})
    with log_harness.runner() as runner:
        runner.submit([log_harness.invocation(f"k{n}", repeat=1 + n % 2) for n in range(6)])
    access_point = log_harness.access_point
    ids = sorted(access_point.queue)
    log_harness.clock.advance(5)
    for job in ids[:5]:
        access_point.start(job)
    log_harness.run_later(access_point.finish, ids[0], 0)
    log_harness.run_later(access_point.finish, ids[1], 2)
    log_harness.run_later(access_point.finish, ids[2], signal=11)
    log_harness.run_later(access_point.remove, [ids[3]], "not needed")
    log_harness.run_later(access_point.hold, [ids[6]], "wait")
    with log_harness.runner() as by_log:
        logged = by_log.recover()
    log_harness.destination = polling
    with log_harness.runner() as by_polling:
        polled = by_polling.recover()
    assert sorted(polled, key=lambda job: job.id) == sorted(logged, key=lambda job: job.id)
    assert len(polled) == len(ids)


def test_all_jobs_of_a_key_are_adopted_if_some_have_left_the_queue(
    poll_harness: RunnerHarness,
) -> None:
    many = poll_harness.invocation("many", repeat=3)
    with poll_harness.runner() as runner:
        jobs = runner.submit([many])
    for job in jobs[1:]:
        poll_harness.run_later(poll_harness.access_point.start, job.id)
        poll_harness.run_later(poll_harness.access_point.finish, job.id)
    with poll_harness.runner() as again:
        again.jobs()
        assert [job.id for job in again.submit([many])] == [job.id for job in jobs]
    assert poll_harness.access_point.calls["submit"] == 1


def test_find_does_not_wait_for_a_submit_that_hangs(harness: RunnerHarness) -> None:
    with harness.runner() as runner:
        (job,) = runner.submit([harness.invocation("one")])
        with ThreadPoolExecutor(1) as executor, runner._lock:
            assert executor.submit(runner.find, "one").result(timeout=10) == [job]


def test_a_job_that_ended_before_a_restart_can_be_waited_for_and_explained(
    harness: RunnerHarness,
) -> None:
    with harness.runner() as runner:
        (job,) = runner.submit([harness.invocation("key")])
        harness.run_later(harness.access_point.start, job.id)
        harness.run_later(harness.access_point.finish, job.id, 3)
    with harness.runner() as again:
        assert again.wait([job.id])[0].state is JobState.COMPLETED
    with harness.runner() as again:
        assert "exit code 3" in again.explain(job.id).summary
        with pytest.raises(InvalidInputError, match="does not know this job"):
            again.wait([JobId(9999, 0)])
