"""Which files the executors see: those on a pool volume, and what links there lead to."""

from __future__ import annotations

import os
import posixpath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from swarm_runner import Pool

# As many as Linux follows in one path.
_MAX_LINKS = 40


class Visibility:
    """Finds the places on this host that a pool's executors do not see.

    Executors have the pool's volumes at the same paths, and nothing else of this host. A link on a
    volume works for them only if its target is on a volume, too.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        # Directories without links in their paths, by the paths that lead to them. Most jobs have
        # files in the same directories.
        self._directories: dict[str, str] = {}

    def hidden_target(self, path: str) -> str | None:
        """Return where an absolute path leads to, if executors do not see that; else None."""
        try:
            self._resolve(posixpath.normpath(path), _MAX_LINKS)
        except _HiddenError as error:
            return error.path
        return None

    def _resolve(self, path: str, links: int) -> str:
        """Return the path without links. Raise _HiddenError if executors do not see it."""
        volume = self._pool.volume_of(path)
        if volume is None or not links:
            raise _HiddenError(path)
        if path == volume.path:
            return path
        parent, name = posixpath.split(path)
        directory = self._directories.get(parent)
        if directory is None:
            directory = self._directories[parent] = self._resolve(parent, links)
        resolved = f"{directory}/{name}"
        try:
            target = os.readlink(resolved)  # noqa: PTH115 (runs for each file; faster)
        except OSError:
            return resolved  # not a link, or not there yet
        return self._resolve(posixpath.normpath(posixpath.join(directory, target)), links - 1)


class _HiddenError(Exception):
    """The path is on no volume of the pool, or its links go round in a circle."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path
