"""Galaxy's metadata of a finished job, set outside its container and outside Galaxy's process.

Galaxy's own way starts an interpreter for each job, which takes seconds to import what it needs.
Here a server imports it once, and each job gets a process of its own that is forked from that.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)
LOG_NAME = "swarm_runner_metadata.log"


class MetadataSetter:
    """Sets the metadata of one job after another, in processes of their own."""

    def __init__(self) -> None:
        self._context: ForkServerContext = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["galaxy.metadata.set_metadata", __name__])

    def set(self, job_directory: str, *, extended: bool) -> bool:
        """Set what Galaxy has written down in the directory; whether that went well."""
        process = self._context.Process(
            target=_set, args=(job_directory, extended), name=f"metadata of {job_directory}"
        )
        process.start()
        process.join()
        code = process.exitcode
        process.close()
        if code:
            said = Path(job_directory, LOG_NAME)
            log.error(
                "The metadata in %s could not be set (exit code %s); see %s",
                job_directory,
                code,
                said,
            )
        return code == 0


def _set(job_directory: str, extended: bool) -> None:
    """In the forked process."""
    from galaxy.metadata.set_metadata import set_metadata_portable

    os.chdir(job_directory)
    stream: Any = open(LOG_NAME, "a", encoding="utf-8")  # noqa: SIM115, PTH123 (until the end)
    sys.stdout = sys.stderr = stream
    set_metadata_portable(
        tool_job_working_directory=job_directory, extended_metadata_collection=extended
    )
