"""Files that the access point does not see travel with the job, and come back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swarm_runner.condor.port import Receipt
from swarm_runner.errors import OutOfReachError
from swarm_runner.model.job import JobEvent, JobId, JobState, OutcomeKind
from swarm_runner.runner.fetching import FETCHES
from tests.unit.runner.conftest import World, events


def _copier(world: World) -> dict[str, Any]:
    (world.home / "sub").mkdir(exist_ok=True)
    (world.home / "sub" / "in").write_bytes(b"input")
    return {
        "working_directory": str(world.home),
        "inputs": ["sub/in"],
        "outputs": ["made/out"],
        "stdout": "log.txt",
    }


def test_there_and_back(world: World) -> None:
    with world.runner() as runner:
        jobs = runner.submit(
            [world.invocation(f"k{n}", **_copier(world) | {"stdout": f"{n}"}) for n in range(2)]
        )
        assert world.access_point.sandboxes[jobs[0].id] == {"sub/in": b"input"}
        # While the files travel HTCondor holds the job; that is nobody's business.
        assert events(runner.poll()) == [JobEvent.SUBMITTED] * 2
        for job in jobs:
            world.later(world.access_point.start, job.id)
            world.later(
                world.access_point.finish, job.id, outputs={"made/out": b"o", "stdout": b"said"}
            )
        ended = runner.wait(jobs)
        assert [job.outcome is not None and job.outcome.ok for job in ended] == [True, True]
        assert runner.poll() == []
    assert world.access_point.calls["retrieve"] == 1
    assert (world.home / "made" / "out").read_bytes() == b"o"
    assert (world.home / "0").read_bytes() == b"said"
    assert world.access_point.queue == {}


def test_after_a_restart_the_outputs_still_come(world: World) -> None:
    with world.runner() as runner:
        (job,) = runner.submit([world.invocation("one", **_copier(world))])
    world.later(world.access_point.start, job.id)
    world.later(world.access_point.finish, job.id, outputs={"made/out": b"o"})
    with world.runner() as again:
        assert [one.id for one in again.recover()] == [job.id]
        assert (world.home / "made" / "out").read_bytes() == b"o"
        (ended,) = again.submit([world.invocation("one", **_copier(world))])
    assert ended.state is JobState.COMPLETED


def test_only_the_machine_that_sent_fetches(world: World) -> None:
    with world.runner() as runner:
        (job,) = runner.submit([world.invocation(**_copier(world))])
        world.access_point.queue[job.id]["SwarmRunnerHost"] = "another-machine"
        world.later(world.access_point.start, job.id)
        world.later(world.access_point.finish, job.id, outputs={"made/out": b"o"})
        (ended,) = runner.wait([job])
    assert ended.outcome is not None
    assert ended.outcome.ok
    assert not (world.home / "made").exists()


@pytest.mark.parametrize("key", ["one", None])
def test_a_crash_before_the_files_were_sent(world: World, key: str | None) -> None:
    invocation = world.invocation(key, **_copier(world))
    spool = world.access_point.spool
    world.access_point.spool = _killed  # type: ignore[method-assign]
    with world.runner() as runner, pytest.raises(KeyboardInterrupt):
        runner.submit([invocation])
    world.access_point.spool = spool  # type: ignore[method-assign]
    assert len(world.access_point.queue) == 1
    world.clock.forward(5)
    with world.runner() as again:
        (job,) = again.submit([invocation])
        assert job.state is JobState.IDLE
        assert list(world.access_point.queue) == [job.id]
        assert job.id in world.access_point.sandboxes
        assert [one.id for one in again.recover()] == [job.id]


def _killed(receipt: Receipt) -> None:
    raise KeyboardInterrupt(receipt)


def test_files_that_cannot_be_sent_take_the_jobs_back(world: World) -> None:
    def broken(receipt: Receipt) -> None:
        raise OutOfReachError(f"the line broke at {receipt.cluster}")

    world.access_point.spool = broken  # type: ignore[method-assign]
    with world.runner() as runner:
        with pytest.raises(OutOfReachError, match="the line broke"):
            runner.submit([world.invocation("one", **_copier(world))])
        assert runner.jobs() == []
    assert world.access_point.queue == {}


def _refuse(which: Callable[[JobId], bool], world: World) -> None:
    retrieve = world.access_point.retrieve

    def partly(ids: list[JobId]) -> None:
        if any(which(job) for job in ids):
            raise OutOfReachError("the disk here is full")
        retrieve(ids)

    world.access_point.retrieve = partly  # type: ignore[method-assign,assignment]


def test_one_jobs_outputs_that_cannot_be_brought_back(world: World) -> None:
    with world.runner() as runner:
        one, two = runner.submit([world.invocation(**_copier(world)) for _ in range(2)])
        for job in (one, two):
            world.later(world.access_point.start, job.id)
            world.later(world.access_point.finish, job.id, outputs={"made/out": b"o"})
        _refuse(lambda job: job == one.id, world)
        ended = [change.job for change in runner.poll() if change.event is JobEvent.ENDED]
        assert [job.id for job in ended] == [two.id]
        for _ in range(FETCHES - 1):
            ended += [change.job for change in runner.poll()]
    assert [job.id for job in ended] == [two.id, one.id]
    outcome = ended[-1].outcome
    assert outcome is not None
    assert (outcome.kind, outcome.exit_code) == (OutcomeKind.OUTPUT_MISSING, 0)
    assert "the disk here is full" in outcome.message


def test_inputs_from_off_the_volumes_travel_though_the_directory_is_on_one(world: World) -> None:
    (world.home / "far").write_bytes(b"far")
    far = str(Path(world.home) / "far")
    with world.runner() as runner:
        (job,) = runner.submit([world.invocation(inputs=[far])])
    assert "SUBMIT_Iwd" in world.access_point.queue[job.id]


def test_spooled_jobs_are_asked_for_while_others_are_followed_by_the_log(logged: World) -> None:
    with logged.runner() as runner:
        spooled, plain = runner.submit([logged.invocation(**_copier(logged)), logged.invocation()])
        runner.poll()
        logged.later(logged.access_point.start, plain.id)
        logged.later(logged.access_point.start, spooled.id)
        assert {change.job.id for change in runner.poll()} == {spooled.id, plain.id}
        logged.later(logged.access_point.finish, spooled.id, outputs={"made/out": b"o"})
        assert [change.job.id for change in runner.poll()] == [spooled.id]
        before = logged.access_point.calls.total()
        assert runner.poll() == []
        assert logged.access_point.calls.total() == before
