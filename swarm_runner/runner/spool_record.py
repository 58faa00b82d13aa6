"""Which spooled jobs this runner has submitted, and into which directory their outputs belong.

A job's ad says where its outputs go, and whoever submitted it has written that. A runner therefore
fetches outputs only of jobs that it has recorded, and only into the directory that it recorded.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from swarm_runner.condor.ports import Ad
from swarm_runner.structured_log import get_logger

log = get_logger(__name__)
RECORD_NAME = "spooled.jsonl"


class SpoolRecord:
    """Directories by key, in a file that only this user may write. The file may not exist yet."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / RECORD_NAME
        self._directories: dict[str, str] | None = None

    def add(self, directories: Mapping[str, str]) -> None:
        """Record keys before their jobs are submitted, so that a crash loses none."""
        known = self._load()
        new = {key: path for key, path in directories.items() if known.get(key) != path}
        if not new:
            return
        lines = "".join(json.dumps(pair) + "\n" for pair in new.items())
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        with os.fdopen(os.open(self._path, flags, 0o600), "w", encoding="utf-8") as file:
            file.write(lines)
        known.update(new)

    def allows(self, ads: Iterable[Ad]) -> list[Ad]:
        """Return the ads of jobs whose outputs go where this runner recorded."""
        known = self._load()
        allowed = []
        for ad in ads:
            if known.get(ad.get("SwarmRunnerKey", "")) == ad.get("SUBMIT_Iwd", ""):
                allowed.append(ad)
            else:
                log.warning(
                    "Outputs are not retrieved: this runner did not submit the job to go there",
                    job_id=f"{ad.get('ClusterId')}.{ad.get('ProcId')}",
                    directory=ad.get("SUBMIT_Iwd"),
                )
        return allowed

    def _load(self) -> dict[str, str]:
        if self._directories is None:
            self._directories = {}
            if self._path.exists():
                for line in self._path.read_text(encoding="utf-8").splitlines():
                    try:
                        key, path = json.loads(line)
                    except ValueError:
                        continue  # a write that was interrupted
                    self._directories[key] = path
        return self._directories
