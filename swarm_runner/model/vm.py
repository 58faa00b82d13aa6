"""A virtual machine instead of a container."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    StrictBool,
    StrictInt,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from swarm_runner.model.resources import MINIMUM_MEMORY_MB
from swarm_runner.model.text import FileName, FrozenModel, Text, raise_diagnostics

# The file of the serial console on the executor. swarm/image/guest.py has the same name.
CONSOLE_FILE = "console.txt"
MAX_MARKER_BYTES = 1000

# vm_disk separates disks by commas and fields by colons, and has no quoting
# (parseXenDiskParam in HTCondor's source).
_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")
_RESERVED_NAMES = {CONSOLE_FILE, "condor_exec.exe"}
# The emulated buses. QEMU's ide-hd, which both use, requires a writable node ("Block node is
# read-only"), and libvirt creates only one IDE controller.
_BUSES = {"sd": "SATA", "hd": "IDE"}
_LAST_IDE = "hdd"


def _check_disk_file(value: str) -> str:
    name = value.rpartition("/")[2]
    # A returned disk's name is also in transfer_output_remaps.
    if found := set(value) & set(":;="):
        raise PydanticCustomError(
            "file",
            "{name} contains {characters}, which separates fields of a disk or file names in "
            "HTCondor; rename the file",
            {"name": repr(value), "characters": " ".join(sorted(found))},
        )
    if not _SAFE_NAME.fullmatch(name) or name in _RESERVED_NAMES:
        raise PydanticCustomError(
            "file",
            "{name} is not a valid name of a disk's file; use letters, digits and . _ + -, and "
            "neither {console} nor a name that HTCondor uses",
            {"name": repr(name), "console": CONSOLE_FILE},
        )
    return value


def _check_relative_path(value: str) -> str:
    if value.startswith("/") or value.endswith("/") or ".." in value.split("/"):
        raise PydanticCustomError(
            "file",
            "{name} is outside the working directory; name a file relative to it",
            {"name": repr(value)},
        )
    if set(value) & set(";=\\"):
        raise PydanticCustomError(
            "file",
            "{name} contains one of ; = \\ which transfer_output_remaps cannot represent",
            {"name": repr(value)},
        )
    return posixpath.normpath(value)  # gives each file one name only


def _check_marker(value: str) -> str:
    if not value.strip() or len(value.encode()) > MAX_MARKER_BYTES:
        raise PydanticCustomError(
            "marker", "must be a text of 1 to {maximum} bytes", {"maximum": MAX_MARKER_BYTES}
        )
    return value


def _check_guest_path(value: str) -> str:
    parts = value.split("/")
    if not value.startswith("/") or not parts[-1] or ".." in parts:
        raise PydanticCustomError(
            "file", "{name} is not an absolute path of a file", {"name": repr(value)}
        )
    return _check_marker(value)


RelativePath = Annotated[FileName, AfterValidator(_check_relative_path)]


class Disk(FrozenModel):
    """One disk of a virtual machine (HTCondor manual, submit command vm_disk).

    The guest uses a copy. The copy of a writable disk is returned under another name, `returned`.
    With `overwrite` it replaces `file`, and with `discard` it is deleted. `vd*` is a virtio disk;
    the emulated disks of SATA (`sd*`) and IDE (`hd*`) are always writable.
    """

    file: Annotated[FileName, AfterValidator(_check_disk_file)]
    device: Annotated[str, Field(pattern=r"^(vd|sd|hd)[a-z]$")] = "vda"
    permission: Literal["r", "w"] = "r"
    format: Literal["raw", "qcow2"] = "raw"
    returned: RelativePath | None = Field(
        None,
        description="the file to which a writable disk is returned; by default returned-<name>",
    )
    overwrite: StrictBool = Field(False, description="a writable disk replaces `file`")
    discard: StrictBool = Field(False, description="a writable disk is not returned")

    @model_validator(mode="after")
    def _check_bus(self) -> Self:
        bus = _BUSES.get(self.device[:2])
        if bus == "IDE" and self.device > _LAST_IDE:
            raise_diagnostics(
                self, [(("device",), f"is {self.device}, but IDE has only hda to {_LAST_IDE}")]
            )
        if bus and self.permission == "r":
            message = (
                f"is r, but {self.device} is {bus}, which QEMU does not offer read-only; write "
                "permission: w, with discard: true to drop the changes, or use a virtio device "
                "(vda)"
            )
            raise_diagnostics(self, [(("permission",), message)])
        return self

    @model_validator(mode="after")
    def _check_exclusive_options(self) -> Self:
        options = [name for name in ("returned", "overwrite", "discard") if getattr(self, name)]
        if options and self.permission == "r":
            raise_diagnostics(self, [((options[0],), "requires a writable disk (permission: w)")])
        if len(options) > 1:
            message = f"contradicts {options[0]}; give one of the two"
            raise_diagnostics(self, [((options[1],), message)])
        return self

    @property
    def name(self) -> str:
        """The name of the copy on the executor."""
        return self.file.rpartition("/")[2]

    @property
    def returned_path(self) -> str | None:
        """The file that a writable disk is returned to; None if it is not returned."""
        if self.permission == "r" or self.discard:
            return None
        return self.file if self.overwrite else self.returned or f"returned-{self.name}"


class SuccessMarker(FrozenModel):
    """How the guest says that its work is complete. HTCondor's exit code is always 0.

    Either a text on the console or on a returned disk, or a file on a returned disk that is one
    FAT file system without partitions. Such a disk is raw: a qcow2 disk stores the bytes in
    another order.
    """

    text: Annotated[Text, AfterValidator(_check_marker)] | None = None
    file: Annotated[Text, AfterValidator(_check_guest_path)] | None = Field(
        None, description="the absolute path in the disk's file system"
    )
    disk: str | None = Field(
        None, description="the device of the returned disk; the console when absent"
    )

    @model_validator(mode="after")
    def _check_text_or_file(self) -> Self:
        if (self.text is None) == (self.file is None):
            raise_diagnostics(self, [((), "give either text, or file and disk")])
        if self.file is not None and self.disk is None:
            raise_diagnostics(self, [(("disk",), "is missing; name the device of the file's disk")])
        return self

    def __str__(self) -> str:
        return repr(self.text) if self.file is None else f"the file {self.file}"


class VirtualMachine(FrozenModel):
    """A virtual machine instead of a container (HTCondor's vm universe).

    With `checkpoint` the disks stay on a pool volume and are not copied. The guest writes to the
    files directly, so that a writable disk requires `overwrite`. If its executor stops, the guest
    is started again from its disks. HTCondor saves the guest's memory, but does not resume the
    guest from it: the guest's program must continue from what is on its disks.
    """

    type: Annotated[Text, Field(json_schema_extra={"enum": ["kvm"]})] = "kvm"
    memory_mb: StrictInt = Field(ge=MINIMUM_MEMORY_MB, le=64 * 2**20)
    disks: tuple[Disk, ...] = Field(min_length=1)
    checkpoint: StrictBool = False
    vcpus: StrictInt = Field(1, ge=1, le=255)
    networking: StrictBool = Field(
        False,
        description="a network card: the guest can open connections, but does not receive any",
    )
    console: RelativePath = Field(
        CONSOLE_FILE, description="the file that the serial console is returned to"
    )
    success: SuccessMarker | None = Field(
        None, description="without it, the result of the guest's work is unknown"
    )

    @field_validator("type")
    @classmethod
    def _check_type(cls, value: str) -> str:
        if value == "vmware":
            raise PydanticCustomError(
                "vm_type",
                "'vmware' is not supported: HTCondor dropped it with version 10.1. Convert the "
                "disk with qemu-img and use kvm",
            )
        if value != "kvm":
            raise PydanticCustomError(
                "vm_type", "{value} is not supported; write type: kvm", {"value": repr(value)}
            )
        return value

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        raise_diagnostics(
            self,
            [
                *self._disk_diagnostics(),
                *self._checkpoint_diagnostics(),
                *self._marker_diagnostics(),
            ],
        )
        return self

    def _disk_diagnostics(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        devices: set[str] = set()
        names: set[str] = set()
        targets = {self.console}
        for number, disk in enumerate(self.disks):
            if disk.device in devices:
                yield (
                    ("disks", number, "device"),
                    f"{disk.device} is also the device of another disk",
                )
            if disk.name in names:
                yield (
                    ("disks", number, "file"),
                    f"{disk.name} is also the name of another disk's file",
                )
            target = disk.returned_path
            if target in targets:
                yield (
                    ("disks", number, "returned"),
                    f"another disk or the console is also returned to {target}; name another file",
                )
            devices.add(disk.device)
            names.add(disk.name)
            targets |= {target} if target else set()

    def _checkpoint_diagnostics(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        if self.checkpoint and self.networking:
            yield (
                ("networking",),
                "cannot be combined with checkpoint in HTCondor; use one of the two",
            )
        for number, disk in enumerate(self.disks if self.checkpoint else ()):
            if not disk.file.startswith("/"):
                yield (
                    ("disks", number, "file"),
                    "is relative, but checkpoint requires an absolute path on a pool volume",
                )
            if disk.permission == "w" and not disk.overwrite:
                yield (
                    ("disks", number, "overwrite"),
                    "must be true with checkpoint, because the guest writes to the file itself",
                )

    def _marker_diagnostics(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        if self.success is None or self.success.disk is None:
            return
        returned = [disk.device for disk in self.disks if disk.returned_path]
        device = self.success.disk
        if device not in returned:
            known = ", ".join(returned) or "none"
            yield ("success", "disk"), f"{device} is not a returned disk; returned are: {known}"
        if any(disk.device == device and disk.format != "raw" for disk in self.disks):
            yield (
                ("success", "disk"),
                f"{device} is not raw, and cannot be searched; use a raw disk or the console",
            )

    @property
    def transferred_disks(self) -> tuple[str, ...]:
        """The files of the disks that are transferred to the executor."""
        return () if self.checkpoint else tuple(disk.file for disk in self.disks)

    @property
    def returned_files(self) -> dict[str, str]:
        """The files that are returned: the name on the executor, and the file that it becomes."""
        returned = {CONSOLE_FILE: self.console}
        if not self.checkpoint:
            for disk in self.disks:
                if disk.returned_path:
                    returned[disk.name] = disk.returned_path
        return returned

    @property
    def marker_file(self) -> str | None:
        """The file that contains the success marker after the guest ended."""
        if self.success is None:
            return None
        for disk in self.disks:
            if disk.device == self.success.disk:
                return disk.returned_path
        return self.console
