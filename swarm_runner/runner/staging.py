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
from swarm_runner.model.submit import files
from swarm_runner.runner.preparation import Prepared


@contextlib.contextmanager
def staged(prepared: Sequence[Prepared]) -> Iterator[list[Prepared]]:
    """The same, with inputs that spooling would tear apart gathered until the block ends."""
    if not any(map(_torn, prepared)):
        yield list(prepared)
        return
    with tempfile.TemporaryDirectory(prefix="swarm-runner-") as name:
        yield [
            _gathered(item, Path(name) / str(number)) if _torn(item) else item
            for number, item in enumerate(prepared)
        ]


def _torn(item: Prepared) -> bool:
    return item.spool and any(len(name.split()) > 1 for name in _sent(item.invocation))


def _sent(invocation: Invocation) -> Sequence[str]:
    return invocation.vm.copied if invocation.vm else invocation.inputs


def _gathered(item: Prepared, stage: Path) -> Prepared:
    stage.mkdir()
    for name in _sent(item.invocation):
        _link(item.invocation, name, stage)
    changes = {"transfer_input_files": files([f"{stage}/."])}
    return replace(item, description=item.description.amended(changes))


def _link(invocation: Invocation, name: str, stage: Path) -> None:
    source = Path(invocation.working_directory or "/", name)
    # As HTCondor places them: a relative name keeps its directories (preserve_relative_paths, which
    # containers have), an absolute one does not, and what ends with a slash stands for what is in
    # it. vm_disk names a disk without its directories.
    bare = os.path.isabs(name) or invocation.vm  # noqa: PTH117
    inside = "" if bare else os.path.dirname(os.path.normpath(name))  # noqa: PTH120
    if name.endswith("/"):
        for entry in source.iterdir():
            _place(entry, stage / entry.name)
    else:
        _place(source, stage / inside / source.name)


def _place(source: Path, target: Path) -> None:
    """Link files; directories are made, because a link to one is not followed."""
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        for entry in source.iterdir():
            _place(entry, target / entry.name)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(source)
