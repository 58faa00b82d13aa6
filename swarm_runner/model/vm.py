"""A virtual machine in place of a container."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from swarm_runner.model.resources import MINIMUM_MEMORY_MB
from swarm_runner.model.text import FileName, FrozenModel, Text, raise_diagnostics
from swarm_runner.model.units import StrictBool, StrictInt

# The serial console's file where the guest runs; the executor's guest.py names it too.
CONSOLE_FILE = "console.txt"
MAX_MARKER_BYTES = 1000

# vm_disk separates by commas and colons, and nothing quotes them (xen_type.linux.cpp,
# parseXenDiskParam).
_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")
_RESERVED_NAMES = {CONSOLE_FILE, "condor_exec.exe"}
# Beside virtio. QEMU's ide-hd, which both have, wants a node that it may write to ("Block node is
# read-only"), and libvirt makes no second IDE controller.
_BUSES = {"sd": "SATA", "hd": "IDE"}
_LAST_IDE = "hdd"


def _check_disk_file(value: str) -> str:
    name = value.rpartition("/")[2]
    if ":" in value:
        raise PydanticCustomError(
            "file", "{name} holds a colon, which separates a disk's fields", {"name": repr(value)}
        )
    if not _SAFE_NAME.fullmatch(name) or name in _RESERVED_NAMES:
        raise PydanticCustomError(
            "file",
            "{name} is no name for a disk's file; use letters, digits and . _ + - (and neither "
            "{console} nor a name that is HTCondor's)",
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
            "{name} holds one of ; = \\ which HTCondor's list of names for outputs cannot carry",
            {"name": repr(value)},
        )
    return posixpath.normpath(value)  # so that one file has one name


def _check_marker(value: str) -> str:
    if not value.strip() or len(value.encode()) > MAX_MARKER_BYTES:
        raise PydanticCustomError(
            "marker", "needs some text, of {most} bytes at most", {"most": MAX_MARKER_BYTES}
        )
    return value


def _check_guest_path(value: str) -> str:
    parts = value.split("/")
    if not value.startswith("/") or not parts[-1] or ".." in parts:
        raise PydanticCustomError(
            "file", "{name} is no absolute path of a file", {"name": repr(value)}
        )
    return _check_marker(value)


RelativePath = Annotated[FileName, AfterValidator(_check_relative_path)]


class Disk(FrozenModel):
    """One disk of a virtual machine (HTCondor manual, submit command vm_disk).

    The guest works on a copy. A writable disk's copy comes back under another name, `returned`;
    it takes the place of `file` itself only with `overwrite`, and is thrown away with `discard`.
    `vd*` is a virtio disk; the emulated ones of SATA (`sd*`) and IDE (`hd*`) are always writable.
    """

    file: Annotated[FileName, AfterValidator(_check_disk_file)]
    device: Annotated[str, Field(pattern=r"^(vd|sd|hd)[a-z]$")] = "vda"
    permission: Literal["r", "w"] = "r"
    format: Literal["raw", "qcow2"] = "raw"
    returned: RelativePath | None = Field(
        None, description="where a writable disk comes back to; returned-<file name> when absent"
    )
    overwrite: StrictBool = Field(False, description="a writable disk comes back to `file` itself")
    discard: StrictBool = Field(False, description="what is written to a writable disk is not kept")

    @model_validator(mode="after")
    def _check_bus(self) -> Self:
        bus = _BUSES.get(self.device[:2])
        if bus == "IDE" and self.device > _LAST_IDE:
            raise_diagnostics(
                self, [(("device",), f"IDE has four disks at most, hda to {_LAST_IDE}")]
            )
        if bus and self.permission == "r":
            said = (
                f"{self.device} is {bus}, which QEMU does not offer read-only: say permission: w, "
                "with discard: true if nothing is to come back, or use a virtio device (vda)"
            )
            raise_diagnostics(self, [(("permission",), said)])
        return self

    @model_validator(mode="after")
    def _check_exclusive_options(self) -> Self:
        ways = [name for name in ("returned", "overwrite", "discard") if getattr(self, name)]
        if ways and self.permission == "r":
            raise_diagnostics(
                self, [((ways[0],), "is for a writable disk (permission: w); this one is not")]
            )
        if len(ways) > 1:
            raise_diagnostics(self, [((ways[1],), f"contradicts {ways[0]}: choose one of the two")])
        return self

    @property
    def name(self) -> str:
        """The copy's name where the guest runs."""
        return self.file.rpartition("/")[2]

    @property
    def returned_path(self) -> str | None:
        """The file that a writable disk comes back to; None if nothing does."""
        if self.permission == "r" or self.discard:
            return None
        return self.file if self.overwrite else self.returned or f"returned-{self.name}"


class SuccessMarker(FrozenModel):
    """How the guest says that its work is done: HTCondor's exit code is 0 whatever happened.

    A text on its console or on a returned disk, or a file on a returned disk that is one FAT file
    system as a whole. Such a disk is raw: in a qcow2 disk the bytes lie elsewhere.
    """

    text: Annotated[Text, AfterValidator(_check_marker)] | None = None
    file: Annotated[Text, AfterValidator(_check_guest_path)] | None = Field(
        None, description="its path from the root of the disk's file system; an absolute path"
    )
    disk: str | None = Field(
        None, description="the device of the returned disk that holds it; else the console does"
    )

    @model_validator(mode="after")
    def _check_text_or_file(self) -> Self:
        if (self.text is None) == (self.file is None):
            raise_diagnostics(self, [((), "give text, or file and disk")])
        if self.file is not None and self.disk is None:
            raise_diagnostics(
                self, [(("disk",), "say on which disk (its device) the file is to be")]
            )
        return self

    def __str__(self) -> str:
        return repr(self.text) if self.file is None else f"the file {self.file}"


class VirtualMachine(FrozenModel):
    """A virtual machine instead of a container (HTCondor's vm universe).

    `checkpoint` leaves the disks where they are, on a pool volume, in place of copying them: what
    the guest writes is in the file at once, so that a writable one needs `overwrite`. That is all
    it does today. When its executor goes away the guest is started anew from its disks; HTCondor
    saves its memory, but a guest that was running is not resumed from it, and the program in it
    must itself find out from its disks how far it came.
    """

    type: Annotated[Text, Field(json_schema_extra={"enum": ["kvm", "xen"]})] = "kvm"
    memory_mb: StrictInt = Field(ge=MINIMUM_MEMORY_MB, le=64 * 2**20)
    disks: tuple[Disk, ...] = Field(min_length=1)
    checkpoint: StrictBool = False
    vcpus: StrictInt = Field(1, ge=1, le=255)
    networking: StrictBool = Field(
        False, description="a network card; the guest reaches the network, nobody reaches the guest"
    )
    console: RelativePath = Field(
        CONSOLE_FILE, description="the file that the serial console comes back to"
    )
    success: SuccessMarker | None = Field(
        None, description="without one, nobody knows whether the guest did its work"
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
        if value not in ("kvm", "xen"):
            raise PydanticCustomError(
                "vm_type", "{value} is not supported, use kvm or xen", {"value": repr(value)}
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
                yield ("disks", number, "device"), f"{disk.device} is another disk's too"
            if disk.name in names:
                yield ("disks", number, "file"), f"{disk.name} is the name of another disk's file"
            target = disk.returned_path
            if target in targets:
                yield ("disks", number, "returned"), f"{target} comes back from elsewhere too"
            devices.add(disk.device)
            names.add(disk.name)
            targets |= {target} if target else set()

    def _checkpoint_diagnostics(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        if self.checkpoint and self.networking:
            yield ("networking",), "HTCondor takes no network together with checkpoint"
        for number, disk in enumerate(self.disks if self.checkpoint else ()):
            if not disk.file.startswith("/"):
                here = "a checkpoint leaves a disk where it is: give its absolute path, on a pool "
                yield ("disks", number, "file"), f"{here}volume"
            if disk.permission == "w" and not disk.overwrite:
                yield (
                    ("disks", number, "overwrite"),
                    "with checkpoint the guest writes to the file itself: say overwrite: true",
                )

    def _marker_diagnostics(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        if self.success is None or self.success.disk is None:
            return
        back = [disk.device for disk in self.disks if disk.returned_path]
        if self.success.disk not in back:
            known = ", ".join(back) or "none"
            yield ("success", "disk"), f"{self.success.disk} comes back from no disk ({known} does)"
        if any(d.device == self.success.disk and d.format != "raw" for d in self.disks):
            said = f"{self.success.disk} is not raw, and what is on it lies scattered in its file"
            yield ("success", "disk"), f"{said}; use a raw disk or the console"

    @property
    def transferred_disks(self) -> tuple[str, ...]:
        """The disks' files that go to the executor."""
        return () if self.checkpoint else tuple(disk.file for disk in self.disks)

    @property
    def returned_files(self) -> dict[str, str]:
        """What comes back: the name where the guest runs, and the file it becomes."""
        returned = {CONSOLE_FILE: self.console}
        if not self.checkpoint:
            for disk in self.disks:
                if disk.returned_path:
                    returned[disk.name] = disk.returned_path
        return returned

    @property
    def marker_file(self) -> str | None:
        """The file, after the guest's end, that is to hold the success marker."""
        if self.success is None:
            return None
        for disk in self.disks:
            if disk.device == self.success.disk:
                return disk.returned_path
        return self.console
