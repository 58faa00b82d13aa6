"""What a disk image says of itself in its first bytes. Pure: the caller reads them.

Sources: QEMU's docs/interop/qcow2.txt, and the magic numbers that its block drivers probe for.
"""

from __future__ import annotations

import struct

from swarm_runner.model.text import FrozenModel

HEADER_BYTES = 512
QCOW2 = "qcow2"
# Big-endian: magic, version, backing file's offset and length, cluster bits, virtual size,
# encryption method; from version 3 on, incompatible features at byte 72.
_QCOW2 = struct.Struct(">4sIQIIQI")
_FEATURES = struct.Struct(">Q")
_FEATURES_OFFSET = 72
_EXTERNAL_DATA = 1 << 2
_MINIMUM_VERSION, _MAXIMUM_VERSION = 2, 3
_MAGIC = (
    (0, b"QFI\xfb", QCOW2),
    (0, b"QED\0", "qed"),
    (0, b"KDMV", "vmdk"),
    (0, b"COWD", "vmdk"),
    (0, b"# Disk DescriptorFile", "vmdk"),
    (0, b"vhdxfile", "vhdx"),
    (0, b"conectix", "vpc"),
    (0x40, b"\x7f\x10\xda\xbe", "vdi"),
)


class DiskHeader(FrozenModel):
    """A format by its own header (raw has none), and the size that the guest sees, in bytes."""

    format: str
    size: int
    problem: str = ""


def disk_header(start: bytes, length: int) -> DiskHeader:
    """Read the first bytes of a file of that length."""
    for place, magic, name in _MAGIC:
        if start[place : place + len(magic)] == magic:
            return _parse_qcow2(start) if name == QCOW2 else DiskHeader(format=name, size=length)
    return DiskHeader(format="raw", size=length)


def _parse_qcow2(start: bytes) -> DiskHeader:
    if len(start) < _FEATURES_OFFSET:
        return DiskHeader(format=QCOW2, size=0, problem="its header is cut off")
    _, version, backing, _, _, size, encryption = _QCOW2.unpack_from(start)
    features = 0
    if version > _MINIMUM_VERSION and len(start) >= _FEATURES_OFFSET + _FEATURES.size:
        [features] = _FEATURES.unpack_from(start, _FEATURES_OFFSET)
    trouble = ""
    if not _MINIMUM_VERSION <= version <= _MAXIMUM_VERSION:
        trouble = f"it is of version {version}, which qemu does not read"
    elif backing:
        trouble = (
            "it is the difference to a backing file, which would not be there; make one whole "
            "file of the two (qemu-img convert)"
        )
    elif encryption:
        trouble = "it is encrypted, and nobody there has its key"
    elif features & _EXTERNAL_DATA:
        trouble = "its data are in another file; make one whole file of the two (qemu-img convert)"
    elif size == 0:
        trouble = "it is a disk of no bytes"
    return DiskHeader(format=QCOW2, size=size, problem=trouble)
