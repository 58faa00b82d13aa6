"""Checks the disks of virtual machines before a submit, because HTCondor does not."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from swarm_runner.errors import Diagnostic
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.vm import Disk, VirtualMachine
from swarm_runner.runner.vm import fat
from swarm_runner.runner.vm.disk_header import HEADER_BYTES, DiskHeader, disk_header
from swarm_runner.runner.vm.outcome import contains_marker

_BYTES_PER_MB = 2**20
# For the console's output and HTCondor's own files.
VM_OVERHEAD_MB = 16


@dataclass(frozen=True, slots=True)
class DiskCheck:
    """The problems of an invocation's disks, and the space in MB that copies of them need."""

    diagnostics: tuple[Diagnostic, ...]
    space_mb: int = 0


def check_disks(invocation: Invocation, directory: str) -> DiskCheck:
    """Check the disks. Their names are relative to `directory`, or absolute."""
    vm = invocation.vm
    if vm is None:
        return DiskCheck(())
    diagnostics: list[Diagnostic] = []
    needed_bytes = 0
    for number, disk in enumerate(vm.disks):
        file = Path(directory, disk.file)
        problems: list[tuple[str, str]]
        try:
            header = _read_header(file)
            length = file.stat().st_size
        except OSError as error:
            problems = [("file", f"{file} cannot be read: {error.strerror}")]
        else:
            problems = list(_check_format(disk, file, length, header))
            # A writable copy may grow to the size that the guest sees.
            needed_bytes += max(length, header.size) if disk.permission == "w" else length
        diagnostics += [
            Diagnostic(message, key=invocation.key, path=f"vm.disks.{number}.{field}")
            for field, message in problems
        ]
    diagnostics += _check_returned_files(invocation.key, vm, directory)
    diagnostics += _check_marker(invocation.key, vm, directory)
    space_mb = 0 if vm.checkpoint else -(-needed_bytes // _BYTES_PER_MB) + VM_OVERHEAD_MB
    return DiskCheck(tuple(diagnostics), space_mb)


def _read_header(file: Path) -> DiskHeader:
    with file.open("rb") as stream:
        return disk_header(stream.read(HEADER_BYTES), file.stat().st_size)


def _check_format(
    disk: Disk, file: Path, length: int, header: DiskHeader
) -> Iterator[tuple[str, str]]:
    """Yield each problem as a field and a message."""
    if length == 0:
        yield "file", f"{file} is empty"
    elif header.format != disk.format:
        found = "has no qcow2 header" if header.format == "raw" else f"contains {header.format}"
        hint = (
            f"set format: {header.format}"
            if header.format in ("raw", "qcow2")
            else "convert it to raw or qcow2 with qemu-img convert"
        )
        yield "format", f"{file} is declared {disk.format}, but {found}; {hint}"
    elif header.problem:
        yield "file", f"{file} cannot be used: {header.problem}"


def _check_returned_files(key: str, vm: VirtualMachine, directory: str) -> Iterator[Diagnostic]:
    """Check that each returned file has a directory and overwrites no disk by accident."""
    originals = {os.path.realpath(Path(directory, disk.file)) for disk in vm.disks}
    overwritten = {disk.file for disk in vm.disks if disk.overwrite}
    for target in vm.returned_files.values():
        path = Path(directory, target)
        if not path.parent.is_dir():
            message = (
                f"the returned file {path} cannot be written: {path.parent} is not a directory; "
                "create it"
            )
        elif path.is_dir():
            message = (
                f"the returned file {path} cannot be written: it is a directory; name another file"
            )
        elif target not in overwritten and os.path.realpath(path) in originals:
            message = (
                f"the returned file {path} would overwrite a disk of this virtual machine; name "
                "another file with returned, or set overwrite: true"
            )
        else:
            continue
        yield Diagnostic(message, key=key, path="vm")


def _check_marker(key: str, vm: VirtualMachine, directory: str) -> Iterator[Diagnostic]:
    """Check that no disk contains the success marker before the guest starts."""
    marker = vm.success
    if marker is None:
        return
    if marker.file is not None and not fat.is_available():
        message = f"requires {fat.LIBRARY}, which reads FAT disks; run {fat.INSTALL_HINT}"
        yield Diagnostic(message, key=key, path="vm.success.file")
        return
    for disk in vm.disks:
        file = Path(directory, disk.file)
        # _check_format reports a disk that cannot be read. A file system that cannot be read is no
        # problem: the guest may create it.
        with contextlib.suppress(OSError):
            if disk.device == marker.disk and contains_marker(
                file, text=marker.text, inner_path=marker.file
            ):
                message = (
                    f"{file} contains {marker} before the guest starts, which would prove "
                    "nothing; choose another marker, or remove it from the disk"
                )
                yield Diagnostic(message, key=key, path="vm.success")
