"""Which of Galaxy's own files the jobs of a pool may change.

Every job mounts the pool's volumes. A tool that can write Galaxy's code, configuration or database
can do whatever Galaxy can do. Only a warning: a small Galaxy may trust all of its tools.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from swarm_runner import Pool

_SQLITE = "sqlite:///"


def find_exposed_files(config: Any, pool: Pool) -> list[str]:
    """Return a sentence for each of Galaxy's own paths that is on a writable volume of the pool.

    `config` is Galaxy's. Links are followed: the path counts that is mounted.
    """
    writable = {os.path.realpath(v.path): v.path for v in pool.volumes if not v.read_only}
    messages = []
    for what, path in _own_paths(config):
        for real, volume in writable.items():
            if Path(os.path.realpath(path)).is_relative_to(real):
                messages.append(f"{what} ({path}) is on the volume {volume}")
    return messages


def _own_paths(config: Any) -> Iterator[tuple[str, str]]:
    yield "the virtual environment", sys.prefix
    names = {
        "Galaxy's code": "root",
        "the configuration": "config_file",
        "the directory of the configuration": "config_dir",
        "the job configuration": "job_config_file",
    }
    for what, name in names.items():
        path = getattr(config, name, None)
        if isinstance(path, str) and path:
            yield what, path
    connection = getattr(config, "database_connection", None)
    if isinstance(connection, str) and connection.startswith(_SQLITE):
        path = connection.removeprefix(_SQLITE).partition("?")[0]
        if path and path != ":memory:":
            yield "the database", path
