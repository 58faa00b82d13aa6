"""The images that a pool's executors pulled on their node, and which of them are kept.

Only images that an executor pulled are ever removed, and none that a container uses. Each has a
file in the directory that the node's executors share: its content is the image's name, its time the
last use by a job.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gateway_engine import Engine, EngineError

_SUFFIX = ".image"
# An image is not removed so soon after its last use: the next job may have been matched already.
MINIMUM_AGE_S = 60.0
_IN_USE, _NOT_FOUND = 409, 404


@dataclass(frozen=True)
class CachedImage:
    """An image that an executor pulled. `size` is what `docker images` shows, in bytes."""

    name: str
    size: int
    used_at: float
    record: Path


class ImageCache:
    """The pulled images of one node. `limit_bytes`: how much of them is kept; None for all."""

    def __init__(self, engine: Engine, directory: Path, limit_bytes: int | None = None) -> None:
        self._engine = engine
        self._directory = directory
        self._limit_bytes = limit_bytes
        self._noted: dict[str, float] = {}

    def note_pull(self, name: str, key: str) -> None:
        """Note that an executor pulled an image."""
        record = self._directory / f"{key}{_SUFFIX}"
        record.write_text(name)
        os.utime(record)

    def note_use(self, name: str, key: str) -> None:
        """Note that a job uses an image, at most once in a while."""
        now = time.monotonic()
        if now - self._noted.get(name, -MINIMUM_AGE_S) < MINIMUM_AGE_S / 2:
            return
        self._noted[name] = now
        with suppress(FileNotFoundError):
            os.utime(self._directory / f"{key}{_SUFFIX}")

    def images(self) -> list[CachedImage]:
        """Return the pulled images that the engine still has, the least recently used first."""
        found = []
        for record in self._directory.glob(f"*{_SUFFIX}"):
            try:
                name, used_at = record.read_text(), record.stat().st_mtime
                facts = self._engine.call("GET", f"/images/{name}/json")
            except FileNotFoundError:
                continue
            except EngineError as error:
                if error.status != _NOT_FOUND:
                    raise
                record.unlink(missing_ok=True)
                continue
            found.append(CachedImage(name, int(facts.get("Size", 0)), used_at, record))
        return sorted(found, key=lambda image: image.used_at)

    def trim(self) -> list[CachedImage]:
        """Remove the least recently used images above the limit. Return what was removed.

        Another executor that is at it is left alone. Raises EngineError.
        """
        if self._limit_bytes is None:
            return []
        with (self._directory / "trim.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return []
            images = self.images()
            total, removed = sum(image.size for image in images), []
            for image in images:
                if total <= self._limit_bytes:
                    break
                if self._remove(image, MINIMUM_AGE_S):
                    removed.append(image)
                    total -= image.size
            return removed

    def prune(self, unused_s: float) -> list[CachedImage]:
        """Remove the images that no job has used for so long. Raises EngineError."""
        return [image for image in self.images() if self._remove(image, unused_s)]

    def _remove(self, image: CachedImage, unused_s: float) -> bool:
        """Remove an image, unless a job used it a moment ago or a container uses it."""
        try:
            if time.time() - image.record.stat().st_mtime < unused_s:
                return False
            self._engine.call("DELETE", f"/images/{image.name}")
        except FileNotFoundError:
            return False
        except EngineError as error:
            if error.status not in (_IN_USE, _NOT_FOUND):
                raise
            if error.status == _IN_USE:
                return False
        image.record.unlink(missing_ok=True)
        return True
