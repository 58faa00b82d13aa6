"""A Galaxy as sites run it: PostgreSQL, two web workers, and two job handlers with skip-locked."""

from __future__ import annotations

import contextlib
import io
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import psycopg2
import yaml
from tenacity import retry, retry_if_result, stop_after_delay, wait_fixed

from end_to_end.client import Client
from end_to_end.conftest import build_job_conf
from end_to_end.server import (
    BOOT_TIMEOUT_S,
    MASTER_KEY,
    STOP_TIMEOUT_S,
    Galaxy,
    SystemUser,
    ToolDefinition,
)
from end_to_end.shell_tool import BUSYBOX, BUSYBOX_DOCKERFILE, ShellTool
from tests.lab.pool import LabPool, lab_pool
from tests.polling import poll_until

NAME = os.environ.get("SWARM_RUNNER_PRODUCTION_POOL", "swarm-runner-test-production")
PORT = int(os.environ.get("SWARM_RUNNER_PRODUCTION_POOL_PORT", "9738"))
GALAXY_PORT = int(os.environ.get("SWARM_RUNNER_PRODUCTION_PORT", "9779"))

HANDLERS = ("handler_1", "handler_2")
# Without a limit, the handler that asks first takes every job of a batch.
HANDLING = {
    "assign": ["db-skip-locked"],
    "max_grab": 4,
    "processes": {name: {} for name in HANDLERS},
}
WEB_WORKERS = 2
JOBS, JOB_S = 24, 4
DOCUMENTED_DATABASE = "postgresql://galaxy@/galaxy?host=/var/run/postgresql"
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

    def job_states(self, tool: str) -> Counter[str]:
        """Return how many jobs of a tool are in each state."""
        statement = "SELECT state, count(*) FROM job WHERE tool_id = %s GROUP BY state"
        return Counter(dict(self._query(statement, tool)))

    def last_success_s(self, tool: str) -> float:
        """Return when a job of a tool last succeeded, in seconds since the epoch."""
        ((end_s,),) = self._query(
            "SELECT extract(epoch FROM max(h.create_time)) FROM job_state_history h "
            "JOIN job ON job.id = h.job_id WHERE job.tool_id = %s AND h.state = 'ok'",
            tool,
        )
        return float(end_s)

    def finished_tasks(self, name: str) -> int:
        """Return how many of celery's tasks of that name have succeeded."""
        ((exists,),) = self._query("SELECT to_regclass('celery_taskmeta') IS NOT NULL")
        if not exists:  # celery creates it with the first result
            return 0
        statement = "SELECT count(*) FROM celery_taskmeta WHERE name = %s AND status = 'SUCCESS'"
        ((count,),) = self._query(statement, name)
        return int(count)

    def processes(self) -> set[str]:
        """Return the names of the Galaxy processes that have booted."""
        return {name for (name,) in self._query("SELECT server_name FROM worker_process")}

    def _query(self, statement: str, *values: str) -> list[tuple[Any, ...]]:
        with (
            contextlib.closing(psycopg2.connect(self.url)) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(statement, values)
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
        # The commands that start handlers on other hosts, by the handlers' names.
        self.handler_prefixes: dict[str, Sequence[str]] = {}
        self._database = database
        # The job handlers, and celery's worker.
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def write_job_conf(self, name: str, job_conf: Mapping[str, Any]) -> None:
        """Write another job configuration beside the server's."""
        self._write(name, yaml.safe_dump(dict(job_conf), sort_keys=False))

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

    def start_handler(self, name: str, job_conf: str = "job_conf.yml") -> None:
        """Start a job handler, with a job configuration in the server's directory."""
        self._daemons[name] = self._spawn(
            [
                str(Path(sys.executable).with_name("galaxy-main")),
                *("-c", str(self.directory / "galaxy.yml"), "--server-name", name),
                *("--pid-file", str(self.directory / f"{name}.pid")),
            ],
            self.handler_prefixes.get(name, ()),
            GALAXY_CONFIG_OVERRIDE_JOB_CONFIG_FILE=str(self.directory / job_conf),
        )

    def wait_for_the_end_of_handler(self, name: str) -> int:
        """Wait until a job handler ends by itself. Return its exit code."""
        return self._daemons.pop(name).wait(BOOT_TIMEOUT_S)

    def start_celery_worker(self) -> None:
        """Start a worker of Galaxy's celery, as Galaxy's manual says."""
        self._daemons["celery"] = self._spawn(
            [
                str(Path(sys.executable).with_name("celery")),
                *("--app", "galaxy.celery", "worker", "--pool", "threads", "--concurrency", "2"),
                *("--queues", "celery,galaxy.internal,galaxy.external", "--loglevel", "INFO"),
            ]
        )

    def handler_pids(self) -> dict[str, int]:
        """Return the process IDs of the job handlers, by name."""
        return {name: self._daemons[name].pid for name in HANDLERS}

    def kill_handler(self, name: str) -> None:
        """Kill a job handler and its children, as a crash does."""
        handler = self._daemons.pop(name)
        os.killpg(handler.pid, signal.SIGKILL)
        handler.wait(STOP_TIMEOUT_S)

    def stop(self) -> None:
        """Stop all processes as an administrator does."""
        for daemon in self._daemons.values():
            daemon.terminate()
        for name, daemon in list(self._daemons.items()):
            try:
                daemon.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.kill_handler(name)
        self._daemons.clear()
        super().stop()

    def _environment(self) -> dict[str, str]:
        return super()._environment() | {"GALAXY_CONFIG_FILE": str(self.directory / "galaxy.yml")}

    def _settings(self) -> dict[str, Any]:
        return super()._settings() | {"database_connection": self._database.url}


def production_job_conf(pool: LabPool, user: SystemUser) -> dict[str, Any]:
    """Return a job configuration with two handlers."""
    return build_job_conf(pool, user) | {"handling": HANDLING}


@dataclass(frozen=True)
class Production:
    """The server, its database, its job configuration, a user, and a directory of jobs' files.

    `tool` runs a batch.
    """

    galaxy: ProductionGalaxy
    database: Database
    job_conf: Mapping[str, Any]
    client: Client
    runs: Path
    tool: str

    @classmethod
    @contextlib.contextmanager
    def running(
        cls,
        tools: Sequence[ShellTool] = (ShellTool("busybox", image=BUSYBOX),),
        environments: Mapping[str, Mapping[str, Any]] | None = None,
        celery: bool = False,
        **settings: Any,
    ) -> Iterator[Production]:
        """Yield the server on a pool of its own.

        `environments` are added to the job configuration, each for the tool of its name, and
        `settings` to galaxy.yml, with the server's database instead of the one in the documents.
        `celery`: start a worker.
        """
        user = SystemUser.for_tests()
        pool_settings = {
            "user": {"name": user.name, "uid": user.uid, "gid": user.gid},
            "classes": {"normal": {"cpus": 8, "memory_mb": 1024, "replicas": 3}},
        }
        engine = docker.from_env()
        engine.images.build(fileobj=io.BytesIO(BUSYBOX_DOCKERFILE.encode()), tag=BUSYBOX)
        engine.close()

        def job_conf(pool: LabPool, user: SystemUser) -> dict[str, Any]:
            conf = production_job_conf(pool, user)
            for name, params in (environments or {}).items():
                default = conf["execution"]["environments"]["swarm"]
                conf["execution"]["environments"][name] = {**default, **params}
                conf["tools"].append({"id": name, "environment": name})
            return conf

        with (
            lab_pool(NAME, PORT, pool_settings) as pool,
            cls.running_on(pool, user, tools, job_conf, **settings) as production,
        ):
            if celery:
                production.galaxy.start_celery_worker()
            yield production

    @classmethod
    @contextlib.contextmanager
    def running_on(
        cls,
        pool: LabPool,
        user: SystemUser,
        tools: Sequence[ToolDefinition],
        build: Callable[[LabPool, SystemUser], dict[str, Any]] = production_job_conf,
        prefixes: Mapping[str, Sequence[str]] | None = None,
        **settings: Any,
    ) -> Iterator[Production]:
        """Yield the server on a pool that is up.

        `build` makes its job configuration, and `prefixes` start handlers on other hosts.
        """
        with Database.running() as database:
            runs = pool.volume / "runs"
            runs.mkdir()
            runs.chmod(0o777)
            galaxy = ProductionGalaxy(pool.volume / "galaxy", GALAXY_PORT, user, database)
            galaxy.handler_prefixes |= prefixes or {}
            job_conf = build(pool, user)
            settings_text = yaml.safe_dump(settings).replace(DOCUMENTED_DATABASE, database.url)
            galaxy.configure(job_conf, tools, **yaml.safe_load(settings_text))
            galaxy.start()
            try:
                client = Client(galaxy.url, MASTER_KEY, "admin")
                yield cls(galaxy, database, job_conf, client, runs, tools[0].id)
            finally:
                galaxy.stop()


class Batch:
    """Jobs of one request. Each start of a job adds a line to a file of its own."""

    def __init__(self, production: Production, name: str) -> None:
        self._production = production
        self.files = [production.runs / f"{name}-{number}" for number in range(JOBS)]
        names = production.client.collection([str(file) for file in self.files])
        batch = {"batch": True, "values": [{"src": "hdca", "id": names}]}
        text = f'name="$(cat "$1")"; echo $$ >> "$name"; sleep {JOB_S}; basename "$name"'
        created = production.client.run(production.tool, text=text, first=batch)["jobs"]
        self.jobs = [str(job["id"]) for job in created]

    def wait_for_starts(self, number: int) -> None:
        """Wait until so many jobs have started."""
        poll_until(lambda: sum(file.exists() for file in self.files) >= number)

    def check(self, max_starts: int = 1) -> None:
        """Every job has run once, or more often where it may, and Galaxy has its output."""
        client = self._production.client
        ended = client.wait(self.jobs)
        assert {job["state"] for job in ended.values()} == {"ok"}
        outputs = {client.output(job).strip() for job in ended.values()}
        assert outputs == {file.name for file in self.files}
        starts = {file.name: len(file.read_text().splitlines()) for file in self.files}
        assert 1 <= min(starts.values()) <= max(starts.values()) <= max_starts, starts
