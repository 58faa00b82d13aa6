from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from swarm_runner.config.schemas import schemas
from tests.unit.cli.conftest import Cli

HOSTS = """\
key: hosts
image: debian:trixie
command: [/bin/cat, /etc/hosts]
resources: {memory: 100M}
stdout: out.$(Process)
repeat: 10
"""


@pytest.fixture
def hosts(tmp_path: Path) -> str:
    (tmp_path / "hosts.yml").write_text(HOSTS)
    return "hosts.yml"


def test_validate_shows_what_a_configuration_makes(cli: Cli, job_conf: Path) -> None:
    done = cli("validate", str(job_conf))
    assert done.code == 0
    assert "is valid" in done.err
    header, first, second, *_ = done.out.splitlines()
    assert header.split() == ["destination", "pool", "address", "class", "size", "executors"]
    assert first.startswith("swarm (default)  galaxy  127.0.0.1:9618  normal")
    assert second.split()[0] == "big"


@pytest.mark.usefixtures("job_conf")
def test_validate_takes_the_configuration_of_the_environment(cli: Cli) -> None:
    assert cli("validate", "--json").data["destinations"]["swarm"]["pool"]["name"] == "galaxy"
    only = cli("validate", "--json", "--destination", "roomy").data["destinations"]
    assert list(only) == ["roomy"]


def test_validate_reports_every_problem_on_its_own_line(cli: Cli, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(
        "runners:\n  swarm:\n    pool:\n      nam: x\n      port: no\n"
        "execution:\n  environments:\n    swarm: {runner: swrm}\n"
    )
    done = cli("validate", "wrong.yml")
    assert (done.code, done.out) == (2, "")
    lines = sorted(done.err.splitlines())
    assert len(lines) == 3
    assert lines[0].startswith("error: wrong.yml:4:7: runners.swarm.pool.nam: ")
    assert "did you mean name?" in lines[0]
    assert lines[1].startswith("error: wrong.yml:5:7: runners.swarm.pool.port: ")
    assert "did you mean swarm?" in lines[2]


@pytest.mark.parametrize("command", ["validate", "translate"])
def test_files_that_cannot_be_read_are_bad_input(cli: Cli, tmp_path: Path, command: str) -> None:
    (tmp_path / "latin.yml").write_bytes(b"key: caf\xe9\n")
    for name, message in [
        ("absent.yml", "No such file"),
        (str(tmp_path), "Is a directory"),
        ("latin.yml", "UTF-8"),
    ]:
        done = cli(command, name)
        assert done.code == 2
        assert done.out == ""
        assert done.err.startswith(f"error: {name}: ")
        assert message in done.err


def test_validate_needs_a_file(cli: Cli) -> None:
    assert cli("validate").code == 2


def test_translate_prints_the_submit_description(cli: Cli, hosts: str) -> None:
    done = cli("translate", hosts)
    assert done.code == 0
    assert done.err == ""
    lines = done.out.splitlines()
    assert lines[0] == "universe = docker"
    assert "output = out.$(Process)" in lines
    assert lines[-1] == "queue 10"


def test_translate_reads_standard_input(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(HOSTS.encode())))
    assert cli("translate", "-").out.endswith("queue 10\n")


@pytest.mark.usefixtures("job_conf")
def test_translate_as_json_contains_the_route(cli: Cli, hosts: str) -> None:
    translated = cli("translate", hosts, "--json").data[0]
    assert translated["key"] == "hosts"
    assert translated["route"]["capacity_class"] == "normal"
    assert translated["commands"]["docker_image"] == "debian:trixie"
    assert (translated["count"], translated["text"].splitlines()[-1]) == (10, "queue 10")


@pytest.mark.usefixtures("job_conf")
def test_translate_gives_a_destination_s_defaults(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "bare.yml").write_text("command: ['true']")
    assert cli("translate", "bare.yml").code == 2
    translated = cli("translate", "bare.yml", "--json", "--destination", "roomy").data[0]
    assert translated["route"]["capacity_class"] == "big"
    assert translated["commands"]["docker_image"] == "debian:trixie"


def test_translate_reports_the_problems_of_every_file_and_prints_nothing(
    cli: Cli, tmp_path: Path, hosts: str
) -> None:
    (tmp_path / "wrong.yml").write_text(
        "- image: a b\n  command: []\n- key: hosts\n  comand: [x]\n"
    )
    done = cli("translate", hosts, "wrong.yml")
    assert (done.code, done.out) == (2, "")
    assert all(line.startswith("error: wrong.yml:") for line in done.err.splitlines())
    assert "did you mean command?" in done.err
    assert len(done.err.splitlines()) >= 3


def test_a_key_in_two_files_is_a_problem(cli: Cli, tmp_path: Path, hosts: str) -> None:
    (tmp_path / "again.yml").write_text(HOSTS)
    done = cli("translate", hosts, "again.yml")
    assert done.code == 2
    assert "again.yml: the key 'hosts' is also in hosts.yml" in done.err


def test_what_fits_no_class_is_refused_with_the_sizes(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "large.yml").write_text(
        "- {key: a, image: debian, command: [x], resources: {memory: 64 GB}}\n"
        "- {key: b, image: debian, command: [x], resources: {cpus: 9}}\n"
    )
    done = cli("translate", "large.yml")
    assert done.code == 2
    first, second = done.err.splitlines()
    assert first.startswith("error: a: ")
    assert second.startswith("error: b: ")
    assert "normal: 1 cpu, 1024 MB memory" in first


@pytest.mark.usefixtures("job_conf")
def test_an_unknown_destination_is_bad_input(cli: Cli, hosts: str) -> None:
    done = cli("translate", hosts, "--destination", "rommy")
    assert done.code == 2
    assert "roomy" in done.err
    assert cli("translate", hosts, "--job-conf", "absent.yml").code == 2


def test_schema_lists_prints_and_writes(cli: Cli, tmp_path: Path) -> None:
    assert [line.split()[0] for line in cli("schema").out.splitlines()[1:]] == [
        file.removesuffix(".schema.json") for file in schemas()
    ]
    assert cli("schema", "--json").data == schemas()
    assert cli("schema", "job").data == schemas()["job.schema.json"]
    assert cli("schema", "--write", "made/here").code == 0
    for file, content in schemas().items():
        written = (tmp_path / "made" / "here" / file).read_text()
        assert json.loads(written) == content
        assert written.endswith("}\n")


def test_an_unknown_schema_is_bad_input(cli: Cli, tmp_path: Path) -> None:
    done = cli("schema", "jbo")
    assert done.code == 2
    assert "did you mean job?" in done.err
    (tmp_path / "file").write_text("")
    assert cli("schema", "--write", "file").code == 2
