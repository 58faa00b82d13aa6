"""The program in the manager's container that writes a backup."""

from __future__ import annotations

import io
import socket
import tarfile
from pathlib import Path
from types import ModuleType

import pytest

from tests.unit.swarm.image import load_program

backup: ModuleType = load_program("backup")


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    directory = tmp_path / "spool"
    job = directory / "7" / "0" / "cluster7.proc0.subproc0"
    job.mkdir(parents=True)
    (job / "input").write_text("reads")
    (job / "link").symlink_to("/etc/shadow")
    (directory / "job_queue.log").write_text("105\n")
    (directory / "history").write_text("ads")
    (directory / "swarm-runner-tokens.json").write_text("[]")
    for name in ("swarm-runner-queue.lock", "swarm-runner-term-3", ".schedd_address", "tmpx1"):
        (directory / name).touch()
    return directory


def members(spool: Path, tmp_path: Path) -> dict[str, tarfile.TarInfo]:
    key = tmp_path / "key"
    key.write_text("secret")
    output = io.BytesIO()
    backup.write(output, spool, key, pool="galaxy", htcondor="25.14.1", now_s=1.5)
    output.seek(0)
    with tarfile.open(fileobj=output) as archive:
        return {member.name: member for member in archive}


def test_what_a_backup_has(spool: Path, tmp_path: Path) -> None:
    job = "spool/7/0/cluster7.proc0.subproc0"
    found = members(spool, tmp_path)
    assert list(found) == [
        "manifest.json",
        "signing-key",
        "spool/job_queue.log",
        "spool/7",
        "spool/7/0",
        job,
        f"{job}/input",
        f"{job}/link",
        "spool/history",
        "spool/swarm-runner-tokens.json",
        "end",
    ]
    # A job may have made the link: it stays one.
    assert found[f"{job}/link"].issym()


def test_sockets_are_passed_over(
    spool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(spool)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        assert "spool/socket" not in members(spool, tmp_path)


def test_files_that_go_meanwhile_are_passed_over(
    spool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = backup._add

    def remove_first(archive: tarfile.TarFile, path: Path, name: str) -> None:
        if path.name == "input":
            path.unlink()
        original(archive, path, name)

    monkeypatch.setattr(backup, "_add", remove_first)
    assert not any(name.endswith("input") for name in members(spool, tmp_path))
