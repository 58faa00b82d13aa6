"""Attempts to escape, on a real pool. It prints the table of docs/explanation/security.md."""

from __future__ import annotations

import ipaddress
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import shorten
from typing import Any

import docker
import pytest
from pydantic import ValidationError

from swarm_runner.condor.access_point import AccessPoint
from swarm_runner.condor.ports import JobQuery
from swarm_runner.errors import InvalidInputError
from swarm_runner.hooks.specs import hookimpl
from swarm_runner.model.access_token import AccessToken
from swarm_runner.model.htcondor import JobStatus
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.job import JobEvent, JobId, JobState
from swarm_runner.provisioner.credentials import write_token
from swarm_runner.runner import Runner
from swarm_runner.submit.description import SubmitBatch
from swarm_runner.swarm.images import SOURCE
from tests.escapes.attempts import (
    ACTIONS,
    IN_JOBS,
    OFFICIAL,
    RUNS,
    SUBMITS,
    Action,
    InJob,
    Official,
    Run,
    Submit,
)
from tests.integration.conftest import service_container, write_executors_token
from tests.lab.pool import LabPool
from tests.polling import TIMEOUT_S

ROOT = Path(__file__).parents[2]
TABLE = ROOT / ".state" / "escapes.md"
MAX_REPORTED = 160


@dataclass
class Escapes:
    """The pool, identities with their tokens, and a running job of one of them."""

    lab: LabPool
    tokens: dict[str, Path]
    directory: Path
    outside: Path
    job: str = ""
    rows: list[tuple[str, str, str, str]] = field(default_factory=list)

    def fill(self, value: Any) -> Any:
        """Return a row's value with its placeholders filled in."""
        if isinstance(value, dict):
            return {name: self.fill(text) for name, text in value.items()}
        if isinstance(value, list):
            return [self.fill(text) for text in value]
        if not isinstance(value, str):
            return value
        pool = self.lab.destination.pool
        texts = {
            "volume": str(self.lab.volume),
            "pool": pool.name,
            "job": self.job,
            "outside": str(self.outside),
            "planted": str(self.outside / "planted"),
            "tokens": str(self.lab.destination.token_directory),
            "host": _bridge_address(),
            "port": str(pool.port),
        }
        for name, text in texts.items():
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
        return answer["done"], " ".join(answer["reported"].split())

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

    def evaluate(
        self, means: str, what: str, reported: str, *, escaped: bool, gateway: bool
    ) -> None:
        """Add a line, and fail if a job got what it must not get.

        What only the executor's gateway can refuse fails where the image has a gateway.
        """
        missing = gateway and not (SOURCE / "gateway.py").is_file()
        seen = "escaped" if escaped else "contained"
        self.note(means, what, f"{seen}: the gateway's" if missing else seen, reported)
        assert missing or not escaped, reported

    def note(self, means: str, what: str, seen: str, reported: str) -> None:
        """Add a line to the table, without what is different in each run."""
        reported = reported.replace(str(self.lab.job_conf.parent), "")
        reported = re.sub(r"\b[0-9a-f]{12,32}\b", "…", reported)
        self.rows.append(
            (
                means,
                what,
                seen,
                shorten(reported, MAX_REPORTED, placeholder=" …").replace("|", "\\|"),
            )
        )


def _bridge_address() -> str:
    """Return the node's address on the default bridge, where jobs see its ports."""
    client = docker.from_env()
    try:
        configuration = client.networks.get("bridge").attrs["IPAM"]["Config"][0]
        # An engine that has not been restarted yet does not name it.
        first = next(ipaddress.ip_network(configuration["Subnet"]).hosts())
        return str(configuration.get("Gateway", first))
    finally:
        client.close()


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
    write_executors_token(pool, tokens["executor"])
    found = Escapes(lab, tokens, lab.volume / "escapes", lab.job_conf.parent / "outside")
    found.directory.mkdir()
    found.directory.chmod(0o777)
    (found.outside / "planted" / "results").mkdir(parents=True, exist_ok=True)
    (found.outside / "secret").write_text("secret")
    (found.directory / "link").symlink_to(found.outside)
    link = found.outside / "planted" / "results" / "link"
    link.unlink(missing_ok=True)
    link.symlink_to(found.outside / "secret")
    changes: dict[str, str | None] = {
        "executable": "/bin/sleep",
        "arguments": "3600",
        "environment": '"SECRET=alice"',
    }
    done, found.job = found.call("owner", "submit", {"commands": found.commands(changes)})
    assert done, found.job
    time.sleep(5)
    yield found
    assert found.call("owner", "change", {"action": "Remove", "job": found.job})[0]
    lines = ["| by | tried | seen | reported |", "| --- | --- | --- | --- |"]
    lines += ["| " + " | ".join(row) + " |" for row in found.rows]
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_text("\n".join([*lines, ""]))
    sys.stdout.write(f"\n{len(found.rows)} attempts; the table is {TABLE}\n")


@pytest.mark.parametrize("attempt", SUBMITS, ids=lambda row: row.what)
def test_the_access_point_refuses(escapes: Escapes, attempt: Submit) -> None:
    arguments = {"commands": escapes.commands(attempt.commands)}
    done, reported = escapes.call("other", "submit", arguments)
    if done:
        escapes.call("other", "change", {"action": "Remove", "job": reported})
    escapes.note("raw client", attempt.what, "queued" if done else "refused", reported)
    assert not done
    assert attempt.reported in reported


def test_the_access_point_accepts_a_good_job(escapes: Escapes) -> None:
    """Otherwise the attempts would fail for another reason."""
    done, reported = escapes.call("other", "submit", {"commands": escapes.commands({})})
    assert done, reported


@pytest.mark.parametrize("attempt", ACTIONS, ids=lambda row: row.what)
def test_a_token_does_not_permit(escapes: Escapes, attempt: Action) -> None:
    arguments = escapes.fill(attempt.arguments)
    if arguments.get("commands", "") is None:
        arguments["commands"] = escapes.commands({})
    done, reported = escapes.call(attempt.token, attempt.action, arguments)
    means = f"token: {attempt.token}"
    escapes.note(means, attempt.what, "done" if done else "refused", reported)
    assert not done, reported


@pytest.mark.parametrize("attempt", OFFICIAL, ids=lambda row: row.what)
def test_the_library_refuses(escapes: Escapes, attempt: Official) -> None:
    fields = {"image": "debian:trixie", "shell": "true"} | escapes.fill(attempt.fields)
    with (
        Runner(escapes.lab.destination, name="escapes-official") as runner,
        pytest.raises((ValidationError, InvalidInputError)) as caught,
    ):
        runner.submit([Invocation.model_validate({k: v for k, v in fields.items() if v})])
    reported = " ".join(str(caught.value).split())
    escapes.note("invocation", attempt.what, "refused", reported)
    assert attempt.reported in reported


def test_a_refusal_of_the_access_point_reaches_the_user(escapes: Escapes) -> None:
    """What the library does not check itself, here by a plugin's door, is an invalid input."""
    pool = escapes.lab.destination.pool
    access_point = AccessPoint(pool.address, pool.name, str(escapes.tokens["other"]))
    commands = escapes.commands({"My.PreCmd": '"/bin/id"'})
    with pytest.raises(InvalidInputError, match="a job may not set PreCmd: nothing but"):
        access_point.submit(SubmitBatch(common=commands, rows=()))


def test_two_tokens_in_one_process_are_two_identities(escapes: Escapes) -> None:
    """HTCondor would use one session for both: the first one's."""
    pool = escapes.lab.destination.pool
    owners = []
    for token in ("owner", "other", "owner"):
        access_point = AccessPoint.connect(pool, str(escapes.tokens[token]))
        commands = escapes.commands({"hold": "true"})
        ids = access_point.submit(SubmitBatch(common=commands, rows=())).ids
        (ad,) = access_point.jobs(JobQuery(ids=ids), ["Owner"])
        owners.append(ad["Owner"])
        assert access_point.remove(ids, "seen") == 1
    assert owners == ["alice", "bob", "alice"]


def test_a_raw_command_of_a_destination_is_refused_with_its_reason(escapes: Escapes) -> None:
    """A plugin amends the submit, as Galaxy's runner does for htcondor_... parameters."""
    with (
        Runner(escapes.lab.destination, name="escapes-raw", plugins=[HostNetwork()]) as runner,
        pytest.raises(InvalidInputError, match="no job gets its node's network") as caught,
    ):
        runner.submit([Invocation(key="raw", image="debian:trixie", command=("true",))])
    escapes.note("plugin", "docker_network_type = host", "refused", str(caught.value))


class HostNetwork:
    """A plugin that asks for its node's network."""

    @hookimpl
    def swarm_runner_amend_submit(self) -> dict[str, str]:
        return {"docker_network_type": "host"}


@pytest.mark.parametrize("attempt", RUNS, ids=lambda row: row.what)
def test_a_job_that_looks_good_gets_no_more(
    escapes: Escapes, attempt: Run, docker_client: docker.DockerClient
) -> None:
    pool = escapes.lab.destination.pool
    evidence = escapes.directory / f"evidence-{RUNS.index(attempt)}"
    script = escapes.fill(attempt.script).replace("{evidence}", str(evidence))
    changes: dict[str, str | None] = {"executable": "/bin/sh", "arguments": f"\"-c '{script}'\""}
    if attempt.commands.get("should_transfer_files") == "NO":
        changes["when_to_transfer_output"] = None
    done, reported = escapes.call(
        "owner", "submit", {"commands": escapes.commands({**changes, **attempt.commands})}
    )
    if done:
        job = reported
        reported = _until_it_stops(
            AccessPoint(pool.address, pool.name, str(escapes.tokens["owner"])), job
        )
        escapes.call("owner", "change", {"action": "Remove", "job": job})
    manager = service_container(docker_client, pool.service())
    code, _ = manager.exec_run(["test", "-e", "/etc/condor/config.d/evil.conf"])
    escaped = code == 0 or (evidence.exists() and "escaped" in evidence.read_text())
    escapes.evaluate("raw client", attempt.what, reported, escaped=escaped, gateway=attempt.gateway)


def _until_it_stops(access_point: AccessPoint, job: str) -> str:
    """Wait until a job has ended or is held; return what its user sees."""
    query = JobQuery(ids=[JobId(*map(int, job.split(".")))])
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        ads = access_point.jobs(query)
        if not ads:
            return "it ran"
        if ads[0]["JobStatus"] == JobStatus.HELD:
            return str(ads[0].get("HoldReason"))
        time.sleep(1)
    raise AssertionError(f"job {job} is neither held nor over: {ads}")


@pytest.fixture(scope="module")
def in_jobs(escapes: Escapes) -> Iterator[dict[str, tuple[str, JobState]]]:
    """What each job wrote, and the state of the job beside it that some of them attack."""
    common = {
        "image": "debian:trixie",
        "working_directory": str(escapes.directory),
        "in_place": True,
        "resources": {"memory_mb": 100, "disk_mb": 50},
    }
    with Runner(escapes.lab.destination, name="escapes") as runner:
        (bystander,) = runner.submit(
            [Invocation.model_validate(common | {"shell": "sleep 3600", "capacity_class": "big"})]
        )
        for change in runner.watch(TIMEOUT_S):
            if change.event is JobEvent.STARTED:
                break
        cluster, proc = bystander.id
        number = f"{cluster:03}.{proc:03}.000"
        jobs = runner.submit(
            Invocation.model_validate(
                common
                | {
                    "shell": escapes.fill(attempt.script).replace("{number}", number),
                    "stdout": f"out-{position}",
                    "stderr": f"out-{position}",
                }
                | attempt.invocation
            )
            for position, attempt in enumerate(IN_JOBS)
        )
        runner.wait(jobs, TIMEOUT_S)
        time.sleep(3)
        runner.poll()
        state = runner.find(bystander.key)[0].state
        outputs = {
            attempt.what: (escapes.directory / f"out-{position}").read_text(errors="replace")
            for position, attempt in enumerate(IN_JOBS)
        }
        yield {what: (" ".join(output.split()), state) for what, output in outputs.items()}
        runner.remove_all()
        runner.wait([bystander], TIMEOUT_S)


@pytest.mark.parametrize("attempt", IN_JOBS, ids=lambda row: row.what)
def test_a_job_does_not_reach(
    escapes: Escapes, in_jobs: dict[str, tuple[str, JobState]], attempt: InJob
) -> None:
    reported, state = in_jobs[attempt.what]
    assert attempt.reported in reported
    escaped = "ESCAPED" in reported or state is not JobState.RUNNING
    escapes.evaluate("job", attempt.what, reported, escaped=escaped, gateway=attempt.gateway)


def test_what_a_job_plants_in_place_of_a_log_is_left_alone(escapes: Escapes) -> None:
    """The runner may be root, and would give the job user the link's target."""
    target = escapes.outside / "target"
    target.write_text("root's")
    target.chmod(0o600)
    planted = escapes.lab.volume / ".swarm-runner" / "escapes-victim"
    planted.mkdir(parents=True)
    (planted / "events.log").symlink_to(target)
    before = target.stat()
    with Runner(escapes.lab.destination, name="escapes-victim") as runner:
        tracked_by_log = runner.event_log is not None
    after = target.stat()
    changed = (before.st_uid, before.st_mode) != (after.st_uid, after.st_mode)
    reported = "the target is unchanged; jobs are polled"
    escapes.evaluate(
        "job", "a link in place of a runner's log", reported, escaped=changed, gateway=False
    )
    assert not tracked_by_log
