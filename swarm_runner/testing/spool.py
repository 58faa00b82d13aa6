"""The spool of the pool on a Swarm in memory: backups, and the directory that managers share."""

from __future__ import annotations

import io
import json
import tarfile
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import IO, Literal

from swarm_runner.errors import PreconditionError
from swarm_runner.model.pool_status import TaskState
from swarm_runner.swarm.specs import BACKUP_PROGRAM, Stack
from swarm_runner.testing.pool import FakePool


class FakeSpool(FakePool):
    """Implements what `swarm.ports.Swarm` does with the spool.

    Set these attributes to change the behaviour:

    - `spool_problem`: what is wrong with the spool of several managers: `separate`, each node has
      a directory of its own, or `unlocked`, the volume does not lock.
    - `spool_content`: the queue's files, which a backup has and a restore writes.
    - `unreachable_nodes`: the hosts on which `remove_queue` fails.

    `cleared` records the calls of `remove_queue`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.spool_problem: Literal["", "separate", "unlocked"] = ""
        self.spool_content: dict[str, bytes] = {}
        self.unreachable_nodes: list[str] = []
        self.cleared: list[tuple[str, str]] = []

    @abstractmethod
    def exec_in_service(self, service: str, command: Sequence[str]) -> bytes | None:
        """See `Swarm.exec_in_service`."""

    @abstractmethod
    def pool_of(self, service: str) -> str:
        """Return the pool of a service."""

    def remove_queue(self, pool: str, image: str, directory: str, node_id: str) -> str:
        """See `Swarm.remove_queue`."""
        del pool, image
        self.check_reachable()
        host = node_id.replace("node", "swarm")
        if host in self.unreachable_nodes:
            return f"{host} did not do it in time"
        self.cleared.append((directory, node_id))
        return ""

    def copy_output(self, service: str, command: Sequence[str], file: IO[bytes]) -> bool:
        """See `Swarm.copy_output`. Only the program of `pool backup` writes something."""
        if self.exec_in_service(service, ["true"]) is None:
            return False
        if BACKUP_PROGRAM in command:
            pool = self.pool_of(service)
            file.write(write_backup(pool, self.htcondor_version, self.spool_content))
        return True

    def image_version(self, image: str) -> str:
        """See `Swarm.image_version`."""
        del image
        return self.htcondor_version

    def fill_spool(self, stack: Stack, archive: IO[bytes]) -> None:
        """See `Swarm.fill_spool`."""
        del stack
        if self.spool_content:
            raise PreconditionError("the spool has files already")
        with tarfile.open(fileobj=archive) as members:
            self.spool_content = {
                member.name: file.read()
                for member in members
                if (file := members.extractfile(member)) is not None
            }

    def spool_state(self, managers: Sequence[TaskState], seen_by: str) -> bytes:
        """Return what running managers write to their spool, as the one of a service sees it."""
        records = [{"service": t.service, "node": t.node, "task": t.id} for t in managers]
        if self.spool_problem == "separate":
            records = [record for record in records if record["service"] == seen_by]
        state = {"locks": self.spool_problem != "unlocked", "reaches": True}
        standbys = [record | state for record in records[1:]]
        return json.dumps({"holder": next(iter(records), None), "standbys": standbys}).encode()


def write_backup(pool: str, htcondor_version: str, files: Mapping[str, bytes]) -> bytes:
    """Return a backup of a pool with these files in its spool, as image/backup.py writes it."""
    manifest = {"format": 1, "pool": pool, "htcondor": htcondor_version, "created_at": 1767225600}
    content = {"manifest.json": json.dumps(manifest).encode(), "signing-key": b"a fake key"}
    content |= {f"spool/{name}": data for name, data in files.items()} | {"end": b""}
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as archive:
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return output.getvalue()
