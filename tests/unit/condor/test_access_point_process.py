"""The access point in a process of its own: the same answers, and an end to waiting."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from swarm_runner.condor.access_point import AccessPoint
from swarm_runner.condor.access_point_process import AccessPointProcess
from swarm_runner.condor.ports import JobQuery, SubmitInDoubtError, SubmitResult
from swarm_runner.errors import Diagnostic, InvalidInputError, UnreachableError
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.job import JobId, JobState
from swarm_runner.model.pool import Destination, Pool
from swarm_runner.runner import Runner
from swarm_runner.submit.description import SubmitBatch
from swarm_runner.testing import FakeAccessPoint

BATCH = SubmitBatch(common={"executable": "/bin/true"}, rows=())


class FailingAccessPoint(FakeAccessPoint):
    """Does not answer, dies, or refuses."""

    def hold(self, ids: Iterable[JobId], reason: str) -> int:  # noqa: ARG002
        time.sleep(600)
        return 0

    def release(self, ids: Iterable[JobId], reason: str) -> int:  # noqa: ARG002
        os._exit(1)

    def submit(self, batch: SubmitBatch, *, spool: bool = False) -> SubmitResult:  # noqa: ARG002
        if batch.count > 1:
            raise InvalidInputError(
                [Diagnostic("is wrong", source="here"), Diagnostic("too", source="there")]
            )
        os._exit(1)


@pytest.fixture
def failing_access_point() -> Iterator[AccessPointProcess]:
    apart = AccessPointProcess(FailingAccessPoint, timeout_s=5.0)
    yield apart
    apart.close()


@pytest.fixture
def destination(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Destination:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "volume").mkdir()
    return Destination(pool=Pool.model_validate({"volumes": [str(tmp_path / "volume")]}))


@pytest.mark.parametrize("in_place", [True, False])
def test_a_runner_works_with_it(destination: Destination, tmp_path: Path, in_place: bool) -> None:
    here = tmp_path / ("volume" if in_place else ".")
    (here / "in").write_text("data")
    apart = AccessPointProcess(FakeAccessPoint)
    one = Invocation(
        image="debian:trixie",
        command=("true",),
        working_directory=str(here),
        in_place=in_place,
        inputs=() if in_place else ("in",),
    )
    with Runner(destination, name="tests", access_point=apart, outage_timeout_s=0.2) as runner:
        (job,) = runner.submit([one])
        assert len(apart.jobs(JobQuery(ids=[job.id]))) == 1
        assert runner.remove([job]) == 1
        runner.poll()
        assert [job.state for job in runner.jobs()] == [JobState.REMOVED]
        assert len(apart.history(JobQuery(ids=[job.id]), limit=1)) == 1
        assert apart.slots() == []
    apart.close()


def test_one_that_does_not_answer_is_given_up(failing_access_point: AccessPointProcess) -> None:
    failing_access_point._timeout_s = 0.5
    with pytest.raises(UnreachableError, match="no answer in 0 s"):
        failing_access_point.hold([], "for ever")
    failing_access_point._timeout_s = 5.0
    assert failing_access_point.jobs(JobQuery()) == []


def test_one_that_dies_is_started_again(failing_access_point: AccessPointProcess) -> None:
    with pytest.raises(UnreachableError, match="its process ended"):
        failing_access_point.release([], "")
    assert failing_access_point.jobs(JobQuery()) == []


def test_a_submit_without_an_answer_is_in_doubt(failing_access_point: AccessPointProcess) -> None:
    with pytest.raises(SubmitInDoubtError):
        failing_access_point.submit(BATCH)


def test_what_is_refused_is_refused_here(failing_access_point: AccessPointProcess) -> None:
    with pytest.raises(InvalidInputError) as caught:
        failing_access_point.submit(BATCH.model_copy(update={"count": 2}))
    assert [str(fault) for fault in caught.value.diagnostics] == ["here: is wrong", "there: too"]


def test_nobody_there() -> None:
    apart = AccessPointProcess(AccessPoint, "127.0.0.1:9", "none", "/nonexistent")
    with pytest.raises(UnreachableError, match=r"Nothing answers at 127\.0\.0\.1:9"):
        apart.jobs(JobQuery())
    apart.close()


def test_closing_ends_a_call_that_hangs(failing_access_point: AccessPointProcess) -> None:
    failing_access_point._timeout_s = 60.0
    told: list[Exception] = []

    def ask() -> None:
        try:
            failing_access_point.hold([], "for ever")
        except UnreachableError as error:
            told.append(error)

    failing_access_point.jobs(JobQuery())  # the child is there
    asking = threading.Thread(target=ask)
    asking.start()
    while not failing_access_point._lock.locked():
        time.sleep(0.01)
    failing_access_point.close()
    asking.join(10)
    assert len(told) == 1
    with pytest.raises(UnreachableError, match="it is closed"):
        failing_access_point.jobs(JobQuery())
    assert failing_access_point._child is None


def test_one_that_was_interrupted_answers_the_next_question(
    failing_access_point: AccessPointProcess,
) -> None:
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        failing_access_point.hold([], "for ever")
    assert failing_access_point.jobs(JobQuery()) == []


def test_a_terminals_interrupt_is_not_its_own(failing_access_point: AccessPointProcess) -> None:
    failing_access_point.jobs(JobQuery())
    assert failing_access_point._child is not None
    assert os.getpgid(failing_access_point._child.pid) != os.getpgid(0)


def test_modules_of_the_current_directory_are_not_its_own(
    failing_access_point: AccessPointProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "subprocess.py").write_text("raise SystemExit(1)")
    monkeypatch.chdir(tmp_path)
    assert failing_access_point.jobs(JobQuery()) == []
