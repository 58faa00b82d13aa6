from __future__ import annotations

import json
from pathlib import Path

import pytest

from swarm_runner.cli import main

TRACE = "time_s,memory_mb,duration_s,count\n0,512,30,10\n100,1500,30,2\n200,9000,30,1\n"


@pytest.fixture(autouse=True)
def trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a trace, and no configuration."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SWARM_RUNNER_JOB_CONF", raising=False)
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
    (ours,) = report["controllers"]
    assert ours["classes"]["normal"]["jobs"] == 10
    assert ours["classes"]["big"]["jobs"] == 2
    assert ours["total"]["evictions"] == 0
    assert ours["total"]["waits"]["mean_s"] == 10
    assert file.read_text().startswith("<?xml")


@pytest.mark.parametrize(("words", "some"), [(("--retirement", "5"), True), ((), False)])
def test_a_short_retirement_limit_evicts(
    words: tuple[str, ...], some: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    day = ("steady", "--jobs", "300", "--interval", "60", "--min", "0")
    assert simulate(*day, "--alone", "--json", *words) == 0
    (ours,) = json.loads(capsys.readouterr().out)["controllers"]
    assert (ours["total"]["evictions"] > 0) is some
    assert ours["total"]["unfinished"] == 0


def test_a_named_trace(capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate("bursts", "--jobs", "100", "--interval", "60", "--alone", "--max", "2") == 0
    assert "swarm_runner" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("burst",), "burst is no file, and no named trace; did you mean bursts?"),
        (("day.tsv",), "day.tsv is no file, and no named trace. They are steady, daily,"),
        (("day.csv", "--load", "0.5"), "--load and --jobs are for the named traces"),
        (("day.csv", "--min", "9", "--max", "3"), "at least 9 and at most 3"),
        (("day.csv", "--picture", "day.gif"), "ends in .svg or .png"),
        (("day.csv", "--interval", "0"), "--interval"),
    ],
)
def test_wrong_words(words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate(*words) == 2
    assert said in capsys.readouterr().err
