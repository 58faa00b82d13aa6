"""A disk image made with real tools: `mkfs.fat -C -F 12 fat.img 64; mcopy -i fat.img -s done ::`.

`done` has `ok` and `A long name.txt`, and `f` in `deep`.
"""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import pytest

from swarm_runner.runner.vm.fat import has_file

GOLDEN = Path(__file__).parents[2] / "golden" / "fat.img.gz"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    file = tmp_path / "fat.img"
    file.write_bytes(gzip.decompress(GOLDEN.read_bytes()))
    return file


@pytest.mark.parametrize(
    ("path", "exists"),
    [
        ("/done/ok", True),
        ("/done/deep/f", True),
        ("/DONE/Ok", True),
        ("//done/a LONG name.txt", True),
        ("/done", False),
        ("/done/no", False),
        ("/done/ok/x", False),
        ("/no/ok", False),
    ],
)
def test_whether_a_file_exists(image: Path, path: str, exists: bool) -> None:
    assert has_file(image, path) is exists


@pytest.mark.parametrize("content", [b"", bytes(2**16), b"\xeb" + bytes(511), b"x" * 2**16])
def test_an_image_without_a_fat_file_system_is_an_error(image: Path, content: bytes) -> None:
    image.write_bytes(content)
    with pytest.raises(OSError, match="no FAT file system can be read"):
        has_file(image, "/done/ok")


def test_a_disk_that_was_not_unmounted_is_read(image: Path) -> None:
    content = bytearray(image.read_bytes())
    content[37] |= 1  # BS_Reserved1: not cleanly unmounted
    image.write_bytes(content)
    assert has_file(image, "/done/ok")


def test_the_error_for_a_missing_library_says_what_to_install(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyfatfs", None)
    with pytest.raises(OSError, match=r"swarm-runner\[guests\]"):
        has_file(image, "/done/ok")
