"""Two job handlers on PostgreSQL: one is killed, both are killed, the database restarts."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest
import requests
from tenacity import (
    Retrying,
    retry_if_exception_type,
    stop_after_delay,
    wait_fixed,
)

from end_to_end.client import Client
from end_to_end.conftest import build_job_conf
from end_to_end.production import HANDLERS, HANDLING, Database, ProductionGalaxy
from end_to_end.server import MASTER_KEY, SystemUser
from end_to_end.shell_tool import BUSYBOX, BUSYBOX_DOCKERFILE, ShellTool
from tests.lab.pool import lab_pool
from tests.polling import poll_until

NAME = os.environ.get("SWARM_RUNNER_PRODUCTION_POOL", "swarm-runner-test-production")
PORT = int(os.environ.get("SWARM_RUNNER_PRODUCTION_POOL_PORT", "9738"))
GALAXY_PORT = int(os.environ.get("SWARM_RUNNER_PRODUCTION_PORT", "9779"))
JOBS, JOB_S = 24, 4


@dataclass(frozen=True)
class Production:
    """The server, its database, a user, and a directory that jobs can write to."""

    galaxy: ProductionGalaxy
    database: Database
    client: Client
    runs: Path


@pytest.fixture(scope="module")
def production() -> Iterator[Production]:
    user = SystemUser.for_tests()
    settings = {
        "user": {"name": user.name, "uid": user.uid, "gid": user.gid},
        "classes": {"normal": {"cpus": 8, "memory_mb": 1024, "replicas": 3}},
    }
    engine = docker.from_env()
    engine.images.build(fileobj=io.BytesIO(BUSYBOX_DOCKERFILE.encode()), tag=BUSYBOX)
    engine.close()
    with Database.running() as database, lab_pool(NAME, PORT, settings) as pool:
        runs = pool.volume / "runs"
        runs.mkdir()
        runs.chmod(0o777)
        galaxy = ProductionGalaxy(pool.volume / "galaxy", GALAXY_PORT, user, database)
        galaxy.configure(
            build_job_conf(pool, user) | {"handling": HANDLING},
            [ShellTool("busybox", image=BUSYBOX)],
        )
        galaxy.start()
        try:
            client = Client(galaxy.url, MASTER_KEY, "admin")
            yield Production(galaxy, database, client, runs)
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
        created = production.client.run("busybox", text=text, first=batch)["jobs"]
        self.jobs = [str(job["id"]) for job in created]

    def wait_for_starts(self, number: int) -> None:
        """Wait until so many jobs have started."""
        poll_until(lambda: sum(file.exists() for file in self.files) >= number)

    def check(self) -> None:
        """Every job has run once, and Galaxy has its output."""
        client = self._production.client
        ended = client.wait(self.jobs)
        assert {job["state"] for job in ended.values()} == {"ok"}
        outputs = {client.output(job).strip() for job in ended.values()}
        assert outputs == {file.name for file in self.files}
        starts = {file.name: len(file.read_text().splitlines()) for file in self.files}
        assert set(starts.values()) == {1}, starts


def test_one_of_two_handlers_is_killed(production: Production) -> None:
    batch = Batch(production, "one")
    batch.wait_for_starts(JOBS // 4)
    production.galaxy.kill_handler(HANDLERS[0])
    production.galaxy.start_handler(HANDLERS[0])
    batch.check()
    assert set(production.database.jobs_by_handler()) == set(HANDLERS)


def test_both_handlers_are_killed(production: Production) -> None:
    batch = Batch(production, "both")
    batch.wait_for_starts(JOBS // 4)
    for name in HANDLERS:
        production.galaxy.kill_handler(name)
    for name in HANDLERS:
        production.galaxy.start_handler(name)
    batch.check()


def test_the_database_restarts(production: Production) -> None:
    batch = Batch(production, "database")
    batch.wait_for_starts(JOBS // 4)
    production.database.restart()
    # Galaxy's web workers find out connection by connection that theirs has ended.
    for attempt in Retrying(
        retry=retry_if_exception_type(requests.HTTPError),
        wait=wait_fixed(1),
        stop=stop_after_delay(60),
        reraise=True,
    ):
        with attempt:
            batch.check()
