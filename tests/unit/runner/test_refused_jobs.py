"""A job that HTCondor refuses on the way leaves the others of its batch alone."""

from __future__ import annotations

import pytest

from swarm_runner.condor.ports import SubmitResult, TransferRefusedError
from swarm_runner.errors import Diagnostic, InvalidInputError
from swarm_runner.model.invocation import Invocation
from swarm_runner.submit.description import SubmitBatch
from tests.unit.runner.conftest import RunnerHarness


def _spooled(harness: RunnerHarness, count: int) -> list[Invocation]:
    (harness.home / "in").write_text("1")
    return [
        harness.invocation(f"k{n}", working_directory=str(harness.home), inputs=["in"])
        for n in range(count)
    ]


def _refuse_files(harness: RunnerHarness, keys: set[str]) -> None:
    spool = harness.access_point.spool

    def spool_or_refuse(result: SubmitResult) -> None:
        found = {harness.access_point.queue[job]["SwarmRunnerKey"] for job in result.ids}
        if found & keys:
            raise TransferRefusedError("the access point answers, but no")
        spool(result)

    harness.access_point.spool = spool_or_refuse  # type: ignore[method-assign]


def test_a_job_whose_files_are_refused(poll_harness: RunnerHarness) -> None:
    _refuse_files(poll_harness, {"k3", "k7"})
    batch = _spooled(poll_harness, 9)
    with poll_harness.runner() as runner:
        with pytest.raises(InvalidInputError) as refusal:
            runner.submit(batch)
        assert [each.key for each in refusal.value.diagnostics] == ["k3", "k7"]
        assert {each.path for each in refusal.value.diagnostics} == {"inputs"}
        assert "did not answer" not in str(refusal.value)
        good = [invocation for invocation in batch if invocation.key not in {"k3", "k7"}]
        jobs = {job.key: job for job in runner.jobs()}
        assert jobs.keys() == {invocation.key for invocation in good}
        assert runner.submit(good) == [jobs[invocation.key] for invocation in good]
    assert {ad["SwarmRunnerKey"] for ad in poll_harness.access_point.queue.values()} == set(jobs)


def test_an_access_point_that_takes_no_files(poll_harness: RunnerHarness) -> None:
    _refuse_files(poll_harness, {"k0", "k1", "k2"})
    with poll_harness.runner() as runner, pytest.raises(TransferRefusedError):
        runner.submit(_spooled(poll_harness, 3))
    assert poll_harness.access_point.queue == {}


def test_a_description_that_is_rejected(poll_harness: RunnerHarness) -> None:
    submit = poll_harness.access_point.submit

    def submit_or_reject(batch: SubmitBatch, *, spool: bool = False) -> SubmitResult:
        if "k2" in batch.render():
            raise InvalidInputError([Diagnostic("HTCondor rejected the submit description")])
        return submit(batch, spool=spool)

    poll_harness.access_point.submit = submit_or_reject  # type: ignore[method-assign]
    with poll_harness.runner() as runner:
        with pytest.raises(InvalidInputError) as refusal:
            runner.submit([poll_harness.invocation(f"k{n}") for n in range(5)])
        assert [each.key for each in refusal.value.diagnostics] == ["k2"]
        assert {job.key for job in runner.jobs()} == {"k0", "k1", "k3", "k4"}
