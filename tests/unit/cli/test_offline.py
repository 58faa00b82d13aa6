from __future__ import annotations

from pathlib import Path

import pytest

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
    assert len(lines) == 2
    assert lines[0].startswith("error: wrong.yml:4:7: runners.swarm.pool.nam: ")
    assert "did you mean name?" in lines[0]
    assert lines[1].startswith("error: wrong.yml:5:7: runners.swarm.pool.port: ")


FOREIGN = """\
runners: {swarm: {pool: {}}}
execution:
  environments:
    swarm: {runner: swarm, submit_request_gpus: 1, request_memroy: 1G}
    other: {runner: swram}
"""


def test_foreign_keys_and_slips_are_reported_and_are_errors_only_if_strict(
    cli: Cli, tmp_path: Path
) -> None:
    (tmp_path / "job_conf.yml").write_text(FOREIGN)
    done = cli("validate", "job_conf.yml")
    assert done.code == 0
    slip = "job_conf.yml:4:52: execution.environments.swarm.request_memroy: is ignored"
    runner = "job_conf.yml:5:13: execution.environments.other.runner: 'swram' is not a runner"
    assert f"warning: {slip}; did you mean request_memory?" in done.err
    assert f"warning: {runner} of this file; did you mean swarm?" in done.err
    assert "ignores keys of other programs: submit_request_gpus" in done.err
    strict = cli("validate", "job_conf.yml", "--strict")
    assert strict.code == 2
    assert len(strict.err.splitlines()) == 3
    assert all(line.startswith("error: job_conf.yml:") for line in strict.err.splitlines())


def test_control_characters_and_markup_are_shown_as_text(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text('runners: {swarm: {pool: {"\\e[31m[/b]\\x9b": 1}}}\n')
    done = cli("validate", "a.yml")
    assert done.code == 2
    assert "pool.\\x1b[31m[/b]\\x9b: is not a valid key" in done.err
    assert "\x1b" not in done.out + done.err
    (tmp_path / "b.yml").write_text('runners: {"[/b]": {pool: {}}}\n')
    assert cli("validate", "b.yml").out.splitlines()[1].startswith("[/b] (default)")
    (tmp_path / "c.yml").write_text('runners: {"[/b]\\e[2J": {pool: {}}}\n')
    done = cli("validate", "c.yml")
    assert done.code == 2
    assert "[/b]\\x1b[2J: has a control character in its name" in done.err
