"""A pool is backed up while it runs, lost, and brought back (docs/how-to/several-managers.md)."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarm_runner.condor.access_point import AccessPoint
from swarm_runner.condor.ports import JobQuery
from swarm_runner.config.job_conf import parse_job_conf
from swarm_runner.errors import UnreachableError
from swarm_runner.model.htcondor import JobStatus
from tests.integration.shell import CommandShell
from tests.lab.pool import lab_files
from tests.polling import poll_until

NAME, PORT = "swarm-runner-test-backup", 9745


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[CommandShell]:
    classes = {"normal": {"cpus": 1, "memory_mb": 512, "replicas": 1}}
    job_conf, _ = lab_files(NAME, PORT, {"classes": classes})
    shell = CommandShell(tmp_path, job_conf, f"backup-{uuid.uuid4().hex[:12]}")
    shell.run("pool", "down", "--force")
    yield shell
    assert shell.run("pool", "down", "--force").code == 0


def submit(shell: CommandShell, fields: dict[str, object]) -> None:
    common = {"image": "debian:trixie", "resources": {"memory": "100M", "disk": "50M"}}
    done = shell.run_for_runner("submit", shell.write("job.yml", common | fields))
    assert done.code == 0, done.err


def test_a_lost_pool_comes_back_from_its_backup(shell: CommandShell, tmp_path: Path) -> None:
    assert shell.run("pool", "up", "--init").code == 0
    text = shell.job_conf.read_text()
    destination = parse_job_conf(text, str(shell.job_conf)).destination()
    access_point = AccessPoint.connect(destination.pool, destination.token_directory)
    bob = tmp_path / "bob"
    shell.run("pool", "token", "create", "bob", "--directory", str(bob))
    shell.run("pool", "token", "create", "eve", "--directory", str(tmp_path / "eve"))
    assert shell.run("pool", "token", "revoke", "eve").code == 0
    (tmp_path / "in").write_text("spooled\n")
    submit(shell, {"key": "ended", "shell": "true"})
    poll_until(lambda: len(access_point.history(JobQuery(), ("ClusterId",))) == 1)
    assert shell.run("pool", "scale", "normal=0").code == 0
    submit(shell, {"key": "waiting", "inputs": ["in"], "outputs": ["out"], "shell": "cat in > out"})
    poll_until(
        lambda: [ad["JobStatus"] for ad in access_point.jobs(JobQuery(), ("JobStatus",))],
        lambda found: found == [JobStatus.IDLE],
    )

    backup = tmp_path / "backup"
    assert shell.run("pool", "backup", str(backup)).code == 0
    refused = shell.run("pool", "restore", str(backup))
    assert refused.code == 1
    assert "its queue would be lost" in refused.err
    assert shell.run("pool", "down", "--force").code == 0

    restored = shell.run("pool", "restore", "--init", str(backup))
    assert restored.code == 0, restored.err
    assert shell.run("pool", "up", "--init").code == 0
    # The input was in the spool.
    assert shell.run_for_runner("jobs", "--wait").code == 0
    assert (tmp_path / "out").read_text() == "spooled\n"
    bobs = AccessPoint.connect(destination.pool, str(bob))
    # The schedd writes the history after a job has left the queue.
    poll_until(lambda: len(bobs.history(JobQuery(), ("ClusterId",))), lambda number: number == 2)
    with pytest.raises(UnreachableError):
        AccessPoint.connect(destination.pool, str(tmp_path / "eve")).jobs(JobQuery())
