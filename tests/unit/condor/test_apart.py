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
from swarm_runner.condor.apart import AccessPointApart
from swarm_runner.condor.port import Receipt, Selection, SubmitInDoubtError
from swarm_runner.errors import Fault, InvalidInputError, OutOfReachError
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.job import JobId, JobState
from swarm_runner.model.pool import Destination, Pool
from swarm_runner.model.submit import SubmitBatch
from swarm_runner.runner import Runner
from swarm_runner.testing import FakeAccessPoint

BATCH = SubmitBatch(common={"executable": "/bin/true"}, rows=())


class Trouble(FakeAccessPoint):
    """Does not answer, dies, or refuses."""

    def hold(self, ids: Iterable[JobId], reason: str) -> int:  # noqa: ARG002
        time.sleep(600)
        return 0

    def release(self, ids: Iterable[JobId], reason: str) -> int:  # noqa: ARG002
        os._exit(1)

    def submit(self, batch: SubmitBatch, *, spool: bool = False) -> Receipt:  # noqa: ARG002
        if batch.count > 1:
            raise InvalidInputError([Fault("here", "is wrong"), Fault("there", "too")])
        os._exit(1)


@pytest.fixture
def trouble() -> Iterator[AccessPointApart]:
    apart = AccessPointApart(Trouble, limit_s=5.0)
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
    apart = AccessPointApart(FakeAccessPoint)
    one = Invocation(
        image="debian:trixie",
        command=("true",),
        working_directory=str(here),
        in_place=in_place,
        inputs=() if in_place else ("in",),
    )
    with Runner(destination, name="tests", access_point=apart, patience_s=0.2) as runner:
        (job,) = runner.submit([one])
        assert len(apart.jobs(Selection(ids=[job.id]))) == 1
        assert runner.remove([job]) == 1
        runner.poll()
        assert [job.state for job in runner.jobs()] == [JobState.REMOVED]
        assert len(apart.history(Selection(ids=[job.id]), limit=1)) == 1
        assert apart.slots() == []
    apart.close()


def test_one_that_does_not_answer_is_given_up(trouble: AccessPointApart) -> None:
    trouble._limit_s = 0.5
    with pytest.raises(OutOfReachError, match="no answer in 0 s"):
        trouble.hold([], "for ever")
    trouble._limit_s = 5.0
    assert trouble.jobs(Selection()) == []


def test_one_that_dies_is_started_again(trouble: AccessPointApart) -> None:
    with pytest.raises(OutOfReachError, match="its process ended"):
        trouble.release([], "")
    assert trouble.jobs(Selection()) == []


def test_a_submit_without_an_answer_is_in_doubt(trouble: AccessPointApart) -> None:
    with pytest.raises(SubmitInDoubtError):
        trouble.submit(BATCH)


def test_what_is_refused_is_refused_here(trouble: AccessPointApart) -> None:
    with pytest.raises(InvalidInputError) as caught:
        trouble.submit(BATCH.model_copy(update={"count": 2}))
    assert [str(fault) for fault in caught.value.faults] == ["here: is wrong", "there: too"]


def test_nobody_there() -> None:
    apart = AccessPointApart(AccessPoint, "127.0.0.1:9", "none", "/nonexistent")
    with pytest.raises(OutOfReachError, match=r"Nothing answers at 127\.0\.0\.1:9"):
        apart.jobs(Selection())
    apart.close()


def test_closing_ends_a_call_that_hangs(trouble: AccessPointApart) -> None:
    trouble._limit_s = 60.0
    told: list[Exception] = []

    def ask() -> None:
        try:
            trouble.hold([], "for ever")
        except OutOfReachError as error:
            told.append(error)

    trouble.jobs(Selection())  # the child is there
    asking = threading.Thread(target=ask)
    asking.start()
    while not trouble._lock.locked():
        time.sleep(0.01)
    trouble.close()
    asking.join(10)
    assert len(told) == 1
    with pytest.raises(OutOfReachError, match="it is closed"):
        trouble.jobs(Selection())
    assert trouble._child is None


def test_one_that_was_interrupted_answers_the_next_question(trouble: AccessPointApart) -> None:
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        trouble.hold([], "for ever")
    assert trouble.jobs(Selection()) == []


def test_a_terminals_interrupt_is_not_its_own(trouble: AccessPointApart) -> None:
    trouble.jobs(Selection())
    assert trouble._child is not None
    assert os.getpgid(trouble._child.pid) != os.getpgid(0)


def test_modules_of_the_current_directory_are_not_its_own(
    trouble: AccessPointApart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "subprocess.py").write_text("raise SystemExit(1)")
    monkeypatch.chdir(tmp_path)
    assert trouble.jobs(Selection()) == []
