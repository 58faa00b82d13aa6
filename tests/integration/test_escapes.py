"""Attempts to escape, on a real pool. It prints the table of docs/security.md."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import pytest
from pydantic import ValidationError

from swarm_runner.condor.access_point import AccessPoint
from swarm_runner.errors import InvalidInputError
from swarm_runner.model.access_token import AccessToken
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.job import JobEvent, JobState
from swarm_runner.provisioner.credentials import write_token
from swarm_runner.runner import Runner
from tests.escapes.attempts import (
    ACTIONS,
    IN_JOBS,
    OFFICIAL,
    SUBMITS,
    Action,
    InJob,
    Official,
    Submit,
)
from tests.integration.conftest import service_container
from tests.lab.pool import LabPool
from tests.polling import TIMEOUT_S

ROOT = Path(__file__).parents[2]
TABLE = ROOT / ".state" / "escapes.md"
MAX_TOLD = 160


@dataclass
class Escapes:
    """The pool, identities with their tokens, and a running job of one of them."""

    lab: LabPool
    tokens: dict[str, Path]
    job: str = ""
    rows: list[tuple[str, str, str, str]] = field(default_factory=list)

    def fill(self, value: Any) -> Any:
        """Return a row's value with its placeholders filled in."""
        if isinstance(value, dict):
            return {name: self.fill(text) for name, text in value.items()}
        if not isinstance(value, str):
            return value
        texts = {"volume": str(self.lab.volume), "pool": self.lab.destination.pool.name}
        for name, text in (texts | {"job": self.job}).items():
            value = value.replace(f"{{{name}}}", text)
        return value

    def call(self, token: str, action: str, arguments: dict[str, Any]) -> tuple[bool, str]:
        """Run an action of the raw client."""
        pool = self.lab.destination.pool
        command = [sys.executable, "-m", "tests.escapes.raw_client", str(self.tokens[token])]
        done = subprocess.run(
            [*command, pool.name, pool.address, action, json.dumps(arguments)],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            cwd=ROOT,
            timeout=TIMEOUT_S,
        )
        answer = json.loads(done.stdout.splitlines()[-1])
        return answer["done"], " ".join(answer["told"].split())

    def commands(self, changes: dict[str, str | None]) -> dict[str, str]:
        """Return a submit description that is accepted without the changes."""
        commands: dict[str, str | None] = {
            "universe": "docker",
            "docker_image": "debian:trixie",
            "executable": "/bin/true",
            "transfer_executable": "false",
            "request_cpus": "1",
            "request_memory": "100M",
            "request_disk": "50M",
            "should_transfer_files": "YES",
            "when_to_transfer_output": "ON_EXIT",
            "initialdir": str(self.lab.volume),
            "My.SwarmRunnerClass": '"normal"',
        }
        commands |= self.fill(changes)
        return {name: value for name, value in commands.items() if value is not None}

    def note(self, means: str, what: str, seen: str, told: str) -> None:
        """Add a line to the table."""
        self.rows.append((means, what, seen, told[:MAX_TOLD].replace("|", "\\|")))


def _token(lab: LabPool, directory: Path, name: str, rights: Any) -> tuple[Path, AccessToken]:
    created, text = lab.provisioner.create_token(name, rights, 86_400)
    write_token(directory / name / lab.destination.pool.name, text)
    return directory / name, created


@pytest.fixture(scope="module")
def escapes(lab: LabPool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Escapes]:
    directory = tmp_path_factory.mktemp("tokens")
    pool = lab.destination.pool
    tokens = {
        "owner": _token(lab, directory, "alice", "submit")[0],
        "other": _token(lab, directory, "bob", "submit")[0],
        "reader": _token(lab, directory, "reader", "read")[0],
        "executor": directory / "executor",
    }
    tokens["revoked"], revoked = _token(lab, directory, "mallory", "submit")
    lab.provisioner.revoke_tokens(revoked.id)
    client = docker.from_env()
    executor = service_container(client, pool.service("normal"))
    code, text = executor.exec_run(["cat", "/etc/condor/tokens.d/executor"])
    assert code == 0
    assert isinstance(text, bytes)
    write_token(tokens["executor"] / pool.name, text.decode())
    client.close()
    found = Escapes(lab, tokens)
    changes: dict[str, str | None] = {
        "executable": "/bin/sleep",
        "arguments": "3600",
        "environment": '"SECRET=alice"',
    }
    done, found.job = found.call("owner", "submit", {"commands": found.commands(changes)})
    assert done, found.job
    time.sleep(5)
    yield found
    assert found.call("owner", "act", {"action": "Remove", "job": found.job})[0]
    lines = ["| by | tried | seen | told |", "| --- | --- | --- | --- |"]
    lines += ["| " + " | ".join(row) + " |" for row in found.rows]
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_text("\n".join([*lines, ""]))
    sys.stdout.write(f"\n{len(found.rows)} attempts; the table is {TABLE}\n")


@pytest.mark.parametrize("attempt", SUBMITS, ids=lambda row: row.what)
def test_the_access_point_refuses(escapes: Escapes, attempt: Submit) -> None:
    arguments = {"commands": escapes.commands(attempt.commands)}
    done, told = escapes.call("other", "submit", arguments)
    if done:
        escapes.call("other", "act", {"action": "Remove", "job": told})
    escapes.note("raw client", attempt.what, "queued" if done else "refused", told)
    assert not done
    assert attempt.told in told


def test_the_access_point_accepts_a_good_job(escapes: Escapes) -> None:
    """Otherwise the attempts would fail for another reason."""
    done, told = escapes.call("other", "submit", {"commands": escapes.commands({})})
    assert done, told


@pytest.mark.parametrize("attempt", ACTIONS, ids=lambda row: row.what)
def test_a_token_does_not_permit(escapes: Escapes, attempt: Action) -> None:
    arguments = escapes.fill(attempt.arguments)
    if arguments.get("commands", "") is None:
        arguments["commands"] = escapes.commands({})
    done, told = escapes.call(attempt.token, attempt.action, arguments)
    means = f"token: {attempt.token}"
    escapes.note(means, attempt.what, "done" if done else "refused", told)
    assert not done, told


@pytest.mark.parametrize("attempt", OFFICIAL, ids=lambda row: row.what)
def test_the_library_refuses(escapes: Escapes, attempt: Official) -> None:
    fields = {"image": "debian:trixie", "shell": "true"} | attempt.fields
    with pytest.raises((ValidationError, InvalidInputError)) as caught:
        Invocation.model_validate({k: v for k, v in fields.items() if v is not None})
    escapes.note("invocation", attempt.what, "refused", str(caught.value).splitlines()[2].strip())
    assert attempt.told in str(caught.value)


def test_a_refusal_of_the_access_point_reaches_the_user(escapes: Escapes) -> None:
    """What the library does not check itself, here by a plugin's door, is an invalid input."""
    pool = escapes.lab.destination.pool
    access_point = AccessPoint(pool.address, pool.name, str(escapes.tokens["other"]))
    from swarm_runner.submit.description import SubmitBatch

    commands = escapes.commands({"My.DockerNetworkType": '"host"'})
    with pytest.raises(InvalidInputError, match="a job may not set DockerNetworkType: the pool"):
        access_point.submit(SubmitBatch(common=commands, rows=()))


@pytest.mark.parametrize("attempt", IN_JOBS, ids=lambda row: row.what)
def test_a_job_does_not_reach(escapes: Escapes, attempt: InJob) -> None:
    directory = escapes.lab.volume / "escapes"
    directory.mkdir(exist_ok=True)
    directory.chmod(0o777)
    fields = {
        "image": "debian:trixie",
        "shell": escapes.fill(attempt.script),
        "working_directory": str(directory),
        "stdout": "out",
        "resources": {"memory_mb": 100, "disk_mb": 50},
    }
    with Runner(escapes.lab.destination, name="escapes") as runner:
        (bystander,) = runner.submit(
            [Invocation.model_validate(fields | {"shell": "sleep 600", "stdout": None})]
        )
        for change in runner.watch(TIMEOUT_S):
            if change.event is JobEvent.STARTED:
                break
        escapes_job = escapes.job
        escapes.job = str(bystander.id)
        fields["shell"] = escapes.fill(attempt.script)
        escapes.job = escapes_job
        fields["capacity_class"] = "big"
        (job,) = runner.submit([Invocation.model_validate(fields | attempt.invocation)])
        (job,) = runner.wait([job], TIMEOUT_S)
        time.sleep(3)
        runner.poll()
        output = (directory / "out").read_text()
        state = runner.find(bystander.key)[0].state
        runner.remove([bystander])
        runner.wait([bystander], TIMEOUT_S)
    told = " ".join(output.split())
    seen = "escaped" if "ESCAPED" in output or state is not JobState.RUNNING else "contained"
    escapes.note("job", attempt.what, seen, told)
    assert seen == "contained"
    assert attempt.told in output
