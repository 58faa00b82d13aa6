"""The access point in a child process: the same results, and a timeout."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from swarm_runner.condor.access_point import AccessPoint
from swarm_runner.condor.access_point_process import AccessPointProcess
from swarm_runner.condor.ports import Ad, JobQuery, SubmitInDoubtError, SubmitResult
from swarm_runner.errors import Diagnostic, InvalidInputError, UnreachableError
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.job import JobId, JobState
from swarm_runner.model.pool import Destination, Pool
from swarm_runner.runner import Runner
from swarm_runner.submit.description import SubmitBatch
from swarm_runner.testing import FakeAccessPoint
from tests.polling import TIMEOUT_S

BATCH = SubmitBatch(common={"executable": "/bin/true"}, rows=())


class FailingAccessPoint(FakeAccessPoint):
    """Does not respond, dies, or rejects."""

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


class EnvironmentAccessPoint(FakeAccessPoint):
    """Returns the environment of its process as a job."""

    def jobs(self, query: JobQuery, projection: Sequence[str] = ()) -> list[Ad]:  # noqa: ARG002
        return [dict(os.environ)]


@pytest.fixture
def failing_access_point() -> Iterator[AccessPointProcess]:
    access_point = AccessPointProcess(FailingAccessPoint, timeout_s=TIMEOUT_S)
    yield access_point
    access_point.close()


@pytest.fixture
def destination(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Destination:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "volume").mkdir()
    return Destination(pool=Pool.model_validate({"volumes": [str(tmp_path / "volume")]}))


@pytest.mark.parametrize("in_place", [True, False])
def test_a_runner_uses_it(destination: Destination, tmp_path: Path, in_place: bool) -> None:
    directory = tmp_path / ("volume" if in_place else ".")
    (directory / "in").write_text("data")
    access_point = AccessPointProcess(FakeAccessPoint)
    invocation = Invocation(
        image="debian:trixie",
        command=("true",),
        working_directory=str(directory),
        in_place=in_place,
        inputs=() if in_place else ("in",),
    )
    with Runner(
        destination, name="tests", access_point=access_point, outage_timeout_s=0.2
    ) as runner:
        (job,) = runner.submit([invocation])
        assert len(access_point.jobs(JobQuery(ids=[job.id]))) == 1
        assert runner.remove([job]) == 1
        runner.poll()
        assert [job.state for job in runner.jobs()] == [JobState.REMOVED]
        assert len(access_point.history(JobQuery(ids=[job.id]), limit=1)) == 1
        assert access_point.slots() == []
    access_point.close()


def test_the_child_is_started_ahead(failing_access_point: AccessPointProcess) -> None:
    failing_access_point.start()
    child = failing_access_point._child
    assert child is not None
    failing_access_point.start()
    assert failing_access_point.jobs(JobQuery()) == []
    assert failing_access_point._child is child


def test_a_child_that_cannot_be_started_is_started_by_the_first_call(
    failing_access_point: AccessPointProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "/nonexistent")
        failing_access_point.start()
    assert failing_access_point._child is None
    assert failing_access_point.jobs(JobQuery()) == []


def test_a_closed_child_is_not_started(failing_access_point: AccessPointProcess) -> None:
    failing_access_point.close()
    failing_access_point.start()
    assert failing_access_point._child is None


def test_the_child_loads_no_plugins_of_pydantic() -> None:
    access_point = AccessPointProcess(EnvironmentAccessPoint)
    (environment,) = access_point.jobs(JobQuery())
    access_point.close()
    assert environment["PYDANTIC_DISABLE_PLUGINS"] == "__all__"
    assert environment["PATH"] == os.environ["PATH"]


def test_a_call_without_a_response_times_out(failing_access_point: AccessPointProcess) -> None:
    failing_access_point._timeout_s = 0.5
    with pytest.raises(UnreachableError, match="no response within 0 s"):
        failing_access_point.hold([], "forever")
    failing_access_point._timeout_s = TIMEOUT_S
    assert failing_access_point.jobs(JobQuery()) == []


def test_a_child_that_dies_is_started_again(failing_access_point: AccessPointProcess) -> None:
    with pytest.raises(UnreachableError, match="its process ended"):
        failing_access_point.release([], "")
    assert failing_access_point.jobs(JobQuery()) == []


def test_a_submit_without_a_response_is_in_doubt(failing_access_point: AccessPointProcess) -> None:
    failing_access_point._timeout_s = 0.5
    with pytest.raises(SubmitInDoubtError):
        failing_access_point.submit(BATCH)


def test_an_error_of_the_child_is_raised_here(failing_access_point: AccessPointProcess) -> None:
    with pytest.raises(InvalidInputError) as caught:
        failing_access_point.submit(BATCH.model_copy(update={"count": 2}))
    assert [str(diagnostic) for diagnostic in caught.value.diagnostics] == [
        "here: is wrong",
        "there: too",
    ]


def test_nothing_listens() -> None:
    access_point = AccessPointProcess(AccessPoint, "127.0.0.1:9", "none", "/nonexistent")
    with pytest.raises(UnreachableError, match=r"Nothing answers at 127\.0\.0\.1:9"):
        access_point.jobs(JobQuery())
    access_point.close()


def test_closing_ends_a_blocked_call(failing_access_point: AccessPointProcess) -> None:
    errors: list[Exception] = []

    def call() -> None:
        try:
            failing_access_point.hold([], "forever")
        except UnreachableError as error:
            errors.append(error)

    failing_access_point.jobs(JobQuery())  # starts the child
    thread = threading.Thread(target=call)
    thread.start()
    while not failing_access_point._lock.locked():
        time.sleep(0.01)
    failing_access_point.close()
    thread.join(10)
    assert len(errors) == 1
    with pytest.raises(UnreachableError, match="it is closed"):
        failing_access_point.jobs(JobQuery())
    assert failing_access_point._child is None


def test_an_interrupted_call_does_not_disturb_the_next_one(
    failing_access_point: AccessPointProcess,
) -> None:
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        failing_access_point.hold([], "forever")
    assert failing_access_point.jobs(JobQuery()) == []


def test_the_child_does_not_receive_a_terminals_interrupt(
    failing_access_point: AccessPointProcess,
) -> None:
    failing_access_point.jobs(JobQuery())
    assert failing_access_point._child is not None
    assert os.getpgid(failing_access_point._child.pid) != os.getpgid(0)


def test_the_child_imports_nothing_from_the_current_directory(
    failing_access_point: AccessPointProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "subprocess.py").write_text("raise SystemExit(1)")
    monkeypatch.chdir(tmp_path)
    assert failing_access_point.jobs(JobQuery()) == []


def test_an_error_keeps_nothing_alive(failing_access_point: AccessPointProcess) -> None:
    """Not even until the garbage collector comes: a caller may have descriptors."""
    batch = BATCH.model_copy(update={"count": 2})
    gc.collect()
    gc.disable()
    try:
        with pytest.raises(InvalidInputError) as raised:
            failing_access_point.submit(batch)
        error = weakref.ref(raised.value)
        del raised
        assert error() is None
    finally:
        gc.enable()
