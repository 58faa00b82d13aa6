"""A pool of the previous version is upgraded, with jobs in it: `make test-upgrade`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.lab.pool import lab_files
from tests.lab.previous_version import install, previous_commit
from tests.polling import TIMEOUT_S, poll_until
from tests.result import Result

pytestmark = pytest.mark.previous_version
NAME, PORT = "swarm-runner-test-previous", 9736
CLASSES = {"normal": {"memory_mb": 256, "replicas": 2}, "big": {"memory_mb": 512, "replicas": 1}}
NEW = Path(sys.executable).with_name("swarm-runner")
# Two of them run during the upgrade, the others wait.
LONG_JOBS = 4
DURATION_S = 30


class Site:
    """A pool's directory, and the commands of both versions."""

    def __init__(self, directory: Path, old: Path) -> None:
        self.directory = directory
        self.old = old
        self.job_conf, self.volume = lab_files(NAME, PORT, {"classes": CLASSES})

    def run(self, program: Path, *arguments: str, code: int = 0) -> Result:
        """Run a command of one version. Fails unless it ends with this exit code."""
        environment = os.environ | {
            "SWARM_RUNNER_JOB_CONF": str(self.job_conf),
            "XDG_STATE_HOME": str(self.directory / "state"),
            "XDG_CONFIG_HOME": str(self.directory / "config"),
        }
        if program == self.old:
            environment.pop("PYTHONPATH", None)
        done = subprocess.run(
            [program, *arguments],
            cwd=self.directory,
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == code, f"{arguments}\n{done.stdout}\n{done.stderr}"
        return Result(done.returncode, done.stdout, done.stderr)

    def submit(self, program: Path, keys: Sequence[str], shell: str) -> None:
        invocations = [
            {
                "key": key,
                "image": "debian:trixie",
                "shell": f"echo ran >> {self.volume}/{key}; {shell}",
                "working_directory": str(self.volume),
                "resources": {"memory_mb": 100, "disk_mb": 10},
            }
            for key in keys
        ]
        (self.directory / "jobs.yml").write_text(yaml.safe_dump(invocations))
        self.run(program, "submit", "jobs.yml", "--runner", "site")

    def jobs(self, program: Path) -> dict[str, dict[str, Any]]:
        """Return the jobs by their keys, ended ones too."""
        found = self.run(program, "jobs", "--runner", "site", "--json").data
        return {job["key"]: job for job in found}

    def runs(self, key: str) -> list[str]:
        """Return a line for each time that a job's command ran."""
        return (self.volume / key).read_text().splitlines()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path, install(previous_commit(), tmp_path / "venv"))
    site.run(NEW, "pool", "down", "--force")  # the rest of an interrupted test
    try:
        yield site
    finally:
        site.run(NEW, "pool", "down", "--force")


def test_jobs_end_once_on_an_upgraded_pool(site: Site) -> None:
    site.run(site.old, "pool", "up", "--init")
    site.submit(site.old, ["before"], "true")
    site.run(site.old, "jobs", "--runner", "site", "--wait")
    long_jobs = [f"during-{number}" for number in range(LONG_JOBS)]
    site.submit(site.old, long_jobs, f"sleep {DURATION_S}")
    poll_until(
        lambda: [job["state"] for job in site.jobs(site.old).values()].count("running"),
        lambda running: running >= 2,
    )

    site.run(NEW, "pool", "status")
    upgraded = site.run(NEW, "pool", "upgrade")
    assert f"{NAME}_htcondor: 1 of 1 upgraded" in upgraded.err
    site.submit(NEW, ["after"], "true")

    site.run(NEW, "jobs", "--runner", "site", "--wait")
    jobs = site.jobs(NEW)
    assert set(jobs) == {"before", *long_jobs, "after"}
    assert {job["outcome"]["exit_code"] for job in jobs.values()} == {0}
    assert {key: site.runs(key) for key in jobs} == {key: ["ran"] for key in jobs}
    # What was submitted with the old version is not run again by the new one.
    site.submit(NEW, ["before", *long_jobs], "true")
    assert {key: site.runs(key) for key in jobs} == {key: ["ran"] for key in jobs}
    site.run(NEW, "doctor")
