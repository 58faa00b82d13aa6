from __future__ import annotations

import struct

import pytest

from swarm_runner.runner.vm.disk_header import disk_header

SIZE = 5 * 2**20


def qcow2(
    version: int = 3,
    backing: int = 0,
    cluster_bits: int = 16,
    size: int = SIZE,
    encryption: int = 0,
    features: int = 0,
) -> bytes:
    """The first bytes of a qcow2 file."""
    head = struct.pack(">4sIQIIQI", b"QFI\xfb", version, backing, 0, cluster_bits, size, encryption)
    return head.ljust(72, b"\0") + struct.pack(">Q", features).ljust(440, b"\0")


@pytest.mark.parametrize("version", [2, 3])
def test_a_qcow2_tells_what_its_guest_sees(version: int) -> None:
    header = disk_header(qcow2(version), 196_616)
    assert (header.format, header.size, header.problem) == ("qcow2", SIZE, "")


@pytest.mark.parametrize(
    ("start", "says"),
    [
        (qcow2(version=9), "version 9"),
        (qcow2(backing=104), "backing file"),
        (qcow2(encryption=2), "encrypted"),
        (qcow2(features=4), "in another file"),
        (qcow2(size=0), "no bytes"),
        (qcow2()[:40], "cut off"),
    ],
)
def test_a_qcow2_that_cannot_run_alone(start: bytes, says: str) -> None:
    assert says in disk_header(start, 1000).problem


def test_an_old_qcow2_has_no_features() -> None:
    assert disk_header(qcow2(version=2, features=4), 1000).problem == ""


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"KDMV" + bytes(508), "vmdk"),
        (b"# Disk DescriptorFile\nversion=1", "vmdk"),
        (b"vhdxfile", "vhdx"),
        (bytes(64) + b"\x7f\x10\xda\xbe", "vdi"),
        (b"", "raw"),
        (b"expr 6 \\* 7", "raw"),
        (bytes(510) + b"\x55\xaa", "raw"),
    ],
)
def test_other_formats_are_known_by_their_first_bytes(start: bytes, name: str) -> None:
    header = disk_header(start, 4096)
    assert (header.format, header.size) == (name, 4096)
