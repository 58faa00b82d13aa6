"""Whether a file is there on a disk image with a FAT file system.

pyfatfs reads it (the extra `guests`). Of ext2 to ext4 no library does that will do here: the
permissively licensed one reads neither block maps nor the journal, which after a guest's `sync` may
be the only place where a new file is.
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
    """Whether the path `name`, from the file system's root, is a file there.

    Raises OSError, which also says that there is no such file system, or no library.
    """
    if not is_available():
        raise OSError(errno.ENOSYS, f"{LIBRARY} is not installed: {INSTALL_HINT}")
    from pyfatfs._exceptions import PyFATException
    from pyfatfs.PyFat import PyFat

    with image.open("rb") as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a guest that powers off leaves it mounted
        volume = PyFat()
        try:
            volume.set_fp(stream)
            with closing(volume):
                return _exists(volume.root_dir, [part for part in path.split("/") if part])
        except (PyFATException, ValueError, ArithmeticError, LookupError, struct.error) as error:
            raise OSError(errno.EINVAL, f"no FAT file system can be read: {error}") from error


def _exists(directory: Any, path_parts: list[str]) -> bool:
    """FAT keeps the letters' case, and does not look at it."""
    first, *rest = path_parts
    directories, files, _ = directory.get_entries()
    for entry in directories if rest else files:
        if first.casefold() in (name.casefold() for name in _entry_names(entry)):
            return _exists(entry, rest) if rest else True
    return False


def _entry_names(entry: Any) -> list[str]:
    long = entry.lfn_entry
    return [entry.get_short_name(), *([] if long is None else [str(long)])]
