"""Backups of a pool: its queue, its history, its tokens and its signing key, in one file."""

from __future__ import annotations

import json
import os
import tarfile
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import IO, Any

from pydantic import Field, ValidationError

from swarm_runner.errors import InvalidInputError, PreconditionError
from swarm_runner.model.pool import Pool
from swarm_runner.model.text import FrozenModel
from swarm_runner.provisioner.managers import check_manager_is_here
from swarm_runner.structured_log import get_logger
from swarm_runner.swarm.ports import Swarm
from swarm_runner.swarm.specs import BACKUP_PROGRAM, Stack

log = get_logger(__name__)

FORMAT = 1  # of image/backup.py
_MODE = 0o600
_MAX_KEY_SIZE = 4096
_SPOOL = "spool"


class Backup(FrozenModel):
    """What a backup says of itself: the pool, its version of HTCondor, and when it was made."""

    format: int
    pool: str
    htcondor: str = Field(description="the version of HTCondor in the pool's image")
    created_at: int = Field(description="seconds since the epoch")

    @property
    def created(self) -> str:
        """When the backup was made, for people."""
        return f"{datetime.fromtimestamp(self.created_at, UTC):%Y-%m-%d %H:%M:%S} UTC"


def write_backup(pool: Pool, swarm: Swarm, path: Path) -> Backup:
    """Write a pool's backup to a file that only this user may read, while the pool runs.

    A file that exists is replaced when the new backup is complete. Raises PreconditionError when no
    manager of the pool runs on this engine.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, _MODE), "w+b") as file:
            command = ["python3", BACKUP_PROGRAM]
            if not any(
                swarm.copy_output(service, command, file) for service in pool.manager_services
            ):
                tasks = [t for t in swarm.tasks(pool.name) if t.service in pool.manager_services]
                check_manager_is_here(tasks, swarm.docker_engine().name)
                raise PreconditionError(f"no manager of pool {pool.name} runs on this engine")
            file.flush()
            os.fsync(file.fileno())
            file.seek(0)
            backup, _ = _read(file, str(path))
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    log.info("Backup written", pool=pool.name, path=str(path))
    return backup


def restore_backup(
    pool: Pool,
    swarm: Swarm,
    path: Path,
    make_stack: Callable[[], Stack],
    progress: Callable[[str], None],
) -> Backup:
    """Write a backup's queue and signing key to where `pool up` will find them.

    Raises PreconditionError when the pool exists or the backup is of another pool or another
    version of HTCondor; InvalidInputError when the file is not a backup.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror}") from error
    with file:
        backup, signing_key = _read(file, str(path))
        if backup.pool != pool.name:
            raise PreconditionError(
                f"{path} is a backup of pool {backup.pool}, and its tokens are of no use in pool "
                f"{pool.name}; set pool.name to {backup.pool}"
            )
        if swarm.services(pool.name) or swarm.secrets(pool.name):
            raise PreconditionError(
                f"pool {pool.name} exists, and its queue would be lost. Take it down first "
                "(`swarm-runner pool down`), then restore the backup"
            )
        stack = make_stack()
        version = swarm.image_version(stack.image)
        if version != backup.htcondor:
            raise PreconditionError(
                f"{path} is of HTCondor {backup.htcondor}, and the pool image {stack.image} has "
                f"{version}. Set pool.image to an image with {backup.htcondor}, restore the "
                "backup, and change the image by `swarm-runner pool upgrade` later"
            )
        progress(f"restoring the queue of {backup.created}")
        with tempfile.TemporaryFile() as spool:
            _extract_spool(file, spool)
            swarm.fill_spool(stack, spool)
    swarm.create_secret(stack.signing_key, signing_key, stack.labels)
    log.info("Backup restored", pool=pool.name, path=str(path))
    return backup


def _read(file: IO[bytes], name: str) -> tuple[Backup, bytes]:
    """Return what a backup says of itself, and the signing key. Raises InvalidInputError."""
    try:
        with tarfile.open(fileobj=file) as archive:
            # Reading to the end shows whether the file is complete.
            members = {member.name: member for member in archive}
            content: dict[str, Any] = json.loads(_content(archive, members["manifest.json"]))
            if content.get("format") != FORMAT:
                raise PreconditionError(
                    f"{name} is a backup of format {content.get('format')}, and this version of "
                    f"swarm_runner reads format {FORMAT}; use the version that wrote it"
                )
            backup = Backup.model_validate(content)
            if "end" not in members:
                raise ValueError("its end is missing")
            return backup, _content(archive, members["signing-key"])
    except (tarfile.TarError, KeyError, ValueError, AttributeError, ValidationError) as error:
        raise InvalidInputError(
            f"{name} is not a complete backup of `swarm-runner pool backup`: {error}"
        ) from error


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    if file is None or member.size > _MAX_KEY_SIZE:
        raise ValueError(f"{member.name} is not a small file")
    return file.read()


def _extract_spool(backup: IO[bytes], spool: IO[bytes]) -> None:
    """Copy what belongs into the spool to a tar file of its own."""
    backup.seek(0)
    with (
        tarfile.open(fileobj=backup) as source,
        tarfile.open(fileobj=spool, mode="w") as target,
    ):
        for member in source:
            path = PurePosixPath(member.name)
            if path.parts[0] != _SPOOL or ".." in path.parts:
                continue
            member.name = str(path.relative_to(_SPOOL))
            if member.isreg():
                target.addfile(member, source.extractfile(member))
            elif member.isdir() or member.issym():
                target.addfile(member)
    spool.seek(0)
