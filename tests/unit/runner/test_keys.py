"""Each key once: adopted, looked up when in doubt, withdrawn when a batch breaks off."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from swarm_runner.errors import InvalidInputError, SubmitUnresolvedError, UnreachableError
from swarm_runner.model.job import JobId, JobState
from tests.unit.runner.conftest import RunnerHarness


def test_the_same_key_adopts_the_first_job(harness: RunnerHarness) -> None:
    one, many = harness.invocation("one"), harness.invocation("many", repeat=2)
    with harness.runner() as runner:
        first = runner.submit([one, many])
        assert [job.id for job in runner.submit([one, many])] == [job.id for job in first]
    with harness.runner() as again:
        assert [job.id for job in again.submit([many, one])] == [
            first[1].id,
            first[2].id,
            first[0].id,
        ]
    assert len(harness.access_point.queue) == 3


def test_a_key_that_has_ended_is_adopted_with_its_outcome(harness: RunnerHarness) -> None:
    one = harness.invocation("one")
    with harness.runner() as runner:
        (job,) = runner.submit([one])
    harness.run_later(harness.access_point.start, job.id)
    harness.run_later(harness.access_point.finish, job.id, 3)
    with harness.runner() as again:
        (adopted,) = again.submit([one])
    assert (adopted.id, adopted.state) == (job.id, JobState.COMPLETED)
    assert adopted.outcome is not None
    assert adopted.outcome.exit_code == 3
    assert harness.access_point.calls["submit"] == 1


def test_keys_that_ended_before_are_adopted_one_after_another(harness: RunnerHarness) -> None:
    keys = [f"key-{number}" for number in range(4)]
    with harness.runner() as runner:
        jobs = runner.submit([harness.invocation(key) for key in keys])
    for job in jobs:
        harness.run_later(harness.access_point.start, job.id)
        harness.run_later(harness.access_point.finish, job.id)
    harness.clock.advance(3600)
    sent = harness.access_point.calls["submit"]
    with harness.runner() as again:
        for key, job in zip(keys, jobs, strict=True):
            assert [one.id for one in again.submit([harness.invocation(key)])] == [job.id]
    assert harness.access_point.calls["submit"] == sent


def test_a_look_at_the_history_is_news_of_those_keys_alone(poll_harness: RunnerHarness) -> None:
    with poll_harness.runner() as runner:
        jobs = runner.submit([poll_harness.invocation("asked"), poll_harness.invocation("not")])
        other = runner.submit([poll_harness.invocation("going")])[0]
    for job in jobs:
        poll_harness.run_later(poll_harness.access_point.start, job.id)
        poll_harness.run_later(poll_harness.access_point.finish, job.id)
    with poll_harness.runner() as again:
        again.poll()
        poll_harness.run_later(poll_harness.access_point.start, other.id)
        poll_harness.run_later(poll_harness.access_point.finish, other.id)
        again.submit([poll_harness.invocation("asked")])
        ended = [change.job.key for change in again.poll() if change.job.state.ended]
        assert sorted(set(ended)) == ["asked", "going"]


def test_forgotten_jobs_are_gone_but_their_keys_are_not_sent_again(harness: RunnerHarness) -> None:
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
        with pytest.raises(InvalidInputError, match="knows no such job"):
            runner.wait([ended])
        sent = harness.access_point.calls["submit"]
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
        assert harness.access_point.calls["submit"] == sent + 1


def test_a_keys_jobs_are_found_without_sending_it(harness: RunnerHarness) -> None:
    with harness.runner() as runner:
        jobs = runner.submit([harness.invocation("many", repeat=2)])
    with harness.runner() as again:
        assert [job.id for job in again.find("many")] == [job.id for job in jobs]
        assert again.find("other") == []
    assert harness.access_point.calls["submit"] == 1


def test_two_programs_of_one_name_send_a_key_once(harness: RunnerHarness) -> None:
    one = harness.invocation("one")
    with harness.runner() as first, harness.runner() as second:
        first.jobs()
        second.jobs()
        (mine,) = first.submit([one])
        (its,) = second.submit([one])
        assert mine.id == its.id
    assert len(harness.access_point.queue) == 1


def test_runners_of_two_names_do_not_see_each_other(harness: RunnerHarness) -> None:
    with harness.runner("left") as left, harness.runner("right") as right:
        (one,) = left.submit([harness.invocation("same")])
        (other,) = right.submit([harness.invocation("same")])
        assert one.id != other.id
        assert [job.id for job in left.recover()] == [one.id]
        with pytest.raises(InvalidInputError, match="knows no such job"):
            left.wait([other])


@pytest.mark.parametrize("committed", [True, False])
def test_a_submit_in_doubt_is_looked_up_and_never_sent_twice(
    harness: RunnerHarness, committed: bool
) -> None:
    batch = [harness.invocation(command=["echo", str(n)]) for n in range(20)]
    harness.access_point.submit_failures = [committed]
    with harness.runner() as runner:
        jobs = runner.submit(batch)
        assert [job.key for job in jobs] == [one.key for one in batch]
        assert sorted(job.id for job in jobs) == sorted(harness.access_point.queue)
        assert len(runner.poll()) == 20
    assert harness.access_point.calls["submit"] == (1 if committed else 2)


def test_an_access_point_that_never_takes_a_submit(harness: RunnerHarness) -> None:
    harness.access_point.submit_failures = [False] * 9
    with harness.runner() as runner, pytest.raises(UnreachableError, match="took no submit"):
        runner.submit([harness.invocation()])
    assert harness.access_point.queue == {}


@pytest.mark.parametrize("made_up", [True, False])
def test_what_nobody_can_tell_is_said_and_mended_by_submitting_again(
    log_harness: RunnerHarness, made_up: bool
) -> None:
    batch = [log_harness.invocation(None if made_up else f"k{n}") for n in range(3)]
    with log_harness.runner() as runner:
        runner.jobs()
        jobs = log_harness.access_point.jobs
        log_harness.access_point.submit_failures = [True]
        log_harness.access_point.jobs = _unreachable  # type: ignore[method-assign,assignment]
        with pytest.raises(SubmitUnresolvedError, match="Submit the same invocations again"):
            runner.submit(batch)
        log_harness.access_point.jobs = jobs  # type: ignore[method-assign]
        again = runner.submit(batch)
        assert [job.key for job in again] == [one.key for one in batch]
        assert sorted(job.id for job in runner.jobs()) == sorted(log_harness.access_point.queue)
    assert len(log_harness.access_point.queue) == 3


def test_in_doubt_made_up_keys_are_looked_up_too(poll_harness: RunnerHarness) -> None:
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
    raise UnreachableError(f"nobody there for {arguments} {kwargs}")


def test_a_batch_that_cannot_be_sent_whole_is_withdrawn(harness: RunnerHarness) -> None:
    harness.access_point.submit_failures = []
    submit, sent = harness.access_point.submit, 0

    def second_fails(batch: object, *, spool: bool = False) -> object:
        nonlocal sent
        sent += 1
        if sent == 2:
            raise UnreachableError("gone")
        return submit(batch, spool=spool)  # type: ignore[arg-type]

    harness.access_point.submit = second_fails  # type: ignore[method-assign,assignment]
    batch = [harness.invocation("a"), harness.invocation("b", environment={"X": "1"})]
    with harness.runner() as runner:
        with pytest.raises(UnreachableError, match="gone"):
            runner.submit(batch)
        assert harness.access_point.queue == {}
        assert runner.poll() == []
        assert runner.jobs() == []
        harness.clock.advance(5)
        # Withdrawn is as good as never sent.
        assert [job.state for job in runner.submit(batch)] == [JobState.IDLE, JobState.IDLE]
    with harness.runner() as again:
        assert [job.key for job in again.recover()] == ["a", "b"]


def test_recovered_jobs_are_the_same_in_both_ways(log_harness: RunnerHarness) -> None:
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
    log_harness.run_later(access_point.remove, [ids[3]], "nobody wants it")
    log_harness.run_later(access_point.hold, [ids[6]], "wait")
    with log_harness.runner() as by_log:
        told = by_log.recover()
    log_harness.destination = polling
    with log_harness.runner() as by_asking:
        asked = by_asking.recover()
    assert sorted(asked, key=lambda job: job.id) == sorted(told, key=lambda job: job.id)
    assert len(asked) == len(ids)


def test_a_key_of_which_some_jobs_have_left_the_queue_is_whole(poll_harness: RunnerHarness) -> None:
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


def test_to_find_a_key_is_not_to_wait_for_a_submit_that_hangs(harness: RunnerHarness) -> None:
    with harness.runner() as runner:
        (job,) = runner.submit([harness.invocation("one")])
        with ThreadPoolExecutor(1) as other, runner._core.lock:
            assert other.submit(runner.find, "one").result(timeout=10) == [job]
