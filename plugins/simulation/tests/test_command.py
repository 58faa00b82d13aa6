from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarm_runner.cli import main

TRACE = "time_s,memory_mb,duration_s,count\n0,512,30,10\n100,1500,30,2\n200,9000,30,1\n"


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    """Undo what the command configures for the process."""
    logger = logging.getLogger("swarm_runner")
    handlers, level, propagate = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.propagate = handlers, propagate
    logger.setLevel(level)


@pytest.fixture(autouse=True)
def trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use a directory with a trace and without a configuration."""
    monkeypatch.chdir(tmp_path)
    for name in ("SWARM_RUNNER_JOB_CONF", "COLUMNS", "FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    # Nor with the configuration of the user's last `pool up`.
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    file = tmp_path / "day.csv"
    file.write_text(TRACE)
    return file


def simulate(*arguments: str) -> int:
    return main(["pool", "simulate", *arguments])


def test_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate("day.csv", "--min", "0") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["controller", "wait", "mean"]
    names = ("swarm_runner", "oracle", "ceil(idle/slots)", "COBalD", "fixed,", "fixed,")
    assert all(line.startswith(name) for line, name in zip(lines[1:], names, strict=False))
    assert lines[-1] == "13 jobs, an executor starts in 10 s; 1 job fit no class and did not run"


def test_json_and_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "day.svg"
    assert simulate("day.csv", "--alone", "--json", "--min", "0", "--picture", str(file)) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["jobs"], report["refused"]) == (13, 1)
    (policy,) = report["controllers"]
    assert policy["classes"]["normal"]["jobs"] == 10
    assert policy["classes"]["big"]["jobs"] == 2
    assert policy["total"]["evictions"] == 0
    assert policy["total"]["waits"]["mean_s"] == 10
    assert file.read_text().startswith("<?xml")


@pytest.mark.parametrize(("arguments", "evicts"), [(("--retirement", "5"), True), ((), False)])
def test_a_short_retirement_limit_evicts(
    arguments: tuple[str, ...], evicts: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    day = ("steady", "--jobs", "300", "--interval", "60", "--min", "0")
    assert simulate(*day, "--alone", "--json", *arguments) == 0
    (policy,) = json.loads(capsys.readouterr().out)["controllers"]
    assert (policy["total"]["evictions"] > 0) is evicts
    assert policy["total"]["unfinished"] == 0


def test_a_named_trace(capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate("bursts", "--jobs", "100", "--interval", "60", "--alone", "--max", "2") == 0
    assert "swarm_runner" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("burst",), "burst: is neither a file nor a named trace; did you mean bursts?"),
        (
            ("day.tsv",),
            "day.tsv: is neither a file nor a named trace. The named traces are steady, daily,",
        ),
        (("day.csv", "--load", "0.5"), "--load and --jobs are for the named traces"),
        (("day.csv", "--min", "9", "--max", "3"), "the minimum 9 exceeds the maximum 3"),
        (("day.csv", "--picture", "day.gif"), "must end in .svg or .png"),
        (("day.csv", "--interval", "0"), "--interval"),
    ],
)
def test_wrong_arguments(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert simulate(*arguments) == 2
    assert message in capsys.readouterr().err


def test_jobs_that_all_arrive_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "moment.csv").write_text("time_s,memory_mb,duration_s,count\n0,512,30,10\n")
    assert simulate("moment.csv", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert {controller["total"]["jobs"] for controller in report["controllers"]} == {10}
