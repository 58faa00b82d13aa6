"""What this process does in directories that jobs write to."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from snakemake_executor_plugin_swarm_runner.directories import (
    READABLE_MODE,
    SHARED_MODE,
    opened_directory,
    replace_file,
    set_mode,
)

OTHER_UID = 12345
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_missing_directories_are_created(tmp_path: Path) -> None:
    with opened_directory(tmp_path, "a/b") as directory:
        set_mode(directory, SHARED_MODE, "a/b")
        replace_file(directory, "file", "old")
        replace_file(directory, "file", "new")
    assert _mode(tmp_path / "a/b") == SHARED_MODE
    assert (tmp_path / "a/b/file").read_text() == "new"
    assert [file.name for file in (tmp_path / "a/b").iterdir()] == ["file"]


def test_the_users_own_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "a").symlink_to("disk")
    with opened_directory(tmp_path, "a/b"):
        pass
    assert (tmp_path / "disk" / "b").is_dir()


@needs_root
@pytest.mark.parametrize("name", ["a", "a/b"])
def test_links_of_others_are_not_followed(tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    victim.mkdir(mode=0o700)
    link = tmp_path / "base" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(victim)
    os.chown(link, OTHER_UID, OTHER_UID, follow_symlinks=False)
    with (
        pytest.raises(NotADirectoryError, match="is a link of another user"),
        opened_directory(tmp_path / "base", "a/b") as directory,
    ):
        set_mode(directory, SHARED_MODE, link)
    assert _mode(victim) == 0o700
    assert not list(victim.iterdir())


def test_a_file_in_place_of_the_directory(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(NotADirectoryError), opened_directory(tmp_path, "a/b"):
        pass


@needs_root
def test_a_directory_of_somebody_else(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir(mode=0o700)
    os.chown(tmp_path / "a", OTHER_UID, OTHER_UID)
    with opened_directory(tmp_path, "a") as directory:
        set_mode(directory, SHARED_MODE, "a", OTHER_UID)
        with pytest.raises(PermissionError, match=f"belongs to uid {OTHER_UID}, not to you"):
            set_mode(directory, READABLE_MODE, "a")
    assert _mode(tmp_path / "a") == 0o700


def test_a_link_in_place_of_the_new_file_is_replaced(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file.new").symlink_to(victim)
    (tmp_path / "a" / "file").symlink_to(victim)
    with opened_directory(tmp_path, "a") as directory:
        replace_file(directory, "file", "text")
    assert victim.read_text() == "precious"
    assert (tmp_path / "a" / "file").read_text() == "text"
    assert not (tmp_path / "a" / "file").is_symlink()
