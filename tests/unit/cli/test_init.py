"""`swarm-runner init` writes a valid file with comments, and never overwrites one."""

from __future__ import annotations

import io
import os
import resource
import socket
import sys
from pathlib import Path

import pytest

from swarm_runner.cli import init
from swarm_runner.config.job_conf import parse_job_conf
from swarm_runner.model.pool import Pool
from tests.unit.cli.conftest import Cli

FILE = Path("job_conf.yml")  # the tests run in a directory of their own


def written(file: Path = FILE) -> Pool:
    configuration = parse_job_conf(file.read_text(), str(file))
    assert configuration.warnings == ()
    return configuration.destination().pool


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))


def give(monkeypatch: pytest.MonkeyPatch, *answers: str) -> None:
    text = "".join(f"{line}\n" for line in answers).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))


def test_four_questions(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, "genomes", "swarm-1.example.org", "/srv/data", "64")
    result = cli("init")
    assert result.code == 0, result.err
    pool = written()
    assert (pool.name, pool.host) == ("genomes", "swarm-1.example.org")
    assert [volume.path for volume in pool.volumes] == ["/srv/data"]
    assert {name: size.memory_mb for name, size in pool.classes.items()} == {
        "normal": 16_384,
        "big": 65_536,
    }
    assert sum(line.strip().startswith("#") for line in FILE.read_text().splitlines()) >= 6


def test_the_defaults_without_questions(cli: Cli) -> None:
    assert cli("init", "--yes").code == 0
    pool = written()
    assert (pool.name, pool.host, pool.volumes) == ("galaxy", "127.0.0.1", ())


def test_options_answer_the_questions(cli: Cli) -> None:
    options = ("--name", "p", "--host", "10.0.0.7", "--volume", "/data", "--memory-gb", "1")
    assert cli("init", "other.yml", *options).code == 0
    pool = written(Path("other.yml"))
    assert (pool.name, pool.host, pool.classes["big"].memory_mb) == ("p", "10.0.0.7", 1024)


def test_a_wrong_answer_is_asked_for_again(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, "No Name", "galaxy", "", "/etc", "/data", "0", "4")
    result = cli("init")
    assert result.code == 0
    assert "'No Name' is not a valid name" in result.err
    assert "is below a system directory" in result.err or "system directory" in result.err
    assert "must be 1 to 65536, not 0" in result.err
    assert [volume.path for volume in written().volumes] == ["/data"]


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--name", "No Name", "name: 'No Name' is not a valid name"),
        ("--host", "a b", "host: "),
        ("--volume", "data", "volume: "),
        ("--memory-gb", "0", "memory_gb: must be 1 to 65536, not 0"),
    ],
)
def test_a_wrong_option_is_an_error(cli: Cli, option: str, value: str, message: str) -> None:
    result = cli("init", "--yes", option, value)
    assert result.code == 2
    assert message in result.err
    assert not FILE.exists()


@pytest.mark.parametrize(
    "value", ['x", runners: {', "a\nb: c", "# comment", "{}", "*anchor", "/data: x", "'"]
)
@pytest.mark.parametrize("option", ["--name", "--host", "--volume"])
def test_no_answer_is_read_as_yaml(cli: Cli, option: str, value: str) -> None:
    assert cli("init", "--yes", option, value).code == 2
    assert not FILE.exists()


def test_no_answers(cli: Cli, answer: None) -> None:
    del answer  # an empty standard input
    result = cli("init")
    assert result.code == 2
    assert "no answer: use --yes" in result.err
    assert not FILE.exists()


@pytest.mark.parametrize("kind", ["file", "directory", "dangling link"])
def test_what_is_there_is_not_overwritten(cli: Cli, kind: str) -> None:
    if kind == "file":
        FILE.write_text("mine")
    elif kind == "directory":
        FILE.mkdir()
    else:
        FILE.symlink_to("nowhere")
    result = cli("init", "--yes")
    assert result.code == 2
    assert "job_conf.yml: exists already" in result.err
    assert (FILE.read_text() if kind == "file" else "mine") == "mine"
    assert not Path("nowhere").exists()


def test_a_directory_that_does_not_exist(cli: Cli) -> None:
    result = cli("init", "--yes", "missing/job_conf.yml")
    assert result.code == 2
    assert f"cannot be written in {os.getcwd()}/missing" in result.err  # noqa: PTH109


def test_a_full_disk_leaves_no_part_of_the_file(cli: Cli) -> None:
    """A limit of the file's size ends the write as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        result = cli("init", "--yes")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert result.code == 2
    assert "job_conf.yml: cannot be written: File too large" in result.err
    assert not FILE.exists()


def test_a_file_that_appears_while_questions_are_asked_is_kept(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(_file: Path) -> None:
        FILE.write_text("somebody else's")

    monkeypatch.setattr(init, "_check_target", check)
    result = cli("init", "--yes")
    assert result.code == 2
    assert "cannot be written: File exists" in result.err
    assert FILE.read_text() == "somebody else's"


def test_neither_docker_nor_a_network_is_needed(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("init must not ask anybody")

    monkeypatch.setattr(socket.socket, "connect", fail)
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    assert cli("init", "--yes").code == 0
