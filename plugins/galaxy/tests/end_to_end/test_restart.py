"""Galaxy is killed with jobs in every state, and restarts while the pool is unreachable."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest
import requests
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from end_to_end.conftest import Deployment
from swarm_runner import AccessPoint, JobQuery
from swarm_runner.swarm.execution import execute

RUNNING_JOBS, NEW_JOBS = 20, 10
TIMEOUT_S = 30


def _script(name: str, seconds: int) -> str:
    return f"echo $$ >> {name}; sleep {seconds}; basename {name}"


def _signal_daemons(manager: Any, name: str) -> None:
    """Send a signal to all of HTCondor's daemons in a container.

    A container that is paused can stop the engine's Swarm agent: the node then counts as down, and
    Swarm starts all of its tasks again.
    """
    script = (
        "import os, signal, pathlib\n"
        "for p in pathlib.Path('/proc').glob('[0-9]*/comm'):\n"
        f"    p.read_text().startswith('condor_') and os.kill(int(p.parent.name), signal.SIG{name})"
    )
    done = execute(manager, ["python3", "-c", script], user="root")
    assert done.exit_code == 0, done.errors


def test_the_pool_becomes_unreachable(deployment: Deployment) -> None:
    """Jobs wait and continue afterwards. Galaxy stays responsive."""
    central_manager = deployment.central_manager
    running = deployment.client.start("shell", text="sleep 8; echo continued, too")
    deployment.client.wait([running], until_states=["running"])
    _signal_daemons(central_manager, "STOP")
    try:
        job = deployment.client.start("shell", text="echo continued")
        for _ in range(5):
            requests.get(
                f"{deployment.galaxy.url}/api/version", timeout=TIMEOUT_S
            ).raise_for_status()
        with pytest.raises(AssertionError, match="timed out waiting"):
            deployment.client.wait([job], timeout_s=15)
        assert deployment.client.job(job)["state"] == "queued"
        assert deployment.client.job(running)["state"] == "running"
    finally:
        _signal_daemons(central_manager, "CONT")
    ended = deployment.client.wait([job, running])
    assert deployment.client.output(ended[job]) == "continued\n"
    assert deployment.client.output(ended[running]) == "continued, too\n"


def test_killed_and_restarted(deployment: Deployment) -> None:
    """Every job runs once, and Galaxy gets its result. Orphans are removed."""
    client = deployment.client
    runs = [str(deployment.runs_directory / f"run{n}") for n in range(RUNNING_JOBS + NEW_JOBS)]
    new_names = client.collection(runs[RUNNING_JOBS:])
    client.start("waiting_tool", text="true")
    jobs = [client.start("shell", text=_script(name, 30)) for name in runs[:RUNNING_JOBS]]
    client.wait(jobs, until_states=["running"])
    before = len(_pool_jobs(deployment))
    batch = {"batch": True, "values": [{"src": "hdca", "id": new_names}]}
    new_jobs = client.run("shell", text=_script('"$(cat "$1")"', 5), first=batch)["jobs"]
    jobs += [job["id"] for job in new_jobs]
    # Some of the new jobs are in the pool. Others are being prepared or submitted.
    _wait_until(lambda: len(_pool_jobs(deployment)) > before)
    deployment.galaxy.kill()
    _check_orphans_removed(deployment)
    central_manager = deployment.central_manager
    _signal_daemons(central_manager, "STOP")
    try:
        deployment.galaxy.start()
        assert {client.job(job)["state"] for job in jobs} <= {"new", "queued", "running"}
    finally:
        _signal_daemons(central_manager, "CONT")
    ended = client.wait(jobs)
    assert {job["state"] for job in ended.values()} == {"ok"}
    outputs = {client.output(ended[job]).strip() for job in jobs}
    assert outputs == {Path(name).name for name in runs}
    for name in runs:
        assert len(Path(name).read_text().splitlines()) == 1, f"{name} ran more than once"


def _check_orphans_removed(deployment: Deployment) -> None:
    """Delete a job in the database while Galaxy is down. Only this job is an orphan."""
    with contextlib.closing(sqlite3.connect(deployment.galaxy.database)) as database, database:
        database.execute("UPDATE job SET state = 'deleted' WHERE tool_id = 'waiting_tool'")
    (orphan,) = _list_orphans(deployment)
    assert (orphan["tool"], orphan["why"]) == ("waiting_tool", "the job is deleted in Galaxy")
    assert _list_orphans(deployment, "--remove") == [orphan]
    assert _list_orphans(deployment) == []
    assert "waiting_tool" not in {ad["SwarmRunnerTool"] for ad in _pool_jobs(deployment)}


def _list_orphans(deployment: Deployment, *options: str) -> Any:
    galaxy = deployment.galaxy
    command = str(Path(sys.executable).with_name("swarm-runner-galaxy"))
    completed = galaxy.run(
        [command, "orphans", "-c", "galaxy.yml", "--job-conf", "job_conf.yml", "--json", *options]
    )
    assert completed.returncode == 0, completed.stderr
    return json.loads(completed.stdout)


def _pool_jobs(deployment: Deployment) -> list[Any]:
    pool = deployment.pool.destination
    access_point = AccessPoint.connect(pool.pool, pool.token_directory)
    return access_point.jobs(JobQuery(), ("ClusterId", "ProcId", "SwarmRunnerTool"))


def _wait_until(condition: Any) -> None:
    Retrying(
        retry=retry_if_result(lambda done: not done),
        wait=wait_fixed(0.05),
        stop=stop_after_delay(60),
    )(condition)
