"""Spooling input files whose names hold spaces.

HTCondor's lists of files are separated by commas, but two places of spooling split them at spaces
too: the submit (FileTransfer::ExpandInputFileList) and the schedd (rewriteSpooledJobAd, both seen
in 25.14.1). Names inside a directory are in no list. So such files are gathered, by links, in a
directory that is sent as `<directory>/.`, which puts its contents where the job begins.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from swarm_runner.model.invocation import Invocation
from swarm_runner.model.submit import quote_file_list
from swarm_runner.runner.preparation import PreparedJob


@contextlib.contextmanager
def stage_inputs(prepared: Sequence[PreparedJob]) -> Iterator[list[PreparedJob]]:
    """The same, with inputs that spooling would tear apart gathered until the block ends."""
    if not any(map(_needs_staging, prepared)):
        yield list(prepared)
        return
    with tempfile.TemporaryDirectory(prefix="swarm-runner-") as name:
        yield [
            _stage_job(item, Path(name) / str(number)) if _needs_staging(item) else item
            for number, item in enumerate(prepared)
        ]


def _needs_staging(item: PreparedJob) -> bool:
    return item.spool and any(len(name.split()) > 1 for name in _transferred_files(item.invocation))


def _transferred_files(invocation: Invocation) -> Sequence[str]:
    return invocation.vm.transferred_disks if invocation.vm else invocation.inputs


def _stage_job(item: PreparedJob, staging_directory: Path) -> PreparedJob:
    staging_directory.mkdir()
    for name in _transferred_files(item.invocation):
        _link_input(item.invocation, name, staging_directory)
    changes = {"transfer_input_files": quote_file_list([f"{staging_directory}/."])}
    return replace(item, description=item.description.with_commands(changes))


def _link_input(invocation: Invocation, name: str, staging_directory: Path) -> None:
    source = Path(invocation.working_directory or "/", name)
    # As HTCondor places them: a relative name keeps its directories (preserve_relative_paths, which
    # containers have), an absolute one does not, and what ends with a slash stands for what is in
    # it. vm_disk names a disk without its directories.
    bare = os.path.isabs(name) or invocation.vm  # noqa: PTH117
    inside = "" if bare else os.path.dirname(os.path.normpath(name))  # noqa: PTH120
    if name.endswith("/"):
        for entry in source.iterdir():
            _link_tree(entry, staging_directory / entry.name)
    else:
        _link_tree(source, staging_directory / inside / source.name)


def _link_tree(source: Path, target: Path) -> None:
    """Link files; directories are made, because a link to one is not followed."""
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        for entry in source.iterdir():
            _link_tree(entry, target / entry.name)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(source)
