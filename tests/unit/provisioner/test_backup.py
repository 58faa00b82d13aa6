"""Backups of a pool, on a fake Swarm."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from swarm_runner.errors import InvalidInputError, PreconditionError
from swarm_runner.model.pool import Pool
from swarm_runner.testing.swarm import FakeSwarm
from tests.unit.provisioner.test_provisioner import Harness

QUEUE = {"job_queue.log": b"105\n", "history": b"ads"}


@pytest.fixture
def harness(tmp_path: Path) -> Harness:
    harness = Harness(tmp_path)
    harness.provisioner.up()
    harness.swarm.spool_content = dict(QUEUE)
    return harness


def lose_the_pool(harness: Harness) -> None:
    harness.provisioner.down(force=True)
    harness.swarm.spool_content = {}


def test_a_backup_brings_the_pool_back(harness: Harness, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    written = harness.provisioner.backup(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    lose_the_pool(harness)
    assert harness.provisioner.restore(file) == written
    assert harness.swarm.spool_content == QUEUE
    assert harness.swarm.secrets("galaxy") == {"galaxy_htcondor-signing-key"}
    assert harness.provisioner.up().converged


def test_a_pool_that_exists_is_not_overwritten(harness: Harness, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    harness.provisioner.backup(file)
    with pytest.raises(PreconditionError, match="pool galaxy exists, and its queue would be lost"):
        harness.provisioner.restore(file)


def test_a_backup_of_another_version_is_refused(harness: Harness, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    harness.provisioner.backup(file)
    lose_the_pool(harness)
    harness.swarm.htcondor_version = "26.0.1"
    with pytest.raises(
        PreconditionError, match=r"is of HTCondor 25\.14\.1, and the pool image .* has 26\.0\.1"
    ):
        harness.provisioner.restore(file)
    assert harness.swarm.spool_content == {}


def test_a_backup_of_another_pool_is_refused(harness: Harness, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    harness.provisioner.backup(file)
    with pytest.raises(PreconditionError, match="is a backup of pool galaxy"):
        harness.provisioner_for(Pool(name="other")).restore(file)


def test_a_file_that_is_no_backup_is_refused(harness: Harness, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    harness.provisioner.backup(file)
    lose_the_pool(harness)
    whole = file.read_bytes()
    for size in range(0, whole.index(b"end\0") + 1, 512):
        (tmp_path / "torn").write_bytes(whole[:size])
        with pytest.raises(InvalidInputError, match="torn is not a complete backup"):
            harness.provisioner.restore(tmp_path / "torn")
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("text")
    for name in ("empty", "text"):
        with pytest.raises(InvalidInputError, match=f"{name} is not a complete backup"):
            harness.provisioner.restore(tmp_path / name)
    with pytest.raises(InvalidInputError, match="cannot be read: No such file"):
        harness.provisioner.restore(tmp_path / "absent")


def test_a_failed_backup_leaves_the_last_one(harness: Harness, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    file.write_text("the last one")
    harness.swarm.engine_name = "swarm-2"
    with pytest.raises(PreconditionError, match="Select the engine of swarm-1"):
        harness.provisioner.backup(file)
    assert file.read_text() == "the last one"
    assert {path.name for path in tmp_path.iterdir()} == {"backup", "tokens.d"}


def test_a_spool_with_files_is_not_overwritten(tmp_path: Path) -> None:
    harness = Harness(tmp_path, FakeSwarm())
    harness.provisioner.up()
    harness.provisioner.backup(tmp_path / "backup")
    harness.provisioner.down(force=True)
    harness.swarm.spool_content = dict(QUEUE)
    with pytest.raises(PreconditionError, match="has files already"):
        harness.provisioner.restore(tmp_path / "backup")
    assert harness.swarm.secrets("galaxy") == set()
