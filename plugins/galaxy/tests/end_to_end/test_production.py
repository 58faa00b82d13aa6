"""Two job handlers on PostgreSQL: one is killed, both are killed, the database restarts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests
from tenacity import (
    Retrying,
    retry_if_exception_type,
    stop_after_delay,
    wait_fixed,
)

from end_to_end.production import HANDLERS, JOBS, NAME, Batch, Production


@pytest.fixture(scope="module")
def production() -> Iterator[Production]:
    with Production.running() as running:
        yield running


def test_a_handler_of_another_pool_does_not_boot(production: Production) -> None:
    name, section = "handler_3", production.job_conf["runners"]["swarm"]
    other = {
        **production.job_conf,
        "handling": {"assign": ["db-skip-locked"], "processes": {name: {}}},
        "runners": {
            **production.job_conf["runners"],
            "swarm": {**section, "pool": {**section["pool"], "name": "other"}},
        },
    }
    production.galaxy.write_job_conf("other.yml", other)
    production.galaxy.start_handler(name, "other.yml")
    assert production.galaxy.wait_for_the_end_of_handler(name) != 0
    log = production.galaxy.log.read_text(errors="replace")
    directory = production.galaxy.directory
    assert f"runners.swarm of this handler, {name} ({directory}/other.yml, on " in log
    for handler in HANDLERS:
        assert f"{handler} ({directory}/job_conf.yml, on " in log
    assert f"pool.name is 'other' here, and '{NAME}' there" in log


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
