"""The format of a disk image, from its first bytes. No I/O: the caller reads them.

Sources: QEMU's docs/interop/qcow2.txt, and the magic numbers that QEMU's block drivers probe for.
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
# Offset, magic number, format.
_MAGIC_NUMBERS = (
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
    """What the header of a disk image says.

    Attributes:
        format: The format. An image without a known magic number is `raw`.
        size: The size in bytes that the guest sees.
        problem: Why an executor cannot use the image, and what to do; empty if it can.
    """

    format: str
    size: int
    problem: str = ""


def disk_header(start: bytes, length: int) -> DiskHeader:
    """Parse the first `HEADER_BYTES` bytes of a file of `length` bytes."""
    for offset, magic, name in _MAGIC_NUMBERS:
        if start[offset : offset + len(magic)] == magic:
            return _parse_qcow2(start) if name == QCOW2 else DiskHeader(format=name, size=length)
    return DiskHeader(format="raw", size=length)


def _parse_qcow2(start: bytes) -> DiskHeader:
    if len(start) < _FEATURES_OFFSET:
        return DiskHeader(format=QCOW2, size=0, problem="its header is truncated")
    _, version, backing_file, _, _, size, encryption = _QCOW2.unpack_from(start)
    features = 0
    if version > _MINIMUM_VERSION and len(start) >= _FEATURES_OFFSET + _FEATURES.size:
        [features] = _FEATURES.unpack_from(start, _FEATURES_OFFSET)
    problem = ""
    if not _MINIMUM_VERSION <= version <= _MAXIMUM_VERSION:
        problem = f"it has qcow2 version {version}, which QEMU cannot read"
    elif backing_file:
        problem = (
            "it needs a backing file, which is not on the executor; merge the two with "
            "qemu-img convert"
        )
    elif encryption:
        problem = "it is encrypted, and the executor has no key; decrypt it first"
    elif features & _EXTERNAL_DATA:
        problem = "its data is in another file; merge the two with qemu-img convert"
    elif size == 0:
        problem = "its virtual size is 0 bytes"
    return DiskHeader(format=QCOW2, size=size, problem=problem)
