"""Files outside the pool's volumes: inputs are spooled, outputs are retrieved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swarm_runner.condor.ports import SubmitResult
from swarm_runner.errors import InvalidInputError, UnreachableError
from swarm_runner.model.job import JobEvent, JobId, JobState, OutcomeKind
from swarm_runner.runner.output_retriever import MAX_RETRIEVAL_ATTEMPTS
from tests.unit.runner.conftest import RunnerHarness, events


def _spooled_fields(harness: RunnerHarness) -> dict[str, Any]:
    (harness.home / "sub").mkdir(exist_ok=True)
    (harness.home / "sub" / "in").write_bytes(b"input")
    return {
        "working_directory": str(harness.home),
        "inputs": ["sub/in"],
        "outputs": ["made/out"],
        "stdout": "log.txt",
    }


def test_inputs_are_spooled_and_outputs_retrieved(harness: RunnerHarness) -> None:
    with harness.runner() as runner:
        jobs = runner.submit(
            [
                harness.invocation(f"k{n}", **_spooled_fields(harness) | {"stdout": f"{n}"})
                for n in range(2)
            ]
        )
        assert harness.access_point.sandboxes[jobs[0].id] == {"sub/in": b"input"}
        # HTCondor holds the job while its files are spooled, which is not reported.
        assert events(runner.poll()) == [JobEvent.SUBMITTED] * 2
        for job in jobs:
            harness.run_later(harness.access_point.start, job.id)
            harness.run_later(
                harness.access_point.finish,
                job.id,
                outputs={"made/out": b"o", "stdout": b"printed"},
            )
        ended = runner.wait(jobs)
        assert [job.outcome is not None and job.outcome.ok for job in ended] == [True, True]
        assert runner.poll() == []
    assert harness.access_point.calls["retrieve"] == 1
    assert (harness.home / "made" / "out").read_bytes() == b"o"
    assert (harness.home / "0").read_bytes() == b"printed"
    assert harness.access_point.queue == {}


def test_outputs_are_retrieved_after_a_restart(harness: RunnerHarness) -> None:
    with harness.runner() as runner:
        (job,) = runner.submit([harness.invocation("key", **_spooled_fields(harness))])
    harness.run_later(harness.access_point.start, job.id)
    harness.run_later(harness.access_point.finish, job.id, outputs={"made/out": b"o"})
    with harness.runner() as again:
        assert [found.id for found in again.recover()] == [job.id]
        assert (harness.home / "made" / "out").read_bytes() == b"o"
        (ended,) = again.submit([harness.invocation("key", **_spooled_fields(harness))])
    assert ended.state is JobState.COMPLETED


def test_only_the_host_that_submitted_retrieves(harness: RunnerHarness) -> None:
    with harness.runner() as runner:
        (job,) = runner.submit([harness.invocation(**_spooled_fields(harness))])
        harness.access_point.queue[job.id]["SwarmRunnerHost"] = "another-host"
        harness.run_later(harness.access_point.start, job.id)
        harness.run_later(harness.access_point.finish, job.id, outputs={"made/out": b"o"})
        (ended,) = runner.wait([job])
    assert ended.outcome is not None
    assert ended.outcome.ok
    assert not (harness.home / "made").exists()


@pytest.mark.parametrize("key", ["key", None])
def test_a_crash_before_the_files_were_spooled(harness: RunnerHarness, key: str | None) -> None:
    invocation = harness.invocation(key, **_spooled_fields(harness))
    spool = harness.access_point.spool
    harness.access_point.spool = _raise_interrupt  # type: ignore[method-assign]
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
        assert [found.id for found in again.recover()] == [job.id]


def _raise_interrupt(result: SubmitResult) -> None:
    raise KeyboardInterrupt(result)


def test_jobs_are_withdrawn_if_their_files_cannot_be_spooled(harness: RunnerHarness) -> None:
    def raise_unreachable(result: SubmitResult) -> None:
        raise UnreachableError(f"the connection broke at {result.cluster}")

    harness.access_point.spool = raise_unreachable  # type: ignore[method-assign]
    with harness.runner() as runner:
        with pytest.raises(UnreachableError, match="the connection broke"):
            runner.submit([harness.invocation("key", **_spooled_fields(harness))])
        assert runner.jobs() == []
    assert harness.access_point.queue == {}


def _fail_retrieval(fails: Callable[[JobId], bool], harness: RunnerHarness) -> None:
    retrieve = harness.access_point.retrieve

    def retrieve_or_fail(ids: list[JobId]) -> None:
        if any(fails(job) for job in ids):
            raise UnreachableError("the disk here is full")
        retrieve(ids)

    harness.access_point.retrieve = retrieve_or_fail  # type: ignore[method-assign,assignment]


def test_the_outputs_of_one_job_cannot_be_retrieved(harness: RunnerHarness) -> None:
    with harness.runner() as runner:
        first, second = runner.submit(
            [harness.invocation(**_spooled_fields(harness)) for _ in range(2)]
        )
        for job in (first, second):
            harness.run_later(harness.access_point.start, job.id)
            harness.run_later(harness.access_point.finish, job.id, outputs={"made/out": b"o"})
        _fail_retrieval(lambda job: job == first.id, harness)
        ended = [change.job for change in runner.poll() if change.event is JobEvent.ENDED]
        assert [job.id for job in ended] == [second.id]
        for _ in range(MAX_RETRIEVAL_ATTEMPTS - 1):
            ended += [change.job for change in runner.poll()]
    assert [job.id for job in ended] == [second.id, first.id]
    outcome = ended[-1].outcome
    assert outcome is not None
    assert (outcome.kind, outcome.exit_code) == (OutcomeKind.OUTPUT_MISSING, 0)
    assert "the disk here is full" in outcome.message


def test_inputs_outside_the_volumes_are_spooled_if_the_directory_is_on_one(
    harness: RunnerHarness,
) -> None:
    (harness.home / "far").write_bytes(b"far")
    far = str(Path(harness.home) / "far")
    with harness.runner() as runner:
        (job,) = runner.submit([harness.invocation(inputs=[far])])
    assert "SUBMIT_Iwd" in harness.access_point.queue[job.id]


def test_spooled_jobs_are_polled_while_the_log_tracks_others(
    log_harness: RunnerHarness,
) -> None:
    with log_harness.runner() as runner:
        spooled, plain = runner.submit(
            [log_harness.invocation(**_spooled_fields(log_harness)), log_harness.invocation()]
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


def test_outputs_go_only_where_this_runner_recorded(
    poll_harness: RunnerHarness, tmp_path: Path
) -> None:
    """Somebody who submits under this runner's name chooses neither the files nor the directory."""
    victim = tmp_path / "victim"
    victim.mkdir()
    with poll_harness.runner() as runner:
        (job,) = runner.submit([poll_harness.invocation("mine", **_spooled(poll_harness))])
        forged = dict(poll_harness.access_point.queue[job.id])
        other = JobId(900, 0)
        forged |= {"ClusterId": 900, "SwarmRunnerKey": "theirs", "SUBMIT_Iwd": str(victim)}
        forged |= {"Iwd": str(victim)}
        poll_harness.access_point.queue[other] = forged
        poll_harness.access_point.sandboxes[other] = {}
        for job_id in (job.id, other):
            poll_harness.run_later(poll_harness.access_point.start, job_id)
            poll_harness.access_point.finish(job_id, outputs={"result": b"made"})
        for _ in range(3):
            runner.poll()
            poll_harness.clock.advance(5)
        assert (poll_harness.home / "result").read_bytes() == b"made"
    assert list(victim.iterdir()) == []


def _spooled(harness: RunnerHarness) -> dict[str, object]:
    return {"working_directory": str(harness.home), "outputs": ["result"]}


def test_a_user_without_a_place_for_the_record(
    log_harness: RunnerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service may have no home. Jobs on a volume need none; spooled ones do."""
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/nowhere")
    with log_harness.runner() as runner:
        assert runner.submit([log_harness.invocation("plain")])
        with pytest.raises(InvalidInputError, match="Set XDG_STATE_HOME"):
            runner.submit([log_harness.invocation("spooled", **_spooled(log_harness))])
        runner.remove_all()
        assert runner.poll()
