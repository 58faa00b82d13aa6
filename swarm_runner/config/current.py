"""The configuration of the pool that was brought up last, for who names none."""

from __future__ import annotations

import contextlib
from pathlib import Path

import platformdirs


def get_current_config() -> Path | None:
    """The file of the last `pool up`, unless its pool was taken down since or it is gone."""
    place = _link_path()
    return place.resolve() if place.exists() else None


def set_current_config(file: Path | None) -> None:
    """Let who names no file use this one. A file that somebody put in its place stays."""
    place = _link_path()
    if file is None or not file.is_file() or (place.exists() and not place.is_symlink()):
        return
    with contextlib.suppress(OSError):  # the pool is up all the same
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        place.symlink_to(file.resolve())


def clear_current_config(file: Path | None) -> None:
    """Its pool is gone."""
    place = _link_path()
    if place.is_symlink() and (file is None or place.resolve() == file.resolve()):
        place.unlink()


def _link_path() -> Path:
    return platformdirs.user_config_path("swarm-runner") / "job_conf.yml"
