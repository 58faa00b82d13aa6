"""Killed runners, killed access points, two runners of one name: each job once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import docker
import pytest
from docker.models.containers import Container

from swarm_runner.model.invocation import Invocation
from swarm_runner.model.job import JobState
from swarm_runner.runner import event_logs
from tests.integration.conftest import HarnessFactory, LabHarness, start_submitter
from tests.lab.pool import LabPool

JOBS = 500
SHAPES = 25
TIMEOUT_S = 1200
KILL_SCHEDD = """
for process in /proc/[0-9]*; do
  [ "$(cat $process/comm)" != condor_schedd ] || { kill -KILL ${process#/proc/} && echo killed; }
done
"""


def _once_each(harness: LabHarness, count: int) -> list[Invocation]:
    """Invocations that each leave one line for every time that they run; of several shapes."""
    return [
        harness.invocation(
            f"once-{number}",
            f"echo run >> runs/{number}",
            in_place=True,
            environment={f"SHAPE_{number % SHAPES}": str(number)},
            resources={"memory_mb": 64, "disk_mb": 10},
        )
        for number in range(count)
    ]


def _wide(harness: LabHarness) -> LabHarness:
    runs = harness.directory / "runs"
    runs.mkdir()
    runs.chmod(0o777)
    return harness


@pytest.fixture
def many_executors(lab: LabPool) -> Iterator[None]:
    lab.provisioner.scale({"normal": 6})
    yield
    lab.provisioner.scale({"normal": 2})


@pytest.mark.usefixtures("many_executors")
def test_killed_in_the_middle_of_a_batch(make_harness: HarnessFactory) -> None:
    bed = _wide(make_harness("log"))
    invocations = _once_each(bed, JOBS)
    program = start_submitter(bed, invocations)
    with program:
        while not bed.queued_ids() and program.poll() is None:
            time.sleep(0.001)
        program.kill()
    sent = len(bed.queued_ids())
    assert program.returncode == -9, program.stderr
    assert 0 < sent < JOBS
    with bed.runner() as runner:
        jobs = runner.submit(invocations)
        assert [job.key for job in jobs] == [one.key for one in invocations]
        ended = runner.wait(jobs, 4 * TIMEOUT_S)  # 500 containers, on however few cores
    assert [job.outcome and job.outcome.exit_code for job in ended] == [0] * JOBS
    assert {job.starts for job in ended} == {1}
    runs = {file.name: file.read_text() for file in (bed.directory / "runs").iterdir()}
    assert runs == {str(number): "run\n" for number in range(JOBS)}


@pytest.mark.parametrize("way", ["log", "poll"])
def test_killed_again_and_again(make_harness: HarnessFactory, way: str) -> None:
    bed = _wide(make_harness(way))
    invocations = _once_each(bed, 60)
    for delay_s in (0.6, 0.7, 0.8, 0.9, 1.0):
        program = start_submitter(bed, invocations)
        with program:
            time.sleep(delay_s)
            program.kill()
    with bed.runner() as runner:
        jobs = runner.submit(invocations)
        assert set(bed.queued_ids()) <= {job.id for job in jobs}
        assert len({job.id for job in jobs}) == 60
        runner.wait(jobs, TIMEOUT_S)
    runs = {file.name: file.read_text() for file in (bed.directory / "runs").iterdir()}
    assert runs == {str(number): "run\n" for number in range(60)}


def test_two_programs_at_once_send_each_key_once(harness: LabHarness) -> None:
    invocations = [harness.invocation(f"k{n}", "true", capacity_class="big") for n in range(20)]
    programs = [start_submitter(harness, invocations) for _ in range(2)]
    said = [program.communicate(timeout=60)[0].split() for program in programs]
    assert said[0] == said[1]
    assert len(set(said[0])) == 20
    assert len(harness.queued_ids()) <= 20


def test_each_key_once_when_no_log_knows_it_any_more(
    make_harness: HarnessFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a new log for each submit; the history alone has the first keys."""
    bed = make_harness("log")
    monkeypatch.setattr(event_logs, "TURN_BYTES", 1)
    codes = {"long": 10, "short": 0, "last": 0}
    invocations = [bed.invocation(key, f"sleep {code}; exit {code}") for key, code in codes.items()]
    with bed.runner() as runner:
        sent = [job for one in invocations for job in runner.submit([one])]
        jobs = runner.wait(sent, TIMEOUT_S)
        runner.wait(runner.submit([bed.invocation("end", "true")]), TIMEOUT_S)
    assert [job.outcome and job.outcome.exit_code for job in jobs] == list(codes.values())
    assert [job.starts for job in jobs] == [1] * len(jobs)
    with bed.runner() as later:
        assert [job.key for job in later.jobs()] == ["last", "end"]
        for job, one in zip(jobs, invocations, strict=True):
            assert [found.id for found in later.submit([one])] == [job.id]


@pytest.fixture
def central_manager(harness: LabHarness) -> Iterator[Container]:
    engine = docker.from_env()
    mark = f"com.docker.swarm.service.name={harness.destination.pool.service()}"
    filters: dict[str, str | list[str] | bool] = {"label": mark}
    yield engine.containers.list(filters=filters)[0]
    engine.close()


def test_the_schedd_is_killed_while_jobs_run(
    harness: LabHarness, central_manager: Container
) -> None:
    invocations = [harness.invocation(f"k{n}", f"sleep {5 + n}; exit {n}") for n in range(4)]

    killed: list[object] = []

    def kill() -> None:
        time.sleep(4)
        killed.append(central_manager.exec_run(["sh", "-c", KILL_SCHEDD]).output)

    killer = threading.Thread(target=kill)
    with harness.runner() as runner:
        jobs = runner.submit(invocations)
        killer.start()
        ended = runner.wait(jobs, TIMEOUT_S)
        killer.join()
        assert killed == [b"killed\n"]
        # The access point is found again, under another address.
        (late,) = runner.wait(runner.submit([harness.invocation("late", "true")]), TIMEOUT_S)
    assert [job.outcome and job.outcome.exit_code for job in ended] == [0, 1, 2, 3]
    assert late.state is JobState.COMPLETED
