"""What the job handlers of one Galaxy have to agree on, and whether they do.

A job may pass from one handler to another, which then has to find it in the pool. Each handler
reads the job configuration for itself, maybe on another host. At boot it writes what it read to
Galaxy's database, which all handlers share and no job can write, and compares it with what the
handlers that are alive wrote.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple

from galaxy.exceptions import ConfigurationError
from galaxy.model import WorkerProcess
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import (
    JSON,
    Column,
    ColumnElement,
    DateTime,
    Engine,
    MetaData,
    String,
    Table,
    and_,
    delete,
    insert,
    not_,
    select,
)
from sqlalchemy.exc import SQLAlchemyError

from swarm_runner import get_logger, printable, token_file, token_user
from swarm_runner_galaxy.config import RunnerConfig

log = get_logger(__name__)
# Each process of Galaxy writes its heartbeat every 60 s.
HEARTBEAT_TIMEOUT_S = 120.0
MAX_LOGGED_SETTINGS = 20
# What is compared by other means, and what may differ between hosts.
_NOT_SETTINGS: dict[str, Any] = {
    **dict.fromkeys(
        ("load", "workers", "name", "state_directory", "token_directory", "metrics"), True
    ),
    "pool": {"name", "host", "port", "hosts", "managers"},
}
_TABLE = Table(
    "swarm_runner_handler",
    MetaData(),
    Column("runner_id", String(255), primary_key=True),
    Column("server_name", String(255), primary_key=True),
    Column("hostname", String(255), nullable=False),
    Column("update_time", DateTime, nullable=False),
    Column("record", JSON, nullable=False),
)


class HandlerProcess(BaseModel):
    """A handler's process, and from where it can be seen."""

    model_config = ConfigDict(frozen=True)

    hostname: str = Field(default_factory=socket.gethostname)
    pid: int = Field(default_factory=os.getpid)
    # Containers may share a host's name, and not its processes.
    pid_namespace: int = Field(default_factory=lambda: Path("/proc/self/ns/pid").stat().st_ino)

    def sees_the_end_of(self, other: HandlerProcess) -> bool:
        """Return whether the other process has ended, as far as this one can see."""
        if (self.hostname, self.pid_namespace) != (other.hostname, other.pid_namespace):
            return False
        return other.pid == self.pid or not Path("/proc", str(other.pid)).exists()


class HandlerRecord(BaseModel):
    """What a handler's runner is configured to do.

    - `file`: where the runner's section is.
    - `name`: the runner's name on the access point.
    - `state_directory`: the runner's own directory. `state_inode` is its number in its file system,
      on every host that mounts it; None if the directory is of this host alone.
    - `settings`: what else matters to jobs, by path.
    """

    model_config = ConfigDict(frozen=True)

    server_name: str
    process: HandlerProcess = Field(default_factory=HandlerProcess)
    file: str
    pool_name: str
    addresses: tuple[str, ...]
    name: str
    state_directory: str
    state_inode: int | None
    settings: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.server_name} ({self.file}, on {self.process.hostname})"


class Difference(NamedTuple):
    """A key that has another value in another handler's configuration, and what to do about it."""

    key: str
    own: Any
    other: Any
    advice: str = ""

    def __str__(self) -> str:
        values = f"{self.key} is {self.own!r} here, and {self.other!r} there"
        return f"{values}: {self.advice}" if self.advice else values


def build_record(config: RunnerConfig, server_name: str, event_log: Path | None) -> HandlerRecord:
    """Return the record of this process. `event_log` is the runner's; None if it has none."""
    section, pool = config.section, config.destination.pool
    if event_log is not None:
        directory: Path | None = event_log.parent
    elif section.state_directory is not None:
        directory = Path(section.state_directory, config.name)
    else:
        directory = None  # in the home directory of Galaxy's user
    settings = dict(_flatten(section.model_dump(mode="json", exclude=_NOT_SETTINGS)))
    settings["token's identity"] = token_user(token_file(pool.name, section.token_directory))
    return HandlerRecord(
        server_name=server_name,
        file=config.source,
        pool_name=pool.name,
        addresses=tuple(f"{host}:{port}" for host, port in pool.manager_addresses),
        name=config.name,
        state_directory=str(directory or f"a directory of {socket.gethostname()} alone"),
        state_inode=directory.stat().st_ino if directory else None,
        settings=settings,
    )


def find_conflicts(own: HandlerRecord, other: HandlerRecord) -> list[Difference]:
    """Return what keeps a handler from finding the other's jobs, or from seeing its lock."""
    found = []
    if own.pool_name != other.pool_name:
        found.append(Difference("pool.name", own.pool_name, other.pool_name))
    if not set(own.addresses) & set(other.addresses):
        here, there = (", ".join(record.addresses) for record in (own, other))
        advice = "name the central manager by an address that all handlers reach"
        found.append(Difference("the pool's address", here, there, advice))
    if own.name != other.name:
        advice = (
            "set one name in the section; without one, it is derived from id_secret and "
            "database_connection of galaxy.yml"
        )
        found.append(Difference("name", own.name, other.name, advice))
    elif not _share_directory(own, other):
        advice = (
            "these are two directories, and the lock in the one keeps nobody out of the other; set "
            "state_directory to a directory that the hosts of all handlers mount, or give each "
            "host a runner of its own (docs/how-to/galaxy-in-production.md)"
        )
        difference = Difference(
            "state_directory", own.state_directory, other.state_directory, advice
        )
        found.append(difference)
    return found


def find_warnings(own: HandlerRecord, other: HandlerRecord) -> list[str]:
    """Return a phrase for each difference that loses no job."""
    found = [
        str(Difference(key, own.settings.get(key), other.settings.get(key)))
        for key in sorted({*own.settings, *other.settings})
        if own.settings.get(key) != other.settings.get(key)
    ]
    if len(found) > MAX_LOGGED_SETTINGS:
        found[MAX_LOGGED_SETTINGS:] = [f"{len(found) - MAX_LOGGED_SETTINGS} more keys differ"]
    loopback = next(filter(_is_loopback, own.addresses), None)
    if loopback and own.process.hostname != other.process.hostname:
        found.append(
            f"the pool's address is {loopback}, which leads each of the two hosts to itself: name "
            "the central manager by an address that all handlers reach"
        )
    return found


class HandlerRegistry:
    """The records of a runner's handlers, in a table of Galaxy's database."""

    def __init__(self, engine: Engine, runner_id: str, record: HandlerRecord) -> None:
        self._engine = engine
        self._runner_id = runner_id
        self._own = record
        self._is_own = _TABLE.c.server_name == record.server_name

    def register(self) -> None:
        """Write this handler's record, and compare it with those of the others that are alive.

        Raises ConfigurationError, which stops the boot, if one would not find the other's jobs.
        Other differences are logged: while handlers restart one by one, they have to differ.
        """
        try:
            namesakes = self._exchange_records()
            others = list(self._alive(not_(self._is_own)))
        except SQLAlchemyError as error:
            log.warning(
                "Cannot compare this handler's configuration with that of the others: let Galaxy's "
                f"database user create and write the table {_TABLE.name}",
                runner=self._runner_id,
                error=getattr(error, "orig", error),
            )
            return
        for record in namesakes:
            # Not refused: a container that starts again may have another host's name.
            log.warning(
                f"{record} has the name of this handler, and ended in the last two minutes or is "
                "running: Galaxy would give the same jobs to both. Start each with a --server-name "
                "of its own",
                runner=self._runner_id,
            )
        conflicts = {str(other): find_conflicts(self._own, other) for other in others}
        conflicts = {other: found for other, found in conflicts.items() if found}
        if conflicts:
            self.unregister()
            message = self._describe(conflicts)
            log.error(message)
            raise ConfigurationError(message)
        for other in others:
            if warnings := find_warnings(self._own, other):
                log.warning(
                    f"The section of {other} differs: {printable('; '.join(warnings))}",
                    runner=self._runner_id,
                    file=self._own.file,
                )

    def unregister(self) -> None:
        """Remove this handler's record."""
        # A container that replaced this one has a record of the same name.
        host = _TABLE.c.hostname == self._own.process.hostname
        statement = delete(_TABLE).where(_TABLE.c.runner_id == self._runner_id, self._is_own, host)
        try:
            with self._engine.begin() as connection:
                connection.execute(statement)
        except SQLAlchemyError as error:
            log.debug("The record of this handler stays; it expires", error=error)

    def _exchange_records(self) -> list[HandlerRecord]:
        """Write this handler's record; return that of a live handler of the same name.

        It is committed before the others are read: of two handlers that boot at once, at least one
        sees the other.
        """
        try:
            _TABLE.create(self._engine, checkfirst=True)
        except SQLAlchemyError as error:
            # Another handler has created it at the same moment, or the next statement fails.
            log.debug("The table was not created", error=error)
        namesakes = list(self._alive(self._is_own))
        with self._engine.begin() as connection:
            connection.execute(
                delete(_TABLE).where(_TABLE.c.runner_id == self._runner_id, self._is_own)
            )
            connection.execute(
                insert(_TABLE).values(
                    runner_id=self._runner_id,
                    server_name=self._own.server_name,
                    hostname=self._own.process.hostname,
                    update_time=_now(),
                    record=self._own.model_dump(mode="json"),
                )
            )
        return namesakes

    def _alive(self, condition: ColumnElement[bool]) -> Iterator[HandlerRecord]:
        """Yield the records that meet a condition, of handlers that may be alive."""
        query = (
            select(_TABLE.c.record, _TABLE.c.update_time, WorkerProcess.update_time)
            .outerjoin(
                WorkerProcess,
                and_(
                    WorkerProcess.server_name == _TABLE.c.server_name,
                    WorkerProcess.hostname == _TABLE.c.hostname,
                ),
            )
            .where(_TABLE.c.runner_id == self._runner_id, condition)
            .order_by(_TABLE.c.server_name)
        )
        with self._engine.connect() as connection:
            rows = connection.execute(query).all()
        oldest = _now() - timedelta(seconds=HEARTBEAT_TIMEOUT_S)
        for data, booted_at, heartbeat_at in rows:
            # The first heartbeat comes some time after the boot.
            if max(booted_at, heartbeat_at or booted_at) < oldest:
                continue
            try:
                record = HandlerRecord.model_validate(data)
            except ValidationError as error:
                log.debug("A record of another version is ignored", error=error)
                continue
            if not self._own.process.sees_the_end_of(record.process):
                yield record

    def _describe(self, conflicts: dict[str, list[Difference]]) -> str:
        introduction = (
            f"Galaxy does not start: the section runners.{self._runner_id} of this handler, "
            f"{self._own}, contradicts that of handlers that are running. One would not find the "
            "jobs of the other: Galaxy would fail them while they run, or run them twice."
        )
        lines = [introduction]
        for other, differences in conflicts.items():
            lines.append(f"{other}:")
            lines += [f"  {difference}" for difference in differences]
        lines.append(
            "Give all handlers the same section. To change it, wait until the runner's jobs have "
            "ended, and stop all handlers before you start the first"
        )
        return printable("\n".join(lines))


def _share_directory(own: HandlerRecord, other: HandlerRecord) -> bool:
    if own.state_inode is None or other.state_inode is None:
        return own.state_inode == other.state_inode and own.state_directory == other.state_directory
    return own.state_inode == other.state_inode


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0]
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _flatten(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the path and the value of everything that is not a mapping."""
    if not isinstance(value, dict):
        yield path, value
        return
    for key, inner in value.items():
        yield from _flatten(inner, f"{path}.{key}" if path else str(key))


def _now() -> datetime:
    """Return the time as Galaxy's database has it."""
    return datetime.now(UTC).replace(tzinfo=None)
