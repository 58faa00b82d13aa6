"""Reading a job's output: from the volume, from the executor, and never from elsewhere."""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from swarm_runner.errors import InvalidInputError, PreconditionError
from swarm_runner.model.htcondor import HoldCode
from swarm_runner.model.job import JobId
from swarm_runner.runner.job_output import FileTail, JobOutput, OutputStream
from tests.unit.runner.conftest import RunnerHarness
from tests.unit.runner.conftest import _harness as make_harness


@pytest.fixture
def harness(tmp_path: Path) -> RunnerHarness:
    return make_harness(tmp_path, None)


class Steps:
    """Does the next step each time that the reader waits; then it is an error to wait."""

    def __init__(self, *steps: Callable[[], Any]) -> None:
        self._steps = list(steps)

    def __call__(self, _seconds: float) -> None:
        self._steps.pop(0)()


def submit(harness: RunnerHarness, **fields: Any) -> JobId:
    with harness.runner() as runner:
        return runner.submit([harness.invocation("a", stdout="out.txt", **fields)])[0].id


def output(harness: RunnerHarness, job: JobId, *steps: Callable[[], Any], **kw: Any) -> JobOutput:
    settings: dict[str, Any] = {"own_files": True, "sleep": Steps(*steps)} | kw
    return JobOutput(harness.access_point, harness.destination.pool, job, **settings)


def joined(parts: Iterator[bytes]) -> bytes:
    return b"".join(parts)


def writer(file: Path, data: bytes, mode: str = "ab") -> Callable[[], None]:
    def write() -> None:
        with file.open(mode) as opened:
            opened.write(data)

    return write


@pytest.fixture(autouse=True)
def _ask_at_every_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarm_runner.runner.job_output.STATE_INTERVAL_S", 0)


def test_a_job_in_place_is_followed_until_it_has_ended(harness: RunnerHarness) -> None:
    job = submit(harness, in_place=True)
    file = harness.volume / "out.txt"
    access_point = harness.access_point

    def end() -> None:
        with file.open("ab") as opened:
            opened.write(b"three")
        access_point.finish(job, outputs={"stdout": file.read_bytes()})

    steps = [
        lambda: access_point.start(job),
        writer(file, b"one "),
        writer(file, b"\xfftwo "),
        lambda: None,
        end,
    ]
    parts = list(output(harness, job, *steps).watch())

    assert joined(iter(parts)) == b"one \xfftwo three"
    assert b"" in parts  # a caller can stop


def test_a_restart_empties_the_file_and_the_output_begins_again(harness: RunnerHarness) -> None:
    job = submit(harness, in_place=True)
    file = harness.volume / "out.txt"
    harness.access_point.start(job)
    file.write_bytes(b"first run\n")
    replacement = harness.volume / "new"

    def replace() -> None:
        replacement.write_bytes(b"third\n")
        replacement.rename(file)

    steps = [
        writer(file, b"2nd\n", "wb"),
        replace,
        lambda: harness.access_point.finish(job, outputs={"stdout": b"third\n"}),
    ]
    assert joined(output(harness, job, *steps).watch()) == b"first run\n2nd\nthird\n"


def test_reading_begins_the_given_number_of_bytes_before_the_end(harness: RunnerHarness) -> None:
    job = submit(harness, in_place=True)
    harness.access_point.start(job)
    (harness.volume / "out.txt").write_bytes(b"0123456789")

    assert joined(output(harness, job).read(4)) == b"6789"
    assert joined(output(harness, job).read()) == b"0123456789"


def test_output_on_the_executor_is_read_there_and_the_rest_from_the_file(
    harness: RunnerHarness,
) -> None:
    job = submit(harness)
    harness.access_point.start(job)
    calls = []

    def live(
        asked: JobId, stream: OutputStream, *, maximum_bytes: int, follow: bool
    ) -> Iterator[bytes]:
        calls.append((asked, stream, maximum_bytes, follow))
        yield b"while it "
        if follow:
            harness.access_point.finish(job, outputs={"stdout": b"while it ran, and its end"})

    assert joined(output(harness, job, live=live).read(500)) == b"while it "
    following = output(harness, job, lambda: None, live=live)
    assert joined(following.watch(500)) == b"while it ran, and its end"
    assert following.incomplete_reason == ""
    assert calls == [(job, "stdout", 500, False), (job, "stdout", 500, True)]


def test_a_missing_end_is_reported(harness: RunnerHarness) -> None:
    job = submit(harness)
    harness.access_point.start(job)

    def live(*_: Any, **__: Any) -> Iterator[bytes]:
        yield b"part"
        harness.access_point.finish(job, outputs={"stdout": b"a part, and more than ten bytes"})

    following = output(harness, job, lambda: None, live=live)
    assert joined(following.watch(10)) == b"part"
    assert f"the complete output is {harness.volume}/out.txt" in following.incomplete_reason


def test_without_a_way_to_the_executor_it_says_what_to_do(harness: RunnerHarness) -> None:
    job = submit(harness)
    harness.access_point.start(job)
    with pytest.raises(PreconditionError, match=r"is on node-1 until the job ends.*in_place"):
        joined(output(harness, job).read())


def test_a_spooled_job_is_read_here_once_its_output_was_retrieved(harness: RunnerHarness) -> None:
    job = submit(harness, working_directory=str(harness.home))
    harness.access_point.start(job)
    harness.access_point.finish(job, outputs={"stdout": b"text"})
    with pytest.raises(PreconditionError, match=r"`swarm-runner jobs --wait` retrieves it"):
        joined(output(harness, job).read())
    with harness.runner() as runner:
        runner.poll()

    assert joined(output(harness, job).read()) == b"text"
    with pytest.raises(PreconditionError, match=rf"on host {socket.gethostname()}"):
        joined(output(harness, job, own_files=False).read())


def test_jobs_without_output(harness: RunnerHarness) -> None:
    job = submit(harness, in_place=True)
    with pytest.raises(PreconditionError, match="has written nothing"):
        joined(output(harness, job).read())
    with pytest.raises(InvalidInputError, match="has no stderr; set `stderr`"):
        joined(output(harness, job, stream=OutputStream.STDERR).read())
    with pytest.raises(InvalidInputError, match="no such job"):
        joined(output(harness, JobId(99, 0)).read())
    harness.access_point.hold_by_htcondor(job, HoldCode.JOB_POLICY, 0, "x")
    with harness.runner() as runner:
        transferred = runner.submit([harness.invocation("b", stdout="b.txt")])[0].id
    with pytest.raises(PreconditionError, match="is not running"):
        joined(output(harness, transferred).read())


def test_an_ended_job_whose_file_is_gone(harness: RunnerHarness) -> None:
    job = submit(harness, in_place=True)
    harness.access_point.start(job)
    harness.access_point.finish(job, outputs={"stdout": b"x"})
    (harness.volume / "out.txt").unlink()
    with pytest.raises(PreconditionError, match="does not exist, or was removed"):
        joined(output(harness, job).watch())


@pytest.mark.parametrize("kind", ["link", "pipe", "directory"])
def test_only_regular_files_are_read(harness: RunnerHarness, kind: str) -> None:
    job = submit(harness, in_place=True)
    harness.access_point.start(job)
    file, secret = harness.volume / "out.txt", harness.home / "secret"
    secret.write_text("secret")
    if kind == "link":
        file.symlink_to(secret)
    elif kind == "pipe":
        os.mkfifo(file)
    else:
        file.mkdir()
    with pytest.raises(PreconditionError, match="cannot be read"):
        joined(output(harness, job).read())


def test_a_link_on_the_way_is_not_followed(harness: RunnerHarness) -> None:
    job = submit(harness, in_place=True)
    harness.access_point.start(job)
    (harness.home / "out.txt").write_text("secret")
    (harness.volume / "sub").symlink_to(harness.home)
    harness.access_point.queue[job]["Out"] = "sub/out.txt"
    with pytest.raises(PreconditionError, match="a link or a file is where a directory"):
        joined(output(harness, job).read())


@pytest.mark.parametrize("name", ["../home/secret", "/etc/passwd", "x/../../home/secret"])
def test_a_service_reads_only_on_volumes(harness: RunnerHarness, name: str) -> None:
    job = submit(harness, in_place=True)
    harness.access_point.start(job)
    (harness.home / "secret").write_text("secret")
    harness.access_point.queue[job]["Out"] = name
    with pytest.raises(PreconditionError):
        joined(output(harness, job, own_files=False).read())


def test_a_service_reads_no_other_users_files(tmp_path: Path) -> None:
    file = tmp_path / "out.txt"
    file.write_text("text")
    owner = file.stat().st_uid
    assert joined(FileTail(file, tmp_path, 100, {owner}).new_bytes()) == b"text"
    with pytest.raises(PreconditionError, match=rf"it belongs to user {owner}"):
        FileTail(file, tmp_path, 100, {owner + 1})


def test_a_large_file_comes_in_parts(tmp_path: Path) -> None:
    file = tmp_path / "out.txt"
    file.write_bytes(b"x" * 300_000)
    parts = FileTail(file, tmp_path, 1_000_000, None).new_bytes()
    assert max(map(len, itertools.chain(parts))) <= 65_536
