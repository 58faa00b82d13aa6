"""Handlers of one Galaxy compare what they are configured to do, by way of Galaxy's database."""

from __future__ import annotations

import base64
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from galaxy.exceptions import ConfigurationError
from galaxy.model import WorkerProcess
from sqlalchemy import Engine, create_engine, insert, select, update
from swarm_runner_galaxy import handlers
from swarm_runner_galaxy.handlers import HandlerProcess, HandlerRecord, HandlerRegistry

from unit.conftest import RunnerHarness

TABLE = handlers._TABLE
# Of processes that are alive, and are not this one.
PIDS = {"handler_0": os.getppid(), "handler_2": 1}
MINUTE_S = 60


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    created = create_engine(f"sqlite:///{tmp_path}/galaxy.sqlite")
    WorkerProcess.__table__.create(created)
    yield created
    created.dispose()


def record(
    server_name: str, hostname: str = "host-a", pid: int | None = None, **own: Any
) -> HandlerRecord:
    """Return the record of a handler, which is this process if it is handler_1."""
    values: dict[str, Any] = {
        "file": f"/etc/{server_name}/job_conf.yml",
        "pool_name": "galaxy",
        "addresses": ("pool.example.org:9618",),
        "name": "galaxy-main",
        "state_directory": "/data/.swarm-runner/galaxy-main",
        "state_inode": 7,
        "settings": {"lease_s": 300},
    }
    process = HandlerProcess(hostname=hostname, pid=pid or PIDS.get(server_name, os.getpid()))
    return HandlerRecord(server_name=server_name, process=process, **values | own)


def register(engine: Engine, own: HandlerRecord) -> HandlerRegistry:
    registry = HandlerRegistry(engine, "swarm", own)
    registry.register()
    return registry


def names(engine: Engine) -> set[str]:
    with engine.connect() as connection:
        return set(connection.scalars(select(TABLE.c.server_name)))


def age(engine: Engine, seconds: float, heartbeat: float | None = None) -> None:
    """Let the records, and the heartbeats of their processes, be so old."""
    now = handlers._now()
    with engine.begin() as connection:
        connection.execute(update(TABLE).values(update_time=now - timedelta(seconds=seconds)))
        if heartbeat is not None:
            for name, host in connection.execute(select(TABLE.c.server_name, TABLE.c.hostname)):
                beat = now - timedelta(seconds=heartbeat)
                values = {"server_name": name, "hostname": host, "update_time": beat}
                connection.execute(insert(WorkerProcess.__table__).values(values))


def test_handlers_that_agree(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        register(engine, record("handler_0"))
        register(engine, record("handler_1"))
        # The directory is mounted at another path, and the pool has another manager by now.
        moved: dict[str, Any] = {
            "state_directory": "/mnt/galaxy-main",
            "addresses": ("a:1", "pool.example.org:9618"),
        }
        register(engine, record("handler_2", "host-b", **moved))
    assert names(engine) == {"handler_0", "handler_1", "handler_2"}
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({"pool_name": "other"}, "pool.name is 'other' here, and 'galaxy' there"),
        (
            {"addresses": ("10.0.0.9:9618",)},
            "the pool's address is '10.0.0.9:9618' here, and 'pool.example.org:9618' there: name",
        ),
        ({"name": "x"}, "name is 'x' here, and 'galaxy-main' there: set one name in the section"),
        ({"state_inode": 8}, "these are two directories"),
        ({"state_inode": None, "state_directory": "a directory of host-a alone"}, "set state_dir"),
    ],
)
def test_a_contradiction_stops_the_boot(
    engine: Engine, caplog: pytest.LogCaptureFixture, own: dict[str, Any], expected: str
) -> None:
    register(engine, record("handler_0"))
    with pytest.raises(ConfigurationError) as caught:
        register(engine, record("handler_1", **own))
    message = str(caught.value)
    assert expected in message
    assert "handler_1 (/etc/handler_1/job_conf.yml, on host-a)" in message
    assert "handler_0 (/etc/handler_0/job_conf.yml, on host-a):" in message
    assert "stop all handlers before you start the first" in message
    assert message in caplog.text
    # It leaves nothing behind that could stop the others.
    assert names(engine) == {"handler_0"}
    register(engine, record("handler_0"))


def test_other_differences_are_logged(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    register(
        engine, record("handler_0", settings={"lease_s": 300, "pool.classes.big.memory_mb": 4096})
    )
    register(engine, record("handler_1", settings={"lease_s": 60}))
    assert (
        "The section of handler_0 (/etc/handler_0/job_conf.yml, on host-a) differs" in caplog.text
    )
    assert "lease_s is 60 here, and 300 there" in caplog.text
    assert "pool.classes.big.memory_mb is None here, and 4096 there" in caplog.text


def test_many_differences(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    count = handlers.MAX_LOGGED_SETTINGS + 5
    register(engine, record("handler_0", settings={f"key_{number}": 1 for number in range(count)}))
    register(engine, record("handler_1", settings={}))
    assert "5 more keys differ" in caplog.text


def test_a_handler_that_has_ended_on_this_host_is_ignored(engine: Engine) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    register(engine, record("handler_0", pid=ended.pid))
    register(engine, record("handler_1", pool_name="other"))


def test_an_earlier_process_of_the_same_number_has_ended(engine: Engine) -> None:
    register(engine, record("handler_0", pid=os.getpid()))
    register(engine, record("handler_1", pool_name="other"))


def test_a_process_of_another_host_or_container_cannot_be_seen() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    own = HandlerProcess()
    assert own.sees_the_end_of(HandlerProcess(pid=ended.pid))
    assert not own.sees_the_end_of(HandlerProcess(pid=os.getppid()))
    assert not own.sees_the_end_of(HandlerProcess(pid=ended.pid, hostname="elsewhere"))
    assert not own.sees_the_end_of(HandlerProcess(pid=ended.pid, pid_namespace=1))


def test_a_handler_on_another_host_is_alive_by_its_heartbeat(engine: Engine) -> None:
    register(engine, record("handler_0", "host-b"))
    age(engine, 60 * MINUTE_S, heartbeat=1 * MINUTE_S)
    with pytest.raises(ConfigurationError, match="on host-b"):
        register(engine, record("handler_1", pool_name="other"))


@pytest.mark.parametrize("heartbeat", [None, 3 * MINUTE_S])
def test_a_handler_on_another_host_that_is_gone(engine: Engine, heartbeat: float | None) -> None:
    register(engine, record("handler_0", "host-b"))
    age(engine, 60 * MINUTE_S, heartbeat)
    register(engine, record("handler_1", pool_name="other"))


def test_a_handler_that_was_stopped(engine: Engine) -> None:
    registry = register(engine, record("handler_0", "host-b"))
    registry.unregister()
    assert names(engine) == set()
    register(engine, record("handler_1", pool_name="other"))


def test_a_handler_that_was_replaced_leaves_its_successor_alone(engine: Engine) -> None:
    registry = register(engine, record("handler_0", "container-1"))
    register(engine, record("handler_0", "container-2"))
    registry.unregister()
    assert names(engine) == {"handler_0"}


def test_two_handlers_of_one_name(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """Only a warning: it may be a container that starts again, even with a new configuration."""
    register(engine, record("handler_0", "host-b"))
    register(engine, record("handler_0", "host-a", pool_name="other"))
    assert "handler_0 (/etc/handler_0/job_conf.yml, on host-b) has the name of this" in caplog.text
    assert "--server-name" in caplog.text


@pytest.mark.parametrize("address", ["127.0.0.1:9618", "::1:9618", "localhost:9618"])
def test_a_pool_at_the_loopback_address_of_two_hosts(
    engine: Engine, caplog: pytest.LogCaptureFixture, address: str
) -> None:
    register(engine, record("handler_0", addresses=(address,)))
    register(engine, record("handler_1", addresses=(address,)))
    assert caplog.text == ""
    register(engine, record("handler_2", "host-b", addresses=(address,)))
    assert f"the pool's address is {address}, which leads each of the two hosts to" in caplog.text


def test_a_runner_of_another_id_is_another_runner(engine: Engine) -> None:
    register(engine, record("handler_0"))
    HandlerRegistry(engine, "swarm_2", record("handler_1", pool_name="other")).register()


def test_a_record_of_another_version_is_ignored(engine: Engine) -> None:
    register(engine, record("handler_0"))
    with engine.begin() as connection:
        connection.execute(update(TABLE).values(record={"pool": "other"}))
    register(engine, record("handler_1"))


@pytest.mark.usefixtures("engine")
def test_a_database_that_cannot_be_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    read_only = create_engine(f"sqlite:///file:{tmp_path}/galaxy.sqlite?mode=ro&uri=true")
    register(read_only, record("handler_0")).unregister()
    assert "Cannot compare this handler's configuration with that of the others" in caplog.text
    read_only.dispose()


def test_a_handler_of_another_pool_does_not_boot(
    harness: RunnerHarness, caplog: pytest.LogCaptureFixture
) -> None:
    own = harness.runner._handlers._own
    assert own.file == "job configuration"
    process = own.process.model_copy(update={"pid": os.getppid()})
    other = own.model_copy(update={"server_name": "handler_1", "process": process})
    registry = HandlerRegistry(harness.app.model.engine, "swarm", other)
    registry.register()
    harness.start()
    assert "differs" not in caplog.text
    harness.settings = {"pool": {**harness.settings["pool"], "name": "other"}}
    try:
        with pytest.raises(ConfigurationError, match=r"pool\.name is 'other' here"):
            harness.start()
    finally:
        registry.unregister()


def test_the_record_says_who_the_token_is_and_not_the_token(harness: RunnerHarness) -> None:
    tokens = harness.volume / "tokens"
    tokens.mkdir()
    claims = base64.urlsafe_b64encode(json.dumps({"sub": "alice"}).encode()).decode()
    (tokens / "swarm-runner").write_text(f"head.{claims}.the-signature")
    harness.settings = {**harness.settings, "token_directory": str(tokens)}
    own = harness.start()._handlers._own
    assert own.settings["token's identity"] == "alice"
    assert "the-signature" not in own.model_dump_json()
    assert own.state_directory == str(harness.volume / ".swarm-runner" / own.name)
    assert own.state_inode == Path(own.state_directory).stat().st_ino


def test_a_runner_without_a_log(harness: RunnerHarness, tmp_path: Path) -> None:
    config, runner = harness.runner._config, harness.runner._runner
    assert runner.event_log is not None
    alone = handlers.build_record(config, "handler_0", None)
    assert alone.state_inode is None
    assert alone.state_directory == f"a directory of {alone.process.hostname} alone"
    section = config.section.model_copy(update={"state_directory": str(tmp_path)})
    (tmp_path / config.name).mkdir()
    config.section = section
    shared = handlers.build_record(config, "handler_0", None)
    assert shared.state_inode == (tmp_path / config.name).stat().st_ino


def test_a_job_that_passes_to_a_handler_on_another_host_runs_once(
    harness: RunnerHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hosts share the volume, and not the home directory; both handlers run since long."""
    first = harness.runner
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state of host-b"))
    monkeypatch.setattr(harness.app.config, "server_name", "handler_1")
    second = harness.start()
    assert second is not first
    harness.poll()
    harness.runner = first
    job = harness.job()
    harness.queue_jobs(job)
    assert len(harness.access_point.queue) == 1
    # The administrator names the other handler before the first has written the job's ID.
    harness.runner = second
    harness.poll()
    harness.queue_jobs(job)
    assert len(harness.access_point.queue) == 1
    assert job.prepared == 1
    harness.end_job(job)
    harness.poll()
    assert [state.job_wrapper for state in harness.finished] == [job]
    first._runner.close()
