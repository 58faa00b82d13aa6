"""`swarm-runner pool` from up to down, as an operator types it: a `down` loses nothing."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from swarm_runner.condor.access_point import AccessPoint
from swarm_runner.condor.ports import JobQuery
from swarm_runner.config.job_conf import parse_job_conf
from swarm_runner.model.job import JobId
from tests.integration.shell import TIMEOUT_S, CommandShell
from tests.lab.pool import lab_files

NAME, PORT = "swarm-runner-test-down", 9739
IDLE, RUNNING, COMPLETED, HELD = 1, 2, 4, 5
RETIREMENT_S = 15


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[CommandShell]:
    classes = {"normal": {"cpus": 1, "memory_mb": 512, "replicas": 1, "retirement_s": RETIREMENT_S}}
    job_conf, _ = lab_files(NAME, PORT, {"classes": classes})
    shell = CommandShell(tmp_path, job_conf, f"down-{uuid.uuid4().hex[:12]}")
    shell.run("pool", "down", "--force")
    yield shell
    assert shell.run("pool", "down", "--force").code == 0


@pytest.fixture
def access_point(shell: CommandShell) -> AccessPoint:
    destination = parse_job_conf(shell.job_conf.read_text(), str(shell.job_conf)).destination()
    return AccessPoint.connect(destination.pool, destination.token_directory)


def test_from_up_to_down(shell: CommandShell, access_point: AccessPoint) -> None:
    assert shell.run("pool", "up", "--init").code == 0
    scaled = shell.run("pool", "scale", "normal=2", "--json")
    assert (scaled.code, len(scaled.data["executors"])) == (0, 2)

    # A job whose outputs wait in the queue until somebody comes for them.
    (shell.directory / "in").write_text("carried\n")
    carried: dict[str, object] = {"inputs": ["in"], "outputs": ["out"], "shell": "cat in > out"}
    _submit(shell, carried)
    _await(access_point, COMPLETED)
    refused = shell.run("pool", "down")
    assert (refused.code, refused.out) == (1, "")
    assert "1 jobs have not ended, or their outputs were not fetched" in refused.err
    assert shell.run_for_runner("jobs", "--wait").code == 0
    assert (shell.directory / "out").read_text() == "carried\n"

    # A job that is longer than its executor may take to go: told before, and vacated then.
    _submit(shell, {"shell": "sleep 600"})
    _await(access_point, RUNNING)
    (job,) = _queued(access_point)
    since = time.monotonic()
    gone = shell.run("pool", "scale", "normal=0")
    assert gone.code == 0, gone.err
    assert f"until job {job} ends (vacated at " in gone.err
    # Asking the job to end takes up to ten seconds of them.
    assert time.monotonic() - since > RETIREMENT_S - 10
    (ad,) = access_point.jobs(JobQuery(ids=[job]), ("JobStatus", "NumJobStarts"))
    assert (ad["JobStatus"], ad["NumJobStarts"]) == (IDLE, 1)
    access_point.remove([job], "seen")

    # A job that is held, and runs when it is released. It was held before it could run: one that
    # is released while it is still being stopped is lost to HTCondor's schedd (docs/findings.md).
    _submit(shell, {"shell": "sleep 5"})
    (job,) = _queued(access_point)
    access_point.hold([job], "not now")
    _await(access_point, HELD)
    assert shell.run("pool", "scale", "normal=1").code == 0
    assert shell.run("pool", "down").code == 1
    draining = shell.start("pool", "down", "--drain")
    time.sleep(5)
    assert draining.poll() is None
    access_point.release([job], "now")
    # What it has said is fetched, too, before the queue goes.
    assert shell.run_for_runner("jobs", "--wait").code == 0
    _, said = draining.communicate(timeout=TIMEOUT_S)
    assert draining.returncode == 0, said
    assert "waiting until 1 jobs have ended, held ones too" in said
    engine = docker.from_env()
    # The Swarm went too, if it was made for this pool.
    assert shell.run("pool", "status").code in (1, 3)
    assert engine.containers.list(filters={"name": NAME}) == []
    assert [one for one in engine.volumes.list() if one.name.startswith(NAME)] == []
    engine.close()


def _submit(shell: CommandShell, fields: dict[str, object]) -> None:
    common = {"image": "debian:trixie", "resources": {"memory": "100M", "disk": "50M"}}
    file = shell.write("job.yml", common | fields)
    done = shell.run_for_runner("submit", file)
    assert done.code == 0, done.err


def _queued(access_point: AccessPoint) -> list[JobId]:
    """Those that have not ended: what was fetched leaves the queue a little later."""
    ads = access_point.jobs(JobQuery())
    return [JobId(ad["ClusterId"], ad["ProcId"]) for ad in ads if ad["JobStatus"] != COMPLETED]


def _await(access_point: AccessPoint, status: int) -> None:
    until = time.monotonic() + TIMEOUT_S
    while status not in {ad["JobStatus"] for ad in access_point.jobs(JobQuery())}:
        assert time.monotonic() < until, access_point.jobs(JobQuery())
        time.sleep(0.5)
