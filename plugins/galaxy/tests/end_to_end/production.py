"""A Galaxy as sites run it: PostgreSQL, two web workers, and two job handlers with skip-locked."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
from tenacity import retry, retry_if_result, stop_after_delay, wait_fixed

from end_to_end.server import BOOT_TIMEOUT_S, STOP_TIMEOUT_S, Galaxy, SystemUser

HANDLERS = ("handler_1", "handler_2")
# Without a limit, the handler that asks first takes every job of a batch.
HANDLING = {
    "assign": ["db-skip-locked"],
    "max_grab": 4,
    "processes": {name: {} for name in HANDLERS},
}
WEB_WORKERS = 2
_DATABASE_USER = "galaxy"


class Database:
    """A PostgreSQL server that listens on a socket in its own directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (programs,) = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1:]
        self._programs = programs
        self._as_user: list[str] = []
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            owner = pwd.getpwnam("postgres")
            os.chown(directory, owner.pw_uid, owner.pw_gid)
            self._as_user = ["setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}"]
            self._as_user += ["--clear-groups", "--"]
        # Galaxy runs as another user than the server.
        directory.chmod(0o755)

    @classmethod
    @contextlib.contextmanager
    def running(cls) -> Iterator[Database]:
        """Yield a server with an empty database. Its socket's path has to be short."""
        directory = Path(tempfile.mkdtemp(prefix="swarm-runner-pg-"))
        database = cls(directory)
        try:
            database._run("initdb", "--pgdata", "data", "--username", _DATABASE_USER)
            database.start()
            database._run(
                "createdb", "--host", str(directory), "--username", _DATABASE_USER, "galaxy"
            )
            yield database
        finally:
            database._run("pg_ctl", "stop", "--pgdata", "data", "--mode", "immediate", check=False)
            shutil.rmtree(directory)

    @property
    def url(self) -> str:
        """The address for SQLAlchemy."""
        return f"postgresql://{_DATABASE_USER}@/galaxy?host={self.directory}"

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        options = f"-c listen_addresses='' -c unix_socket_directories={self.directory}"
        self._run(
            *("pg_ctl", "start", "--pgdata", "data", "--log", "log", "--wait", "--timeout", "120"),
            *("--options", options),
        )

    def restart(self) -> None:
        """Stop the server as a package upgrade does, which ends all connections; start it again."""
        self._run("pg_ctl", "stop", "--pgdata", "data", "--mode", "fast", "--wait")
        self.start()

    def jobs_by_handler(self) -> dict[str, int]:
        """Return how many jobs each handler took."""
        return dict(
            self._query(
                "SELECT handler, count(*) FROM job WHERE handler IS NOT NULL GROUP BY handler"
            )
        )

    def processes(self) -> set[str]:
        """Return the names of the Galaxy processes that have booted."""
        return {name for (name,) in self._query("SELECT server_name FROM worker_process")}

    def _query(self, statement: str) -> list[tuple[Any, ...]]:
        with (
            contextlib.closing(psycopg2.connect(self.url)) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(statement)
            return cursor.fetchall()

    def _run(self, program: str, *arguments: str, check: bool = True) -> None:
        command = [*self._as_user, str(self._programs / program), *arguments]
        # `pg_ctl start` leaves the server behind, with the streams that it was given.
        subprocess.run(
            command,
            cwd=self.directory,
            check=check,
            timeout=180,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=None if check else subprocess.DEVNULL,
        )


class ProductionGalaxy(Galaxy):
    """Web workers and job handlers of one Galaxy, as processes of their own."""

    def __init__(self, directory: Path, port: int, user: SystemUser, database: Database) -> None:
        super().__init__(directory, port, user)
        self._database = database
        self._handlers: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, wait: bool = True) -> None:
        """Start everything. The web workers come first: they make the tables of a new database."""
        self._process = self._spawn(
            [
                str(Path(sys.executable).with_name("gunicorn")),
                "galaxy.webapps.galaxy.fast_factory:factory()",
                *("-k", "galaxy.webapps.galaxy.workers.Worker", "--workers", str(WEB_WORKERS)),
                *("-b", f"127.0.0.1:{self._port}", "--timeout", "300", "--preload"),
                *("--config", "python:galaxy.web_stack.gunicorn_config"),
            ]
        )
        if wait:
            self._wait_until_ready()
        for name in HANDLERS:
            self.start_handler(name)
        if wait:
            self._wait_for_handlers()

    @retry(
        retry=retry_if_result(lambda is_up: not is_up),
        wait=wait_fixed(0.5),
        stop=stop_after_delay(BOOT_TIMEOUT_S),
    )
    def _wait_for_handlers(self) -> bool:
        return self._database.processes() >= set(HANDLERS)

    def start_handler(self, name: str) -> None:
        """Start a job handler."""
        self._handlers[name] = self._spawn(
            [
                str(Path(sys.executable).with_name("galaxy-main")),
                *("-c", str(self.directory / "galaxy.yml"), "--server-name", name),
                *("--pid-file", str(self.directory / f"{name}.pid")),
            ]
        )

    def kill_handler(self, name: str) -> None:
        """Kill a job handler and its children, as a crash does."""
        handler = self._handlers.pop(name)
        os.killpg(handler.pid, signal.SIGKILL)
        handler.wait(STOP_TIMEOUT_S)

    def stop(self) -> None:
        """Stop all processes as an administrator does."""
        for handler in self._handlers.values():
            handler.terminate()
        for name, handler in list(self._handlers.items()):
            try:
                handler.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.kill_handler(name)
        self._handlers.clear()
        super().stop()

    def _environment(self) -> dict[str, str]:
        return super()._environment() | {"GALAXY_CONFIG_FILE": str(self.directory / "galaxy.yml")}

    def _settings(self) -> dict[str, Any]:
        return super()._settings() | {"database_connection": self._database.url}
