"""Files that the access point does not see travel with the job, and come back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swarm_runner.condor.ports import SubmitResult
from swarm_runner.errors import UnreachableError
from swarm_runner.model.job import JobEvent, JobId, JobState, OutcomeKind
from swarm_runner.runner.output_retriever import MAX_RETRIEVAL_ATTEMPTS
from tests.unit.runner.conftest import RunnerHarness, events


def _copier(harness: RunnerHarness) -> dict[str, Any]:
    (harness.home / "sub").mkdir(exist_ok=True)
    (harness.home / "sub" / "in").write_bytes(b"input")
    return {
        "working_directory": str(harness.home),
        "inputs": ["sub/in"],
        "outputs": ["made/out"],
        "stdout": "log.txt",
    }


def test_there_and_back(harness: RunnerHarness) -> None:
    with harness.runner() as runner:
        jobs = runner.submit(
            [harness.invocation(f"k{n}", **_copier(harness) | {"stdout": f"{n}"}) for n in range(2)]
        )
        assert harness.access_point.sandboxes[jobs[0].id] == {"sub/in": b"input"}
        # While the files travel HTCondor holds the job; that is nobody's business.
        assert events(runner.poll()) == [JobEvent.SUBMITTED] * 2
        for job in jobs:
            harness.run_later(harness.access_point.start, job.id)
            harness.run_later(
                harness.access_point.finish, job.id, outputs={"made/out": b"o", "stdout": b"said"}
            )
        ended = runner.wait(jobs)
        assert [job.outcome is not None and job.outcome.ok for job in ended] == [True, True]
        assert runner.poll() == []
    assert harness.access_point.calls["retrieve"] == 1
    assert (harness.home / "made" / "out").read_bytes() == b"o"
    assert (harness.home / "0").read_bytes() == b"said"
    assert harness.access_point.queue == {}


def test_after_a_restart_the_outputs_still_come(harness: RunnerHarness) -> None:
    with harness.runner() as runner:
        (job,) = runner.submit([harness.invocation("one", **_copier(harness))])
    harness.run_later(harness.access_point.start, job.id)
    harness.run_later(harness.access_point.finish, job.id, outputs={"made/out": b"o"})
    with harness.runner() as again:
        assert [one.id for one in again.recover()] == [job.id]
        assert (harness.home / "made" / "out").read_bytes() == b"o"
        (ended,) = again.submit([harness.invocation("one", **_copier(harness))])
    assert ended.state is JobState.COMPLETED


def test_only_the_machine_that_sent_fetches(harness: RunnerHarness) -> None:
    with harness.runner() as runner:
        (job,) = runner.submit([harness.invocation(**_copier(harness))])
        harness.access_point.queue[job.id]["SwarmRunnerHost"] = "another-machine"
        harness.run_later(harness.access_point.start, job.id)
        harness.run_later(harness.access_point.finish, job.id, outputs={"made/out": b"o"})
        (ended,) = runner.wait([job])
    assert ended.outcome is not None
    assert ended.outcome.ok
    assert not (harness.home / "made").exists()


@pytest.mark.parametrize("key", ["one", None])
def test_a_crash_before_the_files_were_sent(harness: RunnerHarness, key: str | None) -> None:
    invocation = harness.invocation(key, **_copier(harness))
    spool = harness.access_point.spool
    harness.access_point.spool = _killed  # type: ignore[method-assign]
    with harness.runner() as runner, pytest.raises(KeyboardInterrupt):
        runner.submit([invocation])
    harness.access_point.spool = spool  # type: ignore[method-assign]
    assert len(harness.access_point.queue) == 1
    harness.clock.advance(5)
    with harness.runner() as again:
        (job,) = again.submit([invocation])
        assert job.state is JobState.IDLE
        assert list(harness.access_point.queue) == [job.id]
        assert job.id in harness.access_point.sandboxes
        assert [one.id for one in again.recover()] == [job.id]


def _killed(result: SubmitResult) -> None:
    raise KeyboardInterrupt(result)


def test_files_that_cannot_be_sent_take_the_jobs_back(harness: RunnerHarness) -> None:
    def broken(result: SubmitResult) -> None:
        raise UnreachableError(f"the line broke at {result.cluster}")

    harness.access_point.spool = broken  # type: ignore[method-assign]
    with harness.runner() as runner:
        with pytest.raises(UnreachableError, match="the line broke"):
            runner.submit([harness.invocation("one", **_copier(harness))])
        assert runner.jobs() == []
    assert harness.access_point.queue == {}


def _refuse(refused: Callable[[JobId], bool], harness: RunnerHarness) -> None:
    retrieve = harness.access_point.retrieve

    def partly(ids: list[JobId]) -> None:
        if any(refused(job) for job in ids):
            raise UnreachableError("the disk here is full")
        retrieve(ids)

    harness.access_point.retrieve = partly  # type: ignore[method-assign,assignment]


def test_one_jobs_outputs_that_cannot_be_brought_back(harness: RunnerHarness) -> None:
    with harness.runner() as runner:
        one, two = runner.submit([harness.invocation(**_copier(harness)) for _ in range(2)])
        for job in (one, two):
            harness.run_later(harness.access_point.start, job.id)
            harness.run_later(harness.access_point.finish, job.id, outputs={"made/out": b"o"})
        _refuse(lambda job: job == one.id, harness)
        ended = [change.job for change in runner.poll() if change.event is JobEvent.ENDED]
        assert [job.id for job in ended] == [two.id]
        for _ in range(MAX_RETRIEVAL_ATTEMPTS - 1):
            ended += [change.job for change in runner.poll()]
    assert [job.id for job in ended] == [two.id, one.id]
    outcome = ended[-1].outcome
    assert outcome is not None
    assert (outcome.kind, outcome.exit_code) == (OutcomeKind.OUTPUT_MISSING, 0)
    assert "the disk here is full" in outcome.message


def test_inputs_from_off_the_volumes_travel_though_the_directory_is_on_one(
    harness: RunnerHarness,
) -> None:
    (harness.home / "far").write_bytes(b"far")
    far = str(Path(harness.home) / "far")
    with harness.runner() as runner:
        (job,) = runner.submit([harness.invocation(inputs=[far])])
    assert "SUBMIT_Iwd" in harness.access_point.queue[job.id]


def test_spooled_jobs_are_asked_for_while_others_are_followed_by_the_log(
    log_harness: RunnerHarness,
) -> None:
    with log_harness.runner() as runner:
        spooled, plain = runner.submit(
            [log_harness.invocation(**_copier(log_harness)), log_harness.invocation()]
        )
        runner.poll()
        log_harness.run_later(log_harness.access_point.start, plain.id)
        log_harness.run_later(log_harness.access_point.start, spooled.id)
        assert {change.job.id for change in runner.poll()} == {spooled.id, plain.id}
        log_harness.run_later(
            log_harness.access_point.finish, spooled.id, outputs={"made/out": b"o"}
        )
        assert [change.job.id for change in runner.poll()] == [spooled.id]
        before = log_harness.access_point.calls.total()
        assert runner.poll() == []
        assert log_harness.access_point.calls.total() == before
