"""The current configuration: the job_conf file of the last `pool up`, used if none is named."""

from __future__ import annotations

import contextlib
from pathlib import Path

import platformdirs


def get_current_config() -> Path | None:
    """Return the file of the last `pool up`; None after `pool down`, or if it does not exist."""
    link = _link_path()
    return link.resolve() if link.exists() else None


def set_current_config(file: Path | None) -> None:
    """Use this file if none is named. A regular file in the link's place is kept."""
    link = _link_path()
    if file is None or not file.is_file() or (link.exists() and not link.is_symlink()):
        return
    with contextlib.suppress(OSError):  # an error must not fail `pool up`
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(file.resolve())


def clear_current_config(file: Path | None) -> None:
    """Forget the current configuration, if it is this file or `file` is None."""
    link = _link_path()
    if link.is_symlink() and (file is None or link.resolve() == file.resolve()):
        link.unlink()


def _link_path() -> Path:
    return platformdirs.user_config_path("swarm-runner") / "job_conf.yml"
