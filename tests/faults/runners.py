"""Faults of the runner: its process, its event log and its token."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from swarm_runner.condor.access_point import AccessPoint
from swarm_runner.condor.ports import JobQuery
from swarm_runner.errors import UnreachableError
from swarm_runner.model.invocation import Invocation
from swarm_runner.provisioner.credentials import write_token
from tests.faults.fault import PoolFault
from tests.faults.load import Load
from tests.faults.pool import FaultPool
from tests.integration.conftest import LabHarness, start_submitter

JOBS = 10
TOKEN_LIFETIME_S = 15
# When a submitter is killed, as a part of the time that one takes.
BEFORE_ITS_SUBMIT = 0.5


def _harness(load: Load) -> LabHarness:
    access_point = AccessPoint.connect(load.destination.pool, load.destination.token_directory)
    return LabHarness(load.destination, load.directory, access_point, load.name)


def _queued(load: Load) -> int:
    return len(load.access_point.jobs(JobQuery(runner_name=load.name), ("ClusterId",)))


@contextlib.contextmanager
def _succeeded(load: Load) -> Iterator[tuple[Load, list[Invocation]]]:
    """Yield jobs for submitters of another runner, whose successor submits the same keys."""
    other = load.fork()
    invocations = _invocations(other, "sleep 2")
    yield other, invocations
    other.submit_until_accepted(invocations)
    other.start_tracking()


def _invocations(load: Load, shell: str) -> list[Invocation]:
    return [load.invocation(load.new_key(), shell) for _ in range(JOBS)]


def _kill_submitter(load: Load, wait: Callable[[Load, subprocess.Popen[str]], None]) -> str:
    """Kill a submitter after a wait; return what its successor found."""
    with _succeeded(load) as (other, invocations):
        with start_submitter(_harness(other), invocations) as submitter:
            wait(other, submitter)
            submitter.kill()
        queued = _queued(other)
    return f"{queued} of {JOBS} jobs were queued when its successor submitted the same keys"


def _kill_before_submit(_pool: FaultPool, load: Load) -> str:
    began = time.monotonic()
    with start_submitter(_harness(load.fork()), []) as submitter:
        submitter.communicate()
    usual_s = time.monotonic() - began
    return _kill_submitter(load, lambda *_: time.sleep(BEFORE_ITS_SUBMIT * usual_s))


def _kill_after_submit(_pool: FaultPool, load: Load) -> str:
    def wait(other: Load, submitter: subprocess.Popen[str]) -> None:
        while not _queued(other) and submitter.poll() is None:
            time.sleep(0.001)

    return _kill_submitter(load, wait)


def _submit_twice(_pool: FaultPool, load: Load) -> None:
    with _succeeded(load) as (other, invocations), contextlib.ExitStack() as stack:
        submitters = [
            stack.enter_context(start_submitter(_harness(other), invocations)) for _ in range(2)
        ]
        printed = [submitter.communicate()[0].split() for submitter in submitters]
        if not printed[0] == printed[1] or len(set(printed[0])) != JOBS:
            raise AssertionError(f"two submitters got different jobs: {printed}")


def _event_log(load: Load) -> Path:
    path = load.runner.event_log
    if path is None:
        raise RuntimeError("the runner has no event log")
    return path


def _truncate_log(_pool: FaultPool, load: Load) -> None:
    path = _event_log(load)
    os.truncate(path, path.stat().st_size // 2)


def _replace_log(_pool: FaultPool, load: Load) -> None:
    path = _event_log(load)
    status = path.stat()
    other = path.with_suffix(".other")
    other.write_text("this is not an event log\n" * 100)
    os.chown(other, status.st_uid, status.st_gid)
    other.replace(path)


def _remove_log(_pool: FaultPool, load: Load) -> None:
    _event_log(load).unlink()


def _lose_token(
    load: Load, text: str, seconds: int, lose: Callable[[], object], create: Callable[[], str]
) -> str:
    """Run jobs with a token of their own, lose it meanwhile, and go on with another."""
    directory = load.directory / f"tokens-{time.monotonic_ns()}"
    token = directory / load.destination.pool.name
    write_token(token, text)
    other = load.fork(token_directory=str(directory))
    other.start_tracking()
    other.submit_until_accepted(_invocations(other, f"sleep {seconds}"))
    lose()
    refusal = _refusal(other)
    write_token(token, create())
    other.probe(1)
    return f"a submit with it: “{refusal}”; accepted with a new one"


def _expire_token(pool: FaultPool, load: Load) -> str:
    settings = pool.destination.pool
    identity = f"{settings.user.name}@{settings.name}"

    def create(lifetime_s: int = 3600) -> str:
        command = ("condor_token_create", "-identity", identity, "-lifetime", str(lifetime_s))
        return pool.exec_in(pool.container(), *command)

    return _lose_token(
        load,
        create(TOKEN_LIFETIME_S),
        TOKEN_LIFETIME_S + 5,
        lambda: time.sleep(TOKEN_LIFETIME_S + 1),
        create,
    )


def _revoke_token(pool: FaultPool, load: Load) -> str:
    name = f"faults-{time.monotonic_ns() % 10**9}"
    created, text = pool.provisioner.create_token(name, "submit", 3600)
    return _lose_token(
        load,
        text,
        10,
        lambda: pool.provisioner.revoke_tokens(created.id),
        lambda: pool.provisioner.create_token(name, "submit", 3600)[1],
    )


def _refusal(load: Load) -> str:
    """Return the beginning of the error of a new process that submits with the runner's token."""
    process = load.fork(token_directory=load.destination.token_directory)
    try:
        process.runner.submit([process.invocation("refused", "true")])
    except UnreachableError as error:
        return (
            str(error)
            .split("(")[0]
            .split(";")[0]
            .replace(str(load.destination.token_directory), "…")
            .strip()
        )
    raise AssertionError("a token that is not valid any more was accepted")


FAULTS = (
    PoolFault(
        "runner killed before a submit",
        f"SIGKILL to a process that is about to submit {JOBS} jobs",
        _kill_before_submit,
        short=True,
    ),
    PoolFault(
        "runner killed after a submit",
        f"SIGKILL as soon as the first of {JOBS} jobs is queued",
        _kill_after_submit,
        short=True,
    ),
    PoolFault(
        "the same key twice",
        f"two processes of one runner submit the same {JOBS} keys at once, a third later",
        _submit_twice,
        short=True,
    ),
    PoolFault("event log truncated", "to half of its size", _truncate_log, short=True),
    PoolFault("event log replaced", "by a file of other text", _replace_log, short=True),
    PoolFault("event log gone", "removed", _remove_log, short=True),
    PoolFault("token expired", f"after {TOKEN_LIFETIME_S} s, with jobs running", _expire_token),
    PoolFault("token revoked", "with jobs running", _revoke_token),
)
