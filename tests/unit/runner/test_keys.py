"""Each key once: adopted, looked up when in doubt, withdrawn when a batch breaks off."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from swarm_runner.errors import InvalidInputError, OutOfReachError, UnknownSubmitError
from swarm_runner.model.job import JobId, JobState
from tests.unit.runner.conftest import World


def test_the_same_key_adopts_the_first_job(world: World) -> None:
    one, many = world.invocation("one"), world.invocation("many", repeat=2)
    with world.runner() as runner:
        first = runner.submit([one, many])
        assert [job.id for job in runner.submit([one, many])] == [job.id for job in first]
    with world.runner() as again:
        assert [job.id for job in again.submit([many, one])] == [
            first[1].id,
            first[2].id,
            first[0].id,
        ]
    assert len(world.access_point.queue) == 3


def test_a_key_that_has_ended_is_adopted_with_its_outcome(world: World) -> None:
    one = world.invocation("one")
    with world.runner() as runner:
        (job,) = runner.submit([one])
    world.later(world.access_point.start, job.id)
    world.later(world.access_point.finish, job.id, 3)
    with world.runner() as again:
        (adopted,) = again.submit([one])
    assert (adopted.id, adopted.state) == (job.id, JobState.COMPLETED)
    assert adopted.outcome is not None
    assert adopted.outcome.exit_code == 3
    assert world.access_point.calls["submit"] == 1


def test_keys_that_ended_before_are_adopted_one_after_another(world: World) -> None:
    keys = [f"key-{number}" for number in range(4)]
    with world.runner() as runner:
        jobs = runner.submit([world.invocation(key) for key in keys])
    for job in jobs:
        world.later(world.access_point.start, job.id)
        world.later(world.access_point.finish, job.id)
    world.clock.forward(3600)
    sent = world.access_point.calls["submit"]
    with world.runner() as again:
        for key, job in zip(keys, jobs, strict=True):
            assert [one.id for one in again.submit([world.invocation(key)])] == [job.id]
    assert world.access_point.calls["submit"] == sent


def test_a_look_at_the_history_is_news_of_those_keys_alone(polled: World) -> None:
    with polled.runner() as runner:
        jobs = runner.submit([polled.invocation("asked"), polled.invocation("not")])
        other = runner.submit([polled.invocation("going")])[0]
    for job in jobs:
        polled.later(polled.access_point.start, job.id)
        polled.later(polled.access_point.finish, job.id)
    with polled.runner() as again:
        again.poll()
        polled.later(polled.access_point.start, other.id)
        polled.later(polled.access_point.finish, other.id)
        again.submit([polled.invocation("asked")])
        ended = [change.job.key for change in again.poll() if change.job.state.ended]
        assert sorted(set(ended)) == ["asked", "going"]


def test_forgotten_jobs_are_gone_but_their_keys_are_not_sent_again(world: World) -> None:
    with world.runner() as runner:
        ended, active = runner.submit([world.invocation("ended"), world.invocation("active")])
        many = runner.submit([world.invocation("many", repeat=3)])
        for job in (ended, *many):
            world.later(world.access_point.start, job.id)
            world.later(world.access_point.finish, job.id)
        runner.wait([ended, *many])
        runner.forget([ended, active, many[0], JobId(9999, 0)])
        assert [job.id for job in runner.jobs()] == [active.id, many[1].id, many[2].id]
        assert runner.find("ended") == []
        with pytest.raises(InvalidInputError, match="knows no such job"):
            runner.wait([ended])
        sent = world.access_point.calls["submit"]
        again = runner.submit(
            [world.invocation("many", repeat=3), world.invocation("ended"), world.invocation("new")]
        )
        assert [job.id for job in again[:4]] == [*(job.id for job in many), ended.id]
        assert again[3].outcome is not None
        assert again[3].outcome.ok
        assert world.access_point.calls["submit"] == sent + 1


def test_a_keys_jobs_are_found_without_sending_it(world: World) -> None:
    with world.runner() as runner:
        jobs = runner.submit([world.invocation("many", repeat=2)])
    with world.runner() as again:
        assert [job.id for job in again.find("many")] == [job.id for job in jobs]
        assert again.find("other") == []
    assert world.access_point.calls["submit"] == 1


def test_two_programs_of_one_name_send_a_key_once(world: World) -> None:
    one = world.invocation("one")
    with world.runner() as first, world.runner() as second:
        first.jobs()
        second.jobs()
        (mine,) = first.submit([one])
        (its,) = second.submit([one])
        assert mine.id == its.id
    assert len(world.access_point.queue) == 1


def test_runners_of_two_names_do_not_see_each_other(world: World) -> None:
    with world.runner("left") as left, world.runner("right") as right:
        (one,) = left.submit([world.invocation("same")])
        (other,) = right.submit([world.invocation("same")])
        assert one.id != other.id
        assert [job.id for job in left.recover()] == [one.id]
        with pytest.raises(InvalidInputError, match="knows no such job"):
            left.wait([other])


@pytest.mark.parametrize("committed", [True, False])
def test_a_submit_in_doubt_is_looked_up_and_never_sent_twice(world: World, committed: bool) -> None:
    batch = [world.invocation(command=["echo", str(n)]) for n in range(20)]
    world.access_point.doubts = [committed]
    with world.runner() as runner:
        jobs = runner.submit(batch)
        assert [job.key for job in jobs] == [one.key for one in batch]
        assert sorted(job.id for job in jobs) == sorted(world.access_point.queue)
        assert len(runner.poll()) == 20
    assert world.access_point.calls["submit"] == (1 if committed else 2)


def test_an_access_point_that_never_takes_a_submit(world: World) -> None:
    world.access_point.doubts = [False] * 9
    with world.runner() as runner, pytest.raises(OutOfReachError, match="took no submit"):
        runner.submit([world.invocation()])
    assert world.access_point.queue == {}


@pytest.mark.parametrize("made_up", [True, False])
def test_what_nobody_can_tell_is_said_and_mended_by_submitting_again(
    logged: World, made_up: bool
) -> None:
    batch = [logged.invocation(None if made_up else f"k{n}") for n in range(3)]
    with logged.runner() as runner:
        runner.jobs()
        jobs = logged.access_point.jobs
        logged.access_point.doubts = [True]
        logged.access_point.jobs = _unreachable  # type: ignore[method-assign,assignment]
        with pytest.raises(UnknownSubmitError, match="Submit the same invocations again"):
            runner.submit(batch)
        logged.access_point.jobs = jobs  # type: ignore[method-assign]
        again = runner.submit(batch)
        assert [job.key for job in again] == [one.key for one in batch]
        assert sorted(job.id for job in runner.jobs()) == sorted(logged.access_point.queue)
    assert len(logged.access_point.queue) == 3


def test_in_doubt_made_up_keys_are_looked_up_too(polled: World) -> None:
    batch = [polled.invocation() for _ in range(3)]
    with polled.runner() as runner:
        runner.jobs()
        jobs = polled.access_point.jobs
        polled.access_point.doubts = [True]
        polled.access_point.jobs = _unreachable  # type: ignore[method-assign,assignment]
        with pytest.raises(UnknownSubmitError):
            runner.submit(batch)
        polled.access_point.jobs = jobs  # type: ignore[method-assign]
        assert len(runner.submit(batch)) == 3
    assert len(polled.access_point.queue) == 3


def _unreachable(*arguments: object, **more: object) -> None:
    raise OutOfReachError(f"nobody there for {arguments} {more}")


def test_a_batch_that_cannot_be_sent_whole_is_withdrawn(world: World) -> None:
    world.access_point.doubts = []
    submit, sent = world.access_point.submit, 0

    def second_fails(batch: object, *, spool: bool = False) -> object:
        nonlocal sent
        sent += 1
        if sent == 2:
            raise OutOfReachError("gone")
        return submit(batch, spool=spool)  # type: ignore[arg-type]

    world.access_point.submit = second_fails  # type: ignore[method-assign,assignment]
    batch = [world.invocation("a"), world.invocation("b", environment={"X": "1"})]
    with world.runner() as runner:
        with pytest.raises(OutOfReachError, match="gone"):
            runner.submit(batch)
        assert world.access_point.queue == {}
        assert runner.poll() == []
        assert runner.jobs() == []
        world.clock.forward(5)
        # Withdrawn is as good as never sent.
        assert [job.state for job in runner.submit(batch)] == [JobState.IDLE, JobState.IDLE]
    with world.runner() as again:
        assert [job.key for job in again.recover()] == ["a", "b"]


def test_recovered_jobs_are_the_same_in_both_ways(logged: World) -> None:
    polling = logged.destination.model_copy(update={"state_directory": str(logged.home)})
    with logged.runner() as runner:
        runner.submit([logged.invocation(f"k{n}", repeat=1 + n % 2) for n in range(6)])
    access_point = logged.access_point
    ids = sorted(access_point.queue)
    logged.clock.forward(5)
    for job in ids[:5]:
        access_point.start(job)
    logged.later(access_point.finish, ids[0], 0)
    logged.later(access_point.finish, ids[1], 2)
    logged.later(access_point.finish, ids[2], signal=11)
    logged.later(access_point.remove, [ids[3]], "nobody wants it")
    logged.later(access_point.hold, [ids[6]], "wait")
    with logged.runner() as by_log:
        told = by_log.recover()
    logged.destination = polling
    with logged.runner() as by_asking:
        asked = by_asking.recover()
    assert sorted(asked, key=lambda job: job.id) == sorted(told, key=lambda job: job.id)
    assert len(asked) == len(ids)


def test_a_key_of_which_some_jobs_have_left_the_queue_is_whole(polled: World) -> None:
    many = polled.invocation("many", repeat=3)
    with polled.runner() as runner:
        jobs = runner.submit([many])
    for job in jobs[1:]:
        polled.later(polled.access_point.start, job.id)
        polled.later(polled.access_point.finish, job.id)
    with polled.runner() as again:
        again.jobs()
        assert [job.id for job in again.submit([many])] == [job.id for job in jobs]
    assert polled.access_point.calls["submit"] == 1


def test_to_find_a_key_is_not_to_wait_for_a_submit_that_hangs(world: World) -> None:
    with world.runner() as runner:
        (job,) = runner.submit([world.invocation("one")])
        with ThreadPoolExecutor(1) as other, runner._core.lock:
            assert other.submit(runner.find, "one").result(timeout=10) == [job]
