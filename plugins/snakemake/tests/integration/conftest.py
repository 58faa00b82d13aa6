"""A harness for workflows on a real pool. Each workflow runs in a Snakemake process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from swarm_runner import AccessPoint, Destination, JobQuery, JobStatus, parse_job_conf

PLUGIN = Path(__file__).parents[2]
SNAKEMAKE = Path(sys.executable).with_name("snakemake")
TIMEOUT_S = 300


@dataclass(frozen=True)
class Pool:
    """A running pool, its volume, and the image for nested jobs."""

    job_conf: Path
    destination: Destination
    volume: Path
    access_point: AccessPoint
    image: str

    def count_jobs(self, status: JobStatus | None = None) -> int:
        """Count the jobs in its queue: all, or those with this JobStatus."""
        ads = self.access_point.jobs(JobQuery(), ("JobStatus",))
        return sum(status in (None, ad["JobStatus"]) for ad in ads)


@dataclass(frozen=True)
class Workflow:
    """A directory with a Snakefile."""

    pool: Pool
    directory: Path

    def write(self, name: str, text: str) -> None:
        file = self.directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def read(self, name: str) -> str:
        return (self.directory / name).read_text()

    def start(self, *options: str, jobs: int = 40, **environment: str) -> subprocess.Popen[str]:
        command = [str(SNAKEMAKE), "--executor", "swarm-runner", "--jobs", str(jobs)]
        command += ["--swarm-runner-snakemake-image", self.pool.image, *options]
        with (self.directory / "log").open("a") as log:
            return subprocess.Popen(
                command,
                cwd=self.directory,
                env=os.environ | {"SWARM_RUNNER_JOB_CONF": str(self.pool.job_conf)} | environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
                umask=0,  # jobs write here as the pool's user
            )

    def run(self, *options: str, jobs: int = 40, **environment: str) -> int:
        """Run to its end, append the output to the file `log`, and return the exit code."""
        with self.start(*options, jobs=jobs, **environment) as process:
            try:
                return process.wait(TIMEOUT_S)
            finally:
                process.kill()

    @property
    def log_text(self) -> str:
        return self.read("log")


WorkflowFactory = Callable[[str], Workflow]


@pytest.fixture(scope="session")
def pool() -> Pool:
    job_conf = Path(os.environ["SWARM_RUNNER_JOB_CONF"])
    destination = parse_job_conf(job_conf.read_text(), str(job_conf)).destination()
    access_point = AccessPoint.connect(destination.pool, destination.token_directory)
    version = subprocess.run(
        [SNAKEMAKE, "--version"], check=True, capture_output=True, text=True
    ).stdout.strip()
    image = f"swarm-runner-snakemake:{version}"
    subprocess.run([PLUGIN / "image" / "build", image, version], check=True)
    volume = Path(destination.pool.volumes[0].path)
    return Pool(job_conf, destination, volume, access_point, image)


@pytest.fixture
def make_workflow(pool: Pool) -> WorkflowFactory:
    """Makes a workflow from a Snakefile, in a new directory on the pool's volume."""

    def make(snakefile: str) -> Workflow:
        # The name needs quoting everywhere.
        directory = pool.volume / f"it's a workflow {uuid.uuid4().hex[:6]}"
        directory.mkdir()
        directory.chmod(0o777)
        workflow = Workflow(pool, directory)
        workflow.write("Snakefile", snakefile)
        return workflow

    return make


def wait_until(
    condition: Callable[[], bool], description: str, timeout_s: float = TIMEOUT_S
) -> None:
    """Wait until the condition holds; fail after the timeout."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{description}: not within {timeout_s} s")
        time.sleep(0.2)
