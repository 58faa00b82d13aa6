"""Writes a backup of the pool to standard output, as a tar file, while the pool runs.

It has the job queue, the history, the record of tokens, the files of spooled jobs and the signing
key. HTCondor only appends to the queue's file, and ignores a transaction without an end: what
is copied while the schedd writes is the queue at one time.
"""

import io
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import BinaryIO

SPOOL_DIRECTORY = Path("/var/lib/swarm-runner/spool")
SIGNING_KEY = Path("/etc/condor/passwords.d/POOL")
FORMAT = 1
QUEUE_NAME = "job_queue.log"
TOKENS_NAME = "swarm-runner-tokens.json"
_OWN_PREFIX = "swarm-runner-"  # files about managers, of no use elsewhere
_ADDRESS_PREFIX = ".schedd"


def write(
    output: BinaryIO, spool: Path, signing_key: Path, *, pool: str, htcondor: str, now_s: float
) -> None:
    """Write the backup of a pool whose image has this version of HTCondor."""
    manifest = {"format": FORMAT, "pool": pool, "htcondor": htcondor, "created_at": int(now_s)}
    with tarfile.open(fileobj=output, mode="w|") as archive:
        for name, data in (
            ("manifest.json", json.dumps(manifest).encode()),
            ("signing-key", signing_key.read_bytes()),
        ):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o600
            archive.addfile(member, io.BytesIO(data))
        # The queue first: a job that ends meanwhile runs again, and none is forgotten.
        for path in sorted(spool.iterdir(), key=lambda path: (path.name != QUEUE_NAME, path.name)):
            if _belongs(path.name):
                _add(archive, path, f"spool/{path.name}")
        # A tar file that ends after any member is valid. This one shows that it is complete.
        archive.addfile(tarfile.TarInfo("end"))


def _belongs(name: str) -> bool:
    return name == TOKENS_NAME or not name.startswith((_OWN_PREFIX, _ADDRESS_PREFIX, "tmp"))


def _add(archive: tarfile.TarFile, path: Path, name: str) -> None:
    """Add a file, a link or a directory. Follow no link, and ignore what has gone."""
    try:
        if path.is_file() and not path.is_symlink():
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
                # By its descriptor: a second name of a file is a file, too.
                member = archive.gettarinfo(arcname=name, fileobj=file)
                member.type, member.linkname = tarfile.REGTYPE, ""
                archive.addfile(member, file)
            return
        if not (path.is_dir() or path.is_symlink()):
            return  # a socket
        archive.addfile(archive.gettarinfo(path, name))
        children = [] if path.is_symlink() else sorted(path.iterdir())
    except FileNotFoundError:
        return
    for child in children:
        _add(archive, child, f"{name}/{child.name}")


def main() -> int:
    """Write the backup of this container's pool."""
    command = ["condor_config_val", "CONDOR_VERSION"]
    version = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    pool = os.environ["SWARM_RUNNER_POOL"]
    now_s = time.time()
    write(sys.stdout.buffer, SPOOL_DIRECTORY, SIGNING_KEY, pool=pool, htcondor=version, now_s=now_s)
    return 0


if __name__ == "__main__":
    sys.exit(main())
