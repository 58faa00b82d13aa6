"""The log options: where a level comes from, and the format."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import pytest

from swarm_runner.cli import config_files
from swarm_runner.structured_log import get_logger
from swarm_runner.testing.swarm import FakeSwarm
from tests.unit.cli.conftest import Cli

log = get_logger("swarm_runner.test")


@pytest.fixture(autouse=True)
def logging_command(monkeypatch: pytest.MonkeyPatch, job_conf: Path) -> None:
    """Let `validate` log a record of each level."""
    assert job_conf.exists()

    def load_job_conf(_file: object, **_: object) -> None:
        for level in ("debug", "info", "warning", "error"):
            getattr(log, level)("Job started", job_id="17.0", level_name=level)
        sys.exit(0)

    monkeypatch.setattr(config_files, "load_job_conf", load_job_conf)


def levels(err: str) -> list[str]:
    return [line.rpartition("=")[2] for line in err.splitlines()]


def test_warnings_are_logged_by_default(cli: Cli) -> None:
    done = cli("validate")
    assert (done.code, done.out) == (0, "")
    assert levels(done.err) == ["warning", "error"]
    assert "WARNING swarm_runner.test: Job started job_id=17.0" in done.err


@pytest.mark.parametrize("level", ["INFO", "info"])
def test_the_level_is_an_option(cli: Cli, level: str) -> None:
    assert levels(cli("--log-level", level, "validate").err) == ["info", "warning", "error"]


def test_the_environment_sets_the_level_and_the_option_overrides_it(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWARM_RUNNER_LOG_LEVEL", "DEBUG")
    assert levels(cli("validate").err) == ["debug", "info", "warning", "error"]
    assert levels(cli("--log-level", "ERROR", "validate").err) == ["error"]


@pytest.mark.parametrize("by", ["option", "environment"])
def test_json_is_one_object_a_line(cli: Cli, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    if by == "environment":
        monkeypatch.setenv("SWARM_RUNNER_LOG_JSON", "1")
    done = cli(*(["--log-json"] if by == "option" else []), "validate")
    records = [json.loads(line) for line in done.err.splitlines()]
    assert [record["level"] for record in records] == ["warning", "error"]
    assert (records[0]["event"], records[0]["job_id"]) == ("Job started", "17.0")


@pytest.mark.parametrize("variable", [False, True])
def test_an_unknown_level_is_bad_input(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, variable: bool
) -> None:
    if variable:
        monkeypatch.setenv("SWARM_RUNNER_LOG_LEVEL", "LOUD")
    done = cli(*([] if variable else ["--log-level", "LOUD"]), "validate")
    assert done.code == 2
    assert "LOUD" in done.err


@pytest.mark.parametrize(
    ("options", "level"), [([], logging.INFO), (["--log-level", "error"], logging.ERROR)]
)
def test_the_autoscaler_logs_at_info_by_default(
    cli: Cli, swarm: FakeSwarm, options: list[str], level: int
) -> None:
    assert swarm.reachable
    assert cli(*options, "pool", "autoscale").code == 0
    assert logging.getLogger("swarm_runner").level == level
