"""Staging: directories of links, for inputs that HTCondor's list of files cannot express.

Spooling sends what a staging directory contains, under the names that it has there. The directory
exists while the files are sent.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from swarm_runner.model.files import sandbox_name, source_path
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.sources import local_inputs, transfer_list
from swarm_runner.runner.submission import PreparedJob
from swarm_runner.submit.language import quote_file_list


@contextlib.contextmanager
def stage_inputs(prepared: Sequence[PreparedJob]) -> Iterator[list[PreparedJob]]:
    """Yield the jobs; those that need it have a directory of links as their input.

    The links exist until the block ends.
    """
    if not any(map(_needs_staging, prepared)):
        yield list(prepared)
        return
    with tempfile.TemporaryDirectory(prefix="swarm-runner-") as name:
        yield [
            _stage_job(job, Path(name) / str(number)) if _needs_staging(job) else job
            for number, job in enumerate(prepared)
        ]


def _needs_staging(job: PreparedJob) -> bool:
    if not job.spool:
        return False
    if job.invocation.vm is None:
        # The bindings' spool also splits file names at spaces.
        return job.needs_staging or any(
            len(source_path(item).split()) > 1 for item in job.invocation.inputs
        )
    return any(len(name.split()) > 1 for name in job.invocation.vm.transferred_disks)


def _stage_job(job: PreparedJob, staging_directory: Path) -> PreparedJob:
    staging_directory.mkdir()
    directory = Path(job.invocation.working_directory or "/")
    for source, name in _links(job.invocation):
        _link_tree(directory / source, staging_directory / name)
    names = transfer_list(job.invocation.inputs, f"{staging_directory}/.")
    changes = {"transfer_input_files": quote_file_list(names)}
    return replace(job, description=job.description.with_commands(changes))


def _links(invocation: Invocation) -> list[tuple[str, str]]:
    """Return the path of each file, and its path in the job's directory."""
    if invocation.vm is not None:
        # vm_disk names disks without directories.
        return [(name, os.path.basename(name)) for name in invocation.vm.transferred_disks]  # noqa: PTH119
    return [(source_path(item), sandbox_name(item)) for item in local_inputs(invocation.inputs)]


def _link_tree(source: Path, target: Path) -> None:
    """Link files and create directories: spooling does not follow a link to a directory."""
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        for entry in source.iterdir():
            _link_tree(entry, target / entry.name)
    elif not target.is_symlink():  # two inputs may overlap
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(source.absolute())
