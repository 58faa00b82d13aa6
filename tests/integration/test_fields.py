"""Every cell of the field table that arrives, on a real pool; three batches, one for each mode."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from swarm_runner.condor.access_point import AccessPoint
from swarm_runner.condor.ports import JobQuery
from swarm_runner.errors import InvalidInputError
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.job import Job
from swarm_runner.runner import submitter
from swarm_runner.runner.staging import stage_inputs
from swarm_runner.runner.submission import PreparedJob
from tests.field_table import MODES, Cell, Mode, prepare
from tests.field_table import jobs as jobs_of
from tests.integration.conftest import LabHarness
from tests.lab.pool import LabPool, lab_pool

pytestmark = pytest.mark.fields
TIMEOUT_S = 600.0
# Its executors run several small jobs at a time; more would overload Swarm on a small machine.
NAME, PORT = "swarm-runner-fields", 9728
CLASSES = {"normal": {"cpus": 5, "memory_mb": 640, "replicas": 2}}
RESOURCES = {"memory_mb": 64, "disk_mb": 50}


@pytest.fixture(scope="module")
def field_pool() -> Iterator[LabPool]:
    with lab_pool(NAME, PORT, {"classes": CLASSES}) as pool:
        yield pool


@pytest.fixture
def harness(field_pool: LabPool) -> Iterator[LabHarness]:
    directory = field_pool.volume / f"harness-{uuid.uuid4().hex[:8]}"
    directory.mkdir()
    state = str(field_pool.job_conf.parent / "polled")
    destination = field_pool.destination.model_copy(update={"state_directory": state})
    access_point = AccessPoint.connect(destination.pool, destination.token_directory)
    made = LabHarness(destination, directory, access_point)
    yield made
    made.remove_jobs()


def _directory(harness: LabHarness, mode: Mode, tmp_path: Path, number: int) -> Path:
    root = tmp_path if mode == "spooled" else harness.directory
    # With a parent of its own, where paths with `..` lead.
    directory = root / f"{mode.replace(' ', '-')}-{number}" / "work"
    directory.mkdir(parents=True)
    return directory


def _open_to_jobs(directory: Path) -> None:
    """Let the jobs' user write, as in a directory of its own."""
    for entry in (directory.parent, *directory.parent.rglob("*")):
        if entry.is_dir() and not entry.is_symlink():
            entry.chmod(0o777)


def _differences(cell: Cell, directory: Path, jobs: list[Job], ad: dict[str, object]) -> list[str]:
    own = directory / cell.plan.subdirectory
    found = [
        f"{name[:40]!r} is {_content(own / name)!r}, not {content!r}"[:300]
        for name, content in cell.plan.made.items()
        if _content(own / name) != content
    ]
    found += [
        f"{name} is {ad.get(name)!r}, not {value!r}"[:300]
        for name, value in cell.plan.attributes.items()
        if ad.get(name) != value
    ]
    for job in jobs:
        if job.outcome is None or not job.outcome.ok:
            found.append(str(job.outcome.message if job.outcome else job.state))
    return found


def _content(file: Path) -> str | None:
    return file.read_text() if file.is_file() else None


@pytest.mark.parametrize("mode", MODES)
def test_values_arrive(harness: LabHarness, tmp_path: Path, mode: Mode) -> None:
    tried = list(jobs_of(mode))
    directories = [_directory(harness, mode, tmp_path, n) for n in range(len(tried))]
    invocations = []
    for number, (cell, directory) in enumerate(zip(tried, directories, strict=True)):
        fields = {"key": f"cell-{number}", "resources": RESOURCES} | prepare(cell, directory)
        _open_to_jobs(directory)
        invocations.append(Invocation.model_validate(fields))
    with harness.runner() as runner:
        jobs = runner.wait(runner.submit(invocations), TIMEOUT_S)
    by_key: dict[str, list[Job]] = {}
    for job in jobs:
        by_key.setdefault(job.key, []).append(job)
    names = ("SwarmRunnerKey", "SwarmRunnerTool", "FieldTable")
    query = JobQuery(runner_name=harness.name)
    ads = {ad["SwarmRunnerKey"]: dict(ad) for ad in harness.access_point.history(query, names)}
    wrong: list[str] = []
    for cell, directory, invocation in zip(tried, directories, invocations, strict=True):
        key = invocation.key
        problems = _differences(cell, directory, by_key[key], ads.get(key, {}))
        if problems:
            wrong.append(f"{cell.name}: {problems}")
    if wrong:
        pytest.fail("\n".join(wrong))


def test_a_job_that_htcondor_refuses_leaves_its_batch(
    harness: LabHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    invocations = []
    for number in range(5):
        directory = tmp_path / f"k{number}"
        directory.mkdir()
        (directory / "in").write_text(f"{number}")
        fields = {"inputs": ["in"], "stdout": "out", "working_directory": str(directory)}
        invocations.append(harness.invocation(f"k{number}", "cat in", **fields))

    def lose_an_input(prepared: Sequence[PreparedJob]) -> AbstractContextManager[list[PreparedJob]]:
        (tmp_path / "k2" / "in").unlink(missing_ok=True)  # after it was checked
        return stage_inputs(prepared)

    monkeypatch.setattr(submitter, "stage_inputs", lose_an_input)
    with harness.runner() as runner:
        with pytest.raises(InvalidInputError) as refusal:
            runner.submit(invocations)
        assert [each.key for each in refusal.value.diagnostics] == ["k2"]
        assert "did not respond" not in str(refusal.value)
        jobs = runner.wait(timeout_s=TIMEOUT_S)
        assert sorted(job.key for job in runner.jobs()) == ["k0", "k1", "k3", "k4"]
    assert all(job.outcome is not None and job.outcome.ok for job in jobs)
    assert [_content(tmp_path / f"k{n}" / "out") for n in (0, 1, 3, 4)] == ["0", "1", "3", "4"]
