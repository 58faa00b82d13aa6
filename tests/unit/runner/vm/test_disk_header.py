from __future__ import annotations

import struct

import pytest

from swarm_runner.runner.vm.disk_header import disk_header

SIZE = 5 * 2**20


def qcow2(
    version: int = 3,
    backing_file_offset: int = 0,
    cluster_bits: int = 16,
    size: int = SIZE,
    encryption: int = 0,
    features: int = 0,
) -> bytes:
    """Return the first bytes of a qcow2 file."""
    head = struct.pack(
        ">4sIQIIQI", b"QFI\xfb", version, backing_file_offset, 0, cluster_bits, size, encryption
    )
    return head.ljust(72, b"\0") + struct.pack(">Q", features).ljust(440, b"\0")


@pytest.mark.parametrize("version", [2, 3])
def test_the_size_of_a_qcow2_is_the_one_that_its_guest_sees(version: int) -> None:
    header = disk_header(qcow2(version), 196_616)
    assert (header.format, header.size, header.problem) == ("qcow2", SIZE, "")


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (qcow2(version=9), "version 9"),
        (qcow2(backing_file_offset=104), "backing file"),
        (qcow2(encryption=2), "encrypted"),
        (qcow2(features=4), "in another file"),
        (qcow2(size=0), "virtual size is 0 bytes"),
        (qcow2()[:40], "truncated"),
    ],
)
def test_a_qcow2_that_an_executor_cannot_use(start: bytes, message: str) -> None:
    assert message in disk_header(start, 1000).problem


def test_version_2_of_qcow2_has_no_feature_bits() -> None:
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
def test_other_formats_are_recognized_by_their_magic_numbers(start: bytes, name: str) -> None:
    header = disk_header(start, 4096)
    assert (header.format, header.size) == (name, 4096)
