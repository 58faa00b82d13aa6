"""What the gateway reads and makes in a job's scratch directory. It follows no links there."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from pathlib import Path

from gateway_policy import PRIVATE_DIRECTORY, DeniedError

MAXIMUM_FILE_BYTES = 8 * 2**20
_IMAGE_ATTRIBUTE = re.compile(r'^(DockerImage|ContainerImage) = "([^"\\]*)"$', re.MULTILINE)


def make_private_directories(scratch: str, uid: int, gid: int) -> None:
    """Make the directories that become the job's /tmp, /var/tmp and HOME.

    The job's input files are in the scratch directory already: no link among them is followed.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    top = os.open(scratch, flags)
    try:
        for path, mode in (("tmp", 0o1777), ("var", 0o755), ("var/tmp", 0o1777), ("home", 0o700)):
            parent = os.dup(top)
            for name in (PRIVATE_DIRECTORY, *path.split("/")):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, 0o700, dir_fd=parent)
                try:
                    child = os.open(name, flags, dir_fd=parent)
                except OSError as error:
                    raise DeniedError(
                        f"{PRIVATE_DIRECTORY}/{path} in its scratch directory is not a "
                        "directory; rename the input file"
                    ) from error
                finally:
                    os.close(parent)
                parent = child
            os.fchown(parent, uid, gid)
            os.fchmod(parent, mode)
            os.close(parent)
        private = os.open(PRIVATE_DIRECTORY, flags, dir_fd=top)
        os.fchmod(private, stat.S_IRWXU | stat.S_IXGRP | stat.S_IXOTH)
        os.fchown(private, uid, gid)
        os.close(private)
    finally:
        os.close(top)


def job_image(pid: int, scratch_parent: str) -> str | None:
    """Return the image of the job whose starter runs this process; None for another program's.

    A starter names its job's directory after its own process, and keeps the job's ad there.
    """
    with contextlib.suppress(OSError, StopIteration, ValueError):
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
        parent = next(line for line in status if line.startswith("PPid:")).split()[1]
        ad = read_file(f"{scratch_parent}/dir_{parent}", "scratch", ".job.ad")
        found = dict(_IMAGE_ATTRIBUTE.findall(ad or ""))
        name = found.get("DockerImage") or found.get("ContainerImage")
        return name.removeprefix("docker://") if name else None
    return None


def read_file(scratch: str, subdirectory: str, name: str) -> str | None:
    """Return a file of the starter, in a subdirectory or in the scratch directory itself.

    Which of the two depends on HTCondor's version. No link is followed.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    for directory in (f"{scratch}/{subdirectory}", scratch):
        with contextlib.suppress(OSError):
            parent = os.open(directory, flags | os.O_DIRECTORY)
            try:
                descriptor = os.open(name, flags | os.O_NONBLOCK, dir_fd=parent)
            finally:
                os.close(parent)
            with os.fdopen(descriptor, errors="replace") as file:
                return file.read(MAXIMUM_FILE_BYTES)
    return None


def read_chirp(scratch: str) -> tuple[str, int, str] | None:
    """Return the address and the cookie of the starter's chirp proxy. Read before the job runs."""
    content = read_file(scratch, "user", ".chirp.config")
    with contextlib.suppress(ValueError):
        host, port, cookie = (content or "").split()
        return host, int(port), cookie
    return None
