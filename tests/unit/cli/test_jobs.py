from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from swarm_runner.cli import job_progress
from swarm_runner.cli.options import default_runner_name
from swarm_runner.errors import UnreachableError
from swarm_runner.model.job import Job, JobChange, JobId
from swarm_runner.runner import Runner
from tests.unit.cli.conftest import Cli, SelfRunningAccessPoint

pytestmark = pytest.mark.usefixtures("job_conf")

BATCH = """\
- {key: good, tool_id: cat, image: debian, command: [cat], repeat: 2}
- {key: bad, image: debian, shell: "exit 3", resources: {memory: 1500M}}
"""
PLAIN = "{key: plain, image: debian, command: [cat], outputs: [made]}"


@pytest.fixture
def batch(tmp_path: Path, access_point: SelfRunningAccessPoint) -> str:
    (tmp_path / "batch.yml").write_text(BATCH)
    (tmp_path / "plain.yml").write_text(PLAIN)
    access_point.outcomes["bad"] = partial(access_point.finish, exit_code=3)
    return "batch.yml"


def test_submit_shows_the_jobs_of_each_invocation(
    cli: Cli, batch: str, access_point: SelfRunningAccessPoint
) -> None:
    done = cli("submit", batch)
    assert done.code == 0
    bad, header, good = sorted(done.out.splitlines(), key=lambda line: len(line.split()))
    assert header.split() == ["job", "key", "tool", "state"]
    assert bad.split()[1:] == ["bad", "idle"]
    assert good.split()[1:] == ["to", "1.1", "good", "cat", "2", "idle"]
    assert "3 jobs in pool galaxy" in done.err
    assert len(access_point.queue) == 3
    assert {ad["SwarmRunnerName"] for ad in access_point.queue.values()} == {default_runner_name()}


def test_submit_and_wait_ends_with_code_1_when_a_job_failed(cli: Cli, batch: str) -> None:
    done = cli("submit", batch, "plain.yml", "--wait")
    assert done.code == 1
    rows = [line.split()[:-1] for line in done.out.splitlines()]
    assert ["1.0", "good", "cat", "exit", "code", "0", "normal", "node-1", "task-1"] in rows
    assert any("bad" in row and "big" in row for row in rows)
    assert done.out.endswith("(bad):\n  The command ended with exit code 3.\n")
    assert done.err.splitlines()[-1].endswith("3 succeeded, 1 failed")
    assert Path("made").read_bytes() == b"made"


def test_submit_and_wait_ends_with_code_0_when_all_did(cli: Cli, batch: str) -> None:
    done = cli("submit", "plain.yml", "--wait", "--json")
    assert done.code == 0
    jobs = TypeAdapter(list[Job]).validate_json(done.out)
    assert [(job.key, job.outcome is not None and job.outcome.ok) for job in jobs] == [
        ("plain", True)
    ]
    assert cli("submit", batch).code == 0


def test_a_key_is_not_run_twice(cli: Cli, batch: str, access_point: SelfRunningAccessPoint) -> None:
    first = cli("submit", batch, "--json")
    again = cli("submit", batch, "--json")
    assert [job["id"] for job in again.data] == [job["id"] for job in first.data]
    assert len(access_point.queue) + len(access_point.history_ads) == 3
    assert [job["id"] for job in cli("submit", batch, "--json", "--runner", "other").data] != [
        job["id"] for job in first.data
    ]


def test_nothing_is_submitted_if_one_is_invalid(
    cli: Cli, batch: str, access_point: SelfRunningAccessPoint
) -> None:
    Path("wrong.yml").write_text("{key: wrong, image: debian, command: [x], inputs: [absent]}")
    done = cli("submit", batch, "wrong.yml")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: wrong: inputs: ")
    assert access_point.calls["submit"] == 0
    assert cli("submit", batch, "--runner", "a b").code == 2
    assert cli("submit").code == 2


def test_jobs_lists_and_changes_nothing(
    cli: Cli, batch: str, access_point: SelfRunningAccessPoint
) -> None:
    access_point.paused = True
    cli("submit", batch, "plain.yml")
    access_point.advance()
    before = dict(access_point.calls)
    done = cli("jobs")
    assert done.code == 0
    assert done.out.splitlines()[1].split()[1:-1] == [
        *("good", "cat", "running", "normal", "node-1", "task-1"),
    ]
    assert f"runner {default_runner_name()} in pool galaxy: 4 running" in done.err
    assert set(access_point.calls) - set(before) == set()
    assert access_point.calls["jobs"] == before["jobs"] + 1
    assert cli("jobs", "--runner", "other", "--json").data == []
    assert "runner other in pool galaxy: no jobs" in cli("jobs", "--runner", "other").err


def test_outputs_on_the_access_point_are_reported_and_retrieved(
    cli: Cli, batch: str, access_point: SelfRunningAccessPoint
) -> None:
    cli("submit", "plain.yml")
    access_point.advance()
    access_point.advance()
    listed = cli("jobs")
    assert "exit code 0" in listed.out
    assert "The outputs of 1 job are still on the access point" in listed.err
    assert not Path("made").exists()
    done = cli("jobs", "--wait")
    assert done.code == 0
    assert Path("made").exists()
    assert "on the access point" not in cli("jobs").err
    assert cli("submit", batch).code == 0
    assert cli("jobs", "--wait").code == 1


def test_jobs_shows_the_latest_that_ended(cli: Cli, access_point: SelfRunningAccessPoint) -> None:
    Path("many.yml").write_text("{key: many, image: debian, command: [x], repeat: 30}")
    assert cli("submit", "many.yml", "--wait").code == 0
    assert len(cli("jobs", "--json").data) == 20
    assert [job["id"] for job in cli("jobs", "--json", "--ended", "2").data] == [[1, 28], [1, 29]]
    assert cli("jobs", "--json", "--ended", "0").data == []
    assert access_point.queue == {}


def test_remove_by_number_by_key_and_all(
    cli: Cli, batch: str, access_point: SelfRunningAccessPoint
) -> None:
    access_point.paused = True
    cli("submit", batch)
    unknown = cli("remove", "1.0", "9.9", "nonsense")
    assert unknown.code == 2
    assert [line.split(":")[1] for line in unknown.err.splitlines()] == [" 9.9", " nonsense"]
    assert len(access_point.queue) == 3
    assert cli("remove", "1.0", "--json").data == {"removed": 1, "jobs": [[1, 0]]}
    assert "1 job removed; 1 had already ended" in cli("remove", "good").err
    assert "1 job removed\n" in cli("remove", "--all").err
    assert access_point.queue == {}
    assert "0 jobs removed" in cli("remove", "--all").err
    outcome = cli("jobs", "--json").data[0]["outcome"]
    assert outcome["kind"] == "removed"
    assert outcome["message"] == "The job was removed: somebody ran `swarm-runner remove`"


def test_a_key_that_looks_like_a_number(cli: Cli, access_point: SelfRunningAccessPoint) -> None:
    access_point.paused = True
    Path("number.yml").write_text("{key: '7.0', image: debian, command: [x]}")
    cli("submit", "number.yml")
    assert cli("remove", "7.0").code == 0
    assert access_point.queue == {}


@pytest.mark.parametrize("arguments", [[], ["--all", "1.0"]])
def test_remove_wants_names_or_all(
    cli: Cli, access_point: SelfRunningAccessPoint, arguments: list[str]
) -> None:
    assert cli("remove", *arguments).code == 2
    assert access_point.calls["remove"] == 0


def test_explain_gives_the_reason(
    cli: Cli, batch: str, access_point: SelfRunningAccessPoint
) -> None:
    access_point.paused = True
    cli("submit", batch)
    done = cli("explain", "1.0")
    assert done.code == 0
    head, summary, *details = done.out.splitlines()
    assert head == "1.0 (good), idle"
    assert "an executor of class normal is free" in summary
    assert details
    none = cli("explain", "bad", "--json").data
    assert "of which none can accept jobs" in none[0]["summary"]
    assert len(cli("explain", "good", "--json").data) == 2
    access_point.advance()
    access_point.advance()
    assert "exit code 3" in cli("explain", "bad").out
    assert cli("explain", "nonsense").code == 2
    assert cli("explain").code == 2


def test_an_unreachable_access_point_has_its_code(
    cli: Cli, batch: str, access_point: SelfRunningAccessPoint
) -> None:
    access_point.reachable = False
    for arguments in (["submit", batch], ["jobs"], ["jobs", "--wait"], ["remove", "--all"]):
        done = cli(*arguments)
        assert (done.code, done.out) == (3, "")
        assert "does not answer" in done.err


def test_an_interrupt_leaves_the_jobs_and_says_how_to_go_on(
    cli: Cli, batch: str, access_point: SelfRunningAccessPoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_self: job_progress.JobProgressView, _change: JobChange) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(job_progress.JobProgressView, "apply", interrupted)
    done = cli("submit", batch, "--wait", "--runner", "mine")
    assert (done.code, done.out) == (130, "")
    assert "Not ended yet: 3 jobs" in done.err
    assert "`swarm-runner jobs --runner mine --wait`" in done.err
    assert "`swarm-runner remove --runner mine good bad`" in done.err
    assert JobId(1, 0) in access_point.queue


def test_an_access_point_lost_while_waiting_leaves_a_message_about_the_jobs(
    cli: Cli, batch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(_self: Runner) -> None:
        raise UnreachableError("the access point is gone")

    monkeypatch.setattr(Runner, "watch", lost)
    done = cli("submit", batch, "--wait")
    assert (done.code, done.out) == (3, "")
    first, second = done.err.splitlines()
    assert "`swarm-runner remove good bad` removes them" in first
    assert second == "error: the access point is gone"
