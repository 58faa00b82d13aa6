"""The installed command, as a user runs it, on a real pool."""

from __future__ import annotations

import os
import signal
import uuid
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.shell import CommandShell, read_until
from tests.polling import TIMEOUT_S, poll_until
from tests.result import Result

pytestmark = pytest.mark.shared_pool
IMAGE = "debian:trixie"
SMALL = {"memory": "100M"}


@pytest.fixture
def shell(tmp_path: Path, request: pytest.FixtureRequest) -> CommandShell:
    """On the pool that SWARM_RUNNER_TEST_JOB_CONF names, or on the lab's."""
    named = os.environ.get("SWARM_RUNNER_TEST_JOB_CONF")
    job_conf = Path(named) if named else request.getfixturevalue("lab").job_conf
    return CommandShell(tmp_path, job_conf, f"cli-{uuid.uuid4().hex[:12]}")


def test_submit_and_wait_retrieves_the_outputs_and_reports_each_outcome(
    shell: CommandShell,
) -> None:
    shell.write(
        "hosts.yml",
        {
            "key": "hosts",
            "tool_id": "cat",
            "image": IMAGE,
            "command": ["/bin/cat", "/etc/hosts"],
            "resources": SMALL,
            "stdout": "out.$(Process)",
            "repeat": 3,
        },
    )
    done = shell.run_for_runner("submit", "hosts.yml", "--wait")
    assert done.code == 0, done.err
    header, *rows = done.out.splitlines()
    assert header.split() == ["job", "key", "tool", "state", "class", "node", "executor", "time"]
    assert len(rows) == 3
    assert all(" hosts " in row and " exit code 0 " in row and " normal " in row for row in rows)
    for number in range(3):
        assert "localhost" in (shell.directory / f"out.{number}").read_text()
    assert "3 succeeded" in done.err

    again = shell.run_for_runner("submit", "hosts.yml", "--wait", "--json")
    assert again.code == 0
    assert [row.split()[0] for row in rows] == ["{}.{}".format(*job["id"]) for job in again.data]


def test_a_failed_job_has_code_1_and_its_reason(shell: CommandShell) -> None:
    shell.write(
        "mixed.yml",
        [
            {"key": "good", "image": IMAGE, "shell": "exit 0", "resources": SMALL},
            {"key": "bad", "image": IMAGE, "shell": "exit 3", "resources": SMALL},
        ],
    )
    done = shell.run_for_runner("submit", "mixed.yml", "--wait", "--json")
    assert done.code == 1
    assert {job["key"]: job["outcome"]["exit_code"] for job in done.data} == {"good": 0, "bad": 3}
    # These commands ask the schedd, which may learn of the end after the event log.
    expected = "(bad):\n  The command ended with exit code 3.\n"
    poll_until(lambda: shell.run_for_runner("jobs").out, lambda table: expected in table)
    bad = next(job for job in done.data if job["key"] == "bad")
    [explained] = poll_until(
        lambda: shell.run_for_runner("explain", "bad", "--json").data,
        lambda found: found[0]["summary"] == "The command ended with exit code 3.",
    )
    assert explained["job"]["id"] == bad["id"]


def test_idle_jobs_are_listed_explained_resumed_and_removed(shell: CommandShell) -> None:
    # More jobs than class big has executors: some stay idle.
    shell.write(
        "sleep.yml",
        [
            {"key": "sleep", "image": IMAGE, "command": ["/bin/sleep", "1200"], "repeat": 4}
            | {"resources": {"memory": "2000M"}},
            {"key": "quick", "image": IMAGE, "shell": "echo done > made", "outputs": ["made"]}
            | {"resources": SMALL},
        ],
    )
    submitted = shell.run_for_runner("submit", "sleep.yml")
    assert submitted.code == 0, submitted.err
    assert "4 idle" in submitted.out
    try:
        # One of the four runs, and keeps the executor until it is removed.
        states = poll_until(
            lambda: _states(shell, "sleep"),
            lambda states: sorted(states.values()) == ["idle"] * 3 + ["running"],
        )
        idle = next(job_id for job_id, state in states.items() if state == "idle")
        explained = shell.run_for_runner("explain", idle)
        assert explained.code == 0
        assert "in class big" in explained.out
        assert shell.run_for_runner("remove", "sleep", "nonsense").code == 2
        removal = shell.run_for_runner("remove", "sleep", "--json")
        assert (removal.code, removal.data["removed"]) == (0, 4)
        poll_until(
            lambda: _states(shell, "sleep"), lambda found: set(found.values()) == {"removed"}
        )
        resumed = shell.run_for_runner("jobs", "--wait", "--json")
        assert resumed.code == 0
        assert (shell.directory / "made").read_text() == "done\n"
    finally:
        shell.run_for_runner("remove", "--all")


def test_ctrl_c_leaves_the_jobs_and_names_the_next_commands(shell: CommandShell) -> None:
    shell.write(
        "two.yml",
        [
            {"key": "bad", "image": IMAGE, "shell": "exit 3", "resources": SMALL},
            {"key": "long", "image": IMAGE, "command": ["/bin/sleep", "1200"], "resources": SMALL},
        ],
    )
    waiting = shell.start("submit", "two.yml", "--wait", "--runner", shell.runner)
    try:
        # A failure is reported at once, by a command that waits.
        read_until(waiting, "exit code 3")
        waiting.send_signal(signal.SIGINT)
        out, err = waiting.communicate(timeout=TIMEOUT_S)
        assert (waiting.returncode, out) == (130, "")
        assert "which HTCondor continues to run" in err
        assert f"`swarm-runner remove --runner {shell.runner} long`" in err
        assert "Traceback" not in err
        assert set(_states(shell, "long").values()) <= {"idle", "running"}
    finally:
        waiting.kill()
        waiting.wait()
        removed = shell.run_for_runner("remove", "long", "--json")
    assert removed.data["removed"] == 1
    poll_until(
        lambda: shell.run_for_runner("explain", "long").out,
        lambda explained: "somebody ran `swarm-runner remove`" in explained,
    )
    poll_until(lambda: set(_states(shell, "long").values()), lambda states: states == {"removed"})


def test_pool_status_joins_services_and_slots(shell: CommandShell) -> None:
    def sizes(status: Result) -> dict[str, int | None]:
        assert status.code == 0, status.err
        return {line["capacity_class"]: line["memory_mb"] for line in status.data["executors"]}

    status = poll_until(
        lambda: shell.run("pool", "status", "--json"),
        lambda status: sizes(status) == {"normal": 1024, "big": 2048},
    )
    assert status.data["manager"]["state"] == "running"
    table = shell.run("pool", "status").out
    for line in status.data["executors"]:
        assert line["task"][:12] in table
        assert f"{line['service']}  class {line['capacity_class']}, " in table


def test_invalid_arguments_are_rejected_before_anything_changes(shell: CommandShell) -> None:
    assert shell.run("pool", "down", "--drain", "--force").code == 2
    assert shell.run("pool", "scale", "normal=999", "nrmal=1").code == 2
    assert shell.run("pool", "status").code == 0


def test_nothing_is_submitted_if_one_of_many_invocations_is_invalid(shell: CommandShell) -> None:
    batch: list[dict[str, Any]] = [
        {"key": f"n{number}", "image": IMAGE, "command": ["true"]} for number in range(100)
    ]
    batch[41]["command"] = ["a\0b"]
    done = shell.run_for_runner("submit", shell.write("batch.yml", batch), "--wait")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: batch.yml:")
    assert len(done.err.splitlines()) == 1
    batch[41] |= {"command": ["true"], "inputs": ["absent"]}
    done = shell.run_for_runner("submit", shell.write("batch.yml", batch), "--wait")
    assert done.code == 2
    assert "error: n41: inputs: " in done.err
    assert shell.run_for_runner("jobs", "--json").data == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("image: [", "is not valid YAML"),
        ("{image: debian, command: [x], resources: {memory: '100'}}", "512M"),
        ("{image: debian, command: [x], resources: {memory: 9 TB}}", "normal: 1 cpu, 1024 MB"),
        ("{image: -x, command: []}", "command"),
    ],
)
def test_bad_files_have_code_2(shell: CommandShell, content: str, message: str) -> None:
    (shell.directory / "bad.yml").write_text(content)
    done = shell.run_for_runner("submit", "bad.yml")
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert all(line.startswith("error: ") for line in done.err.splitlines())


def test_a_bad_configuration_has_code_2(shell: CommandShell) -> None:
    shell.write("wrong.yml", {"runners": {"swarm": {"pool": {"nme": "x"}}}, "execution": {}})
    shell.write("ok.yml", {"image": IMAGE, "command": ["true"]})
    for arguments in (
        ["validate", "wrong.yml"],
        ["submit", "ok.yml", "--job-conf", "wrong.yml"],
        ["pool", "status", "--job-conf", "absent.yml"],
        ["jobs", "--destination", "nowhere"],
        ["submit", "absent.yml"],
        ["submit"],
        ["nonsense"],
    ):
        assert shell.run(*arguments).code == 2, arguments


def test_an_unreachable_engine_or_pool_has_code_3(shell: CommandShell) -> None:
    done = shell.run("pool", "status", DOCKER_HOST="tcp://127.0.0.1:1")
    assert (done.code, done.out) == (3, "")
    assert "DOCKER_HOST" in done.err
    conf = yaml.safe_load(shell.job_conf.read_text())
    conf["runners"]["swarm"]["pool"]["port"] = 1
    shell.write("unreachable.yml", conf)
    shell.write("ok.yml", {"image": IMAGE, "command": ["true"]})
    for command in (["submit", "ok.yml"], ["jobs"], ["explain", "1.0"], ["remove", "--all"]):
        done = shell.run_for_runner(command[0], *command[1:], "--job-conf", "unreachable.yml")
        assert (done.code, done.out) == (3, ""), command
        assert "127.0.0.1:1" in done.err


def test_a_missing_and_a_wrong_token_have_code_3(shell: CommandShell) -> None:
    conf = yaml.safe_load(shell.job_conf.read_text())
    section = conf["runners"]["swarm"]
    valid = Path(section["token_directory"], section["pool"]["name"]).read_text()
    tokens = shell.directory / "tokens.d"
    section["token_directory"] = str(tokens)
    shell.write("untrusted.yml", conf)
    done = shell.run_for_runner("jobs", "--job-conf", "untrusted.yml")
    assert done.code == 3
    assert "there is no token" in done.err
    # A token that the pool's key did not sign.
    head, payload, signature = valid.strip().split(".")
    tokens.mkdir(exist_ok=True)
    token = tokens / section["pool"]["name"]
    token.write_text(f"{head}.{payload}.{signature[::-1]}\n")
    token.chmod(0o600)
    done = shell.run_for_runner("jobs", "--job-conf", "untrusted.yml")
    assert done.code == 3
    assert f"rejected the token at {token}" in done.err


def _states(shell: CommandShell, key: str) -> dict[str, str]:
    """The state of each job with this key, by job ID."""
    jobs = shell.run_for_runner("jobs", "--json").data
    return {"{}.{}".format(*job["id"]): job["state"] for job in jobs if job["key"] == key}
