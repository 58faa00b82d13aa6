"""Looks for a file in the FAT file system of a disk image.

pyfatfs reads FAT (the extra `guests`). No library is suitable for ext2 to ext4: the one with a
permissive license reads neither block maps nor the journal, and after a guest's `sync` a new file
may be in the journal only.
"""

from __future__ import annotations

import errno
import importlib.util
import struct
import warnings
from contextlib import closing
from pathlib import Path
from typing import Any

LIBRARY = "pyfatfs"
INSTALL_HINT = "pip install 'swarm-runner[guests]'"


def is_available() -> bool:
    """Whether the library is installed."""
    return importlib.util.find_spec(LIBRARY) is not None


def has_file(image: Path, path: str) -> bool:
    """Whether `path`, from the file system's root, is a file.

    Raises OSError when the image cannot be read, has no FAT file system, or the library is missing.
    """
    if not is_available():
        raise OSError(errno.ENOSYS, f"{LIBRARY} is not installed; run {INSTALL_HINT}")
    from pyfatfs._exceptions import PyFATException
    from pyfatfs.PyFat import PyFat

    with image.open("rb") as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a guest that powers off does not unmount it
        volume = PyFat()
        try:
            volume.set_fp(stream)
            with closing(volume):
                return _exists(volume.root_dir, [part for part in path.split("/") if part])
        except (PyFATException, ValueError, ArithmeticError, LookupError, struct.error) as error:
            raise OSError(errno.EINVAL, f"no FAT file system can be read: {error}") from error


def _exists(directory: Any, path_parts: list[str]) -> bool:
    """Whether a file has this path. FAT preserves the case of names and ignores it."""
    first, *rest = path_parts
    directories, files, _ = directory.get_entries()
    for entry in directories if rest else files:
        if first.casefold() in (name.casefold() for name in _entry_names(entry)):
            return _exists(entry, rest) if rest else True
    return False


def _entry_names(entry: Any) -> list[str]:
    long_name = entry.lfn_entry
    return [entry.get_short_name(), *([] if long_name is None else [str(long_name)])]
