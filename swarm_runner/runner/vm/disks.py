"""Looks at the disks of virtual machines before anything is sent: HTCondor does not."""

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
# The console, and HTCondor's own files.
VM_OVERHEAD_MB = 16


@dataclass(frozen=True, slots=True)
class DiskCheck:
    """What is wrong with an invocation's disks, and the room that their copies need."""

    diagnostics: tuple[Diagnostic, ...]
    space_mb: int = 0


def check_disks(invocation: Invocation, directory: str) -> DiskCheck:
    """Look at the disks, whose names may be relative to `directory`."""
    machine = invocation.vm
    if machine is None:
        return DiskCheck(())
    faults: list[Diagnostic] = []
    needed = 0
    for number, disk in enumerate(machine.disks):
        where = f"vm.disks.{number}"
        file = Path(directory, disk.file)
        try:
            header = _read_header(file)
        except OSError as error:
            faults.append(
                Diagnostic(
                    f"{file} cannot be read: {error.strerror}",
                    key=invocation.key,
                    path=f"{where}.file",
                )
            )
            continue
        faults += [
            Diagnostic(said, key=invocation.key, path=f"{where}.{field}")
            for field, said in _check_format(disk, file, header)
        ]
        length = file.stat().st_size
        # A copy that is written to may grow up to the size that its guest sees.
        needed += max(length, header.size) if disk.permission == "w" else length
    faults += _check_returned_files(invocation.key, machine, directory)
    faults += _check_marker(invocation.key, machine, directory)
    return DiskCheck(
        tuple(faults), 0 if machine.checkpoint else -(-needed // _BYTES_PER_MB) + VM_OVERHEAD_MB
    )


def _read_header(file: Path) -> DiskHeader:
    with file.open("rb") as stream:
        return disk_header(stream.read(HEADER_BYTES), file.stat().st_size)


def _check_format(disk: Disk, file: Path, header: DiskHeader) -> Iterator[tuple[str, str]]:
    if file.stat().st_size == 0:
        yield "file", f"{file} is empty"
    elif header.format != disk.format:
        said = "no qcow2 by its own header" if header.format == "raw" else f"{header.format} inside"
        advice = (
            f"say format: {header.format}"
            if header.format in ("raw", "qcow2")
            else "make a raw or qcow2 disk of it first"
        )
        yield "format", f"{file} is declared {disk.format}, but is {said}; {advice}"
    elif header.problem:
        yield "file", f"{file} cannot be used: {header.problem}"


def _check_returned_files(key: str, vm: VirtualMachine, directory: str) -> Iterator[Diagnostic]:
    """What comes back needs a directory to come to, and must not fall on a disk."""
    originals = {os.path.realpath(Path(directory, disk.file)) for disk in vm.disks}
    overwritten = {disk.file for disk in vm.disks if disk.overwrite}
    for target in vm.returned_files.values():
        whole = Path(directory, target)
        where = "vm"
        if not whole.parent.is_dir():
            yield Diagnostic(
                f"{whole} is to come back, but {whole.parent} is no directory here",
                key=key,
                path=where,
            )
        elif whole.is_dir():
            yield Diagnostic(f"{whole} is to come back, but is a directory", key=key, path=where)
        elif target not in overwritten and os.path.realpath(whole) in originals:
            yield Diagnostic(
                f"{whole} is a disk of this vm, and would be overwritten by what comes back; name "
                "another file with returned, or say overwrite: true",
                key=key,
                path=where,
            )


def _check_marker(key: str, vm: VirtualMachine, directory: str) -> Iterator[Diagnostic]:
    """A marker that is there before the guest starts proves nothing."""
    marker, where = vm.success, "vm.success"
    if marker is None:
        return
    if marker.file is not None and not fat.is_available():
        said = f"{fat.LIBRARY} is needed to look for a file on a disk: {fat.INSTALL_HINT}"
        yield Diagnostic(said, key=key, path=f"{where}.file")
        return
    for disk in vm.disks:
        file = Path(directory, disk.file)
        # A disk that cannot be read is told of already; the guest may yet make its file system.
        with contextlib.suppress(OSError):
            if disk.device == marker.disk and contains_marker(
                file, text=marker.text, inner_path=marker.file
            ):
                said = f"{file} holds {marker} before the guest starts, which would prove nothing"
                yield Diagnostic(f"{said}; name another, or clear the disk", key=key, path=where)
