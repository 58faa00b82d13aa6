"""Reference data below a real autofs, as CVMFS is: nothing is mounted until somebody looks."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import LabHarness, new_harness
from tests.lab.pool import STATE_DIRECTORY, LabPool, lab_pool
from tests.polling import TIMEOUT_S, poll_until

pytestmark = pytest.mark.autofs
NAME, PORT = "swarm-runner-autofs", 9763
REPOSITORIES = ("data.example.org", "singularity.example.org")
IDLE_S = 5
_ENV = ("/usr/bin/env",)


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """Yield the directory in which an automounter mounts the repositories, while it runs."""
    base = STATE_DIRECTORY / NAME
    sources, root = base / "sources", base / "mounts" / "cvmfs"
    for name in REPOSITORIES:
        (sources / name).mkdir(parents=True, exist_ok=True)
        (sources / name / "genome.txt").write_text(f"{name}\n")
    root.mkdir(parents=True, exist_ok=True)
    repositories, master = base / "auto.cvmfs", base / "auto.master"
    repositories.write_text(f"* -fstype=bind,ro :{sources}/&\n")
    master.write_text(f"{root} {repositories} --timeout={IDLE_S}\n")
    # As "/" is on a machine with systemd: what is mounted below it arrives in other namespaces.
    subprocess.run([*_ENV, "mount", "--bind", root.parent, root.parent], check=True)
    subprocess.run([*_ENV, "mount", "--make-rshared", root.parent], check=True)
    options = ["--foreground", "--pid-file", str(base / "autofs.pid")]
    automounter = subprocess.Popen([*_ENV, "automount", *options, str(master)])
    try:
        poll_until(lambda: "autofs" in _mounts(root))
        yield root
    finally:
        automounter.terminate()
        automounter.wait(TIMEOUT_S)
        subprocess.run([*_ENV, "umount", "--recursive", "--lazy", root.parent], check=True)


@pytest.fixture(scope="module")
def pool(root: Path) -> Iterator[LabPool]:
    """Yield a pool of one executor whose jobs have that directory."""
    volumes = [
        str(STATE_DIRECTORY / NAME / "volume"),
        {"path": str(root), "read_only": True, "propagation": "rslave"},
    ]
    classes = {"normal": {"cpus": 2, "memory_mb": 512, "replicas": 1}}
    with lab_pool(NAME, PORT, {"classes": classes, "volumes": volumes}) as found:
        yield found


@pytest.fixture
def harness(pool: LabPool) -> Iterator[LabHarness]:
    found = new_harness(pool, "log")
    yield found
    found.remove_jobs()


def _mounts(directory: Path) -> list[str]:
    """Return the types of what is mounted at and below a directory of this machine."""
    rows = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [kind for _, mounted_at, kind, *_ in rows if Path(mounted_at).is_relative_to(directory)]


def test_a_job_looks_and_it_is_mounted(harness: LabHarness, root: Path) -> None:
    poll_until(lambda: _mounts(root), lambda kinds: kinds == ["autofs"], timeout_s=30)
    with harness.runner() as runner:
        invocations = [
            harness.invocation(name, shell=f"cat {root}/{name}/genome.txt", stdout=f"{name}.txt")
            for name in REPOSITORIES
        ]
        jobs = runner.wait(runner.submit(invocations), TIMEOUT_S)
    assert all(job.outcome is not None and job.outcome.ok for job in jobs), jobs
    for name in REPOSITORIES:
        assert (harness.directory / f"{name}.txt").read_text() == f"{name}\n"


def test_a_running_job_sees_it_come_and_go(harness: LabHarness, root: Path) -> None:
    """The mount ends while nobody uses it, and the same job has it again."""
    name, started, go = REPOSITORIES[0], harness.directory / "started", harness.directory / "go"
    file = f"{root}/{name}/genome.txt"
    script = f"cat {file} && touch started; until test -e go; do sleep 0.2; done; cat {file}"
    with harness.runner() as runner:
        invocation = harness.invocation("twice", script, stdout="out.txt", in_place=True)
        jobs = runner.submit([invocation])
        poll_until(started.exists)
        poll_until(lambda: _mounts(root), lambda kinds: kinds == ["autofs"], timeout_s=30)
        go.touch()
        (job,) = runner.wait(jobs, TIMEOUT_S)
    assert job.outcome is not None
    assert job.outcome.ok, job.outcome
    assert (harness.directory / "out.txt").read_text() == f"{name}\n" * 2


def test_a_repository_that_does_not_exist(harness: LabHarness, root: Path) -> None:
    with harness.runner() as runner:
        script = f"cat {root}/no.example.org/genome.txt"
        jobs = runner.submit([harness.invocation("none", shell=script, stderr="err.txt")])
        (job,) = runner.wait(jobs, TIMEOUT_S)
    assert job.outcome is not None
    assert job.outcome.exit_code == 1
    assert "No such file or directory" in (harness.directory / "err.txt").read_text()
