"""Which spooled jobs this runner has submitted, and into which directory their outputs belong.

A job's ad says where its outputs go, and anyone who may submit can write that. A runner therefore
fetches outputs only of jobs that it has recorded, and only into the directory that it recorded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from swarm_runner.condor.ports import Ad
from swarm_runner.errors import InvalidInputError

RECORD_NAME = "spooled.jsonl"


class SpoolRecord:
    """Directories by key, in a file in a directory of this user's own.

    Other programs of the same runner name may append to it, too.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / RECORD_NAME
        self._directories: dict[str, str] = {}
        self._offset = 0

    def add(self, directories: Mapping[str, str]) -> None:
        """Record keys before their jobs are submitted, so that a crash loses none.

        Raises InvalidInputError when that is not possible.
        """
        if directories:
            # Begin with a new line: the last write may have been interrupted.
            lines = "\n".join(["", *map(json.dumps, directories.items()), ""])
            try:
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(lines)
            except OSError as error:
                raise InvalidInputError(
                    f"Cannot record where the jobs' outputs go: {error}. Set XDG_STATE_HOME to a "
                    "directory that only this user can write"
                ) from error

    def allows(self, ad: Ad) -> bool:
        """Return whether the job's outputs go where this runner recorded."""
        with suppress(OSError), self._path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                with suppress(ValueError):
                    self._directories.update([json.loads(line)])
            self._offset = file.tell()
        return self._directories.get(str(ad.get("SwarmRunnerKey"))) == str(ad.get("SUBMIT_Iwd"))
