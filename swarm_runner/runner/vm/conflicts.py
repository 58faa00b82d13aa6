"""Files that a virtual machine of a batch writes, and another job of the batch uses."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from swarm_runner.errors import Diagnostic
from swarm_runner.model.invocation import Invocation
from swarm_runner.runner.input_files import input_names


def write_conflicts(invocations: Sequence[Invocation]) -> Iterator[Diagnostic]:
    """Report files that one virtual machine of a batch writes, and another job writes or reads."""
    if all(invocation.vm is None for invocation in invocations):
        return
    writers: dict[str, str] = {}
    for invocation in invocations:
        for file in _written_paths(invocation):
            writer = writers.setdefault(file, invocation.key)
            if writer != invocation.key:
                message = f"{file} is also written by {writer}; name another file"
                yield Diagnostic(message, key=invocation.key, path="vm")
    for invocation in invocations:
        for field, name in input_names(invocation):
            file = _resolve_path(invocation, name)
            writer = writers.get(file, invocation.key)
            if writer != invocation.key and file not in _written_paths(invocation):
                message = (
                    f"{file} is written by {writer} of the same batch; submit one after the other"
                )
                yield Diagnostic(message, key=invocation.key, path=field)


def _written_paths(invocation: Invocation) -> set[str]:
    """Return a virtual machine's returned files, and the disks that it writes in place."""
    vm = invocation.vm
    if vm is None:
        return set()
    in_place_disks = vm.disks if vm.checkpoint else ()
    names = [
        *vm.returned_files.values(),
        *(disk.file for disk in in_place_disks if disk.permission == "w"),
    ]
    return {_resolve_path(invocation, name) for name in names}


def _resolve_path(invocation: Invocation, name: str) -> str:
    return os.path.realpath(os.path.join(invocation.working_directory or "/", name))  # noqa: PTH118
