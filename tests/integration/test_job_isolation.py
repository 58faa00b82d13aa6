"""What the containers of jobs get, and what they are refused, on a pool of its own."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import docker
import docker.errors
import pytest

from swarm_runner.model.job import Job, OutcomeKind
from swarm_runner.runner import Runner
from tests.integration.conftest import LabHarness, new_harness
from tests.lab.pool import STATE_DIRECTORY, LabPool, lab_pool
from tests.lab.stub_registry import PROGRAM, StubRegistry
from tests.polling import TIMEOUT_S

NAME, PORT = "swarm-runner-isolation", 9759
MEBIBYTE = 2**20
_ENV = ("/usr/bin/env",)
# An interrupted session may have left its own, in use by its pool.
LOGINS = f"swarm-runner-isolation-logins-{uuid.uuid4().hex[:8]}"
# What a container's first process may do: no capability, and no way to get one.
NO_PRIVILEGES = {"CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"}


@pytest.fixture(scope="module")
def mounts() -> Iterator[Path]:
    """Yield a directory below which the node mounts something later, as autofs does."""
    directory = STATE_DIRECTORY / NAME / "mounts"
    directory.mkdir(parents=True, exist_ok=True)
    subprocess.run([*_ENV, "mount", "--bind", directory, directory], check=True)
    subprocess.run([*_ENV, "mount", "--make-rshared", directory], check=True)
    yield directory
    subprocess.run([*_ENV, "umount", "--recursive", "--lazy", directory], check=True)


@pytest.fixture(scope="module")
def private_registry() -> Iterator[StubRegistry]:
    """Yield a registry that wants a login."""
    with StubRegistry(login="reader:secret").running() as stub:
        yield stub


@pytest.fixture(scope="module")
def logins(private_registry: StubRegistry, lab: LabPool) -> Iterator[str]:
    """Yield the name of a Swarm secret with the login of the private registry.

    The Swarm is the session's, which its pool keeps: it has the secret when the pool comes up.
    """
    assert lab
    auth = base64.b64encode(b"reader:secret").decode()
    content = json.dumps({"auths": {private_registry.address: {"auth": auth}}})
    client = docker.from_env()
    secret = client.secrets.create(name=LOGINS, data=content.encode())
    yield LOGINS
    secret.remove()
    client.close()


@pytest.fixture(scope="module")
def silent_registry() -> Iterator[str]:
    """Yield the address of a registry that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture(scope="module")
def isolated(
    mounts: Path,
    registry: StubRegistry,
    private_registry: StubRegistry,
    silent_registry: str,
    logins: str,
) -> Iterator[LabPool]:
    """Yield a pool of one executor that allows little."""
    volume = STATE_DIRECTORY / NAME / "volume"
    late = {"path": str(mounts), "propagation": "rslave", "read_only": True, "on_request": True}
    settings = {
        "classes": {"normal": {"cpus": 1, "memory_mb": 512, "replicas": 1}},
        "volumes": [str(volume), late],
        "registry_secret": logins,
        "isolation": {
            "images": [
                "debian:*",
                *(f"{address}/*" for address in (registry.address, private_registry.address)),
                f"{silent_registry}/*",
            ],
            "pids": 40,
            "open_files": 500,
        },
    }
    with lab_pool(NAME, PORT, settings) as lab:
        yield lab


@pytest.fixture(params=["log", "poll"])
def isolated_harness(request: pytest.FixtureRequest, isolated: LabPool) -> Iterator[LabHarness]:
    harness = new_harness(isolated, request.param)
    yield harness
    harness.remove_jobs()


def run(harness: LabHarness, **fields: object) -> Job:
    """Run one job to its end."""
    with harness.runner() as runner:
        jobs = runner.submit([harness.invocation("job", **fields)])  # type: ignore[arg-type]
        (job,) = runner.wait(jobs, TIMEOUT_S)
    return job


def test_what_a_job_gets(isolated_harness: LabHarness) -> None:
    script = (
        "cat /proc/self/status; ulimit -n; id -u; echo $TMPDIR; grep -c : /proc/net/dev; "
        "touch $HOME/a /tmp/b /var/tmp/c && stat -c '%u %a' $HOME; stat -f -c '%b %S' /dev/shm"
    )
    job = run(
        isolated_harness,
        shell=script,
        stdout="out.txt",
        environment={"TMPDIR": "/tmp/mine"},  # noqa: S108
        container_options={"shm_mb": 16},
    )
    assert job.outcome is not None
    assert job.outcome.ok, job.outcome
    lines = (isolated_harness.directory / "out.txt").read_text().splitlines()
    assert set(lines) >= NO_PRIVILEGES
    limit, user, temporary, interfaces, home, shared_memory = lines[-6:]
    assert (limit, user, temporary, interfaces) == ("500", "1000", "/tmp/mine", "1")  # noqa: S108
    assert home == "1000 700"
    blocks, size = map(int, shared_memory.split())
    assert blocks * size == 16 * MEBIBYTE


def test_the_outcome_has_the_digest_of_the_image(
    isolated_harness: LabHarness, registry: StubRegistry
) -> None:
    job = run(isolated_harness, image=f"{registry.repository}:digest", command=[PROGRAM])
    assert job.outcome is not None
    assert job.outcome.ok, job.outcome
    assert job.outcome.image_digest == registry.digest


@pytest.mark.parametrize("isolated_harness", ["log"], indirect=True)
def test_an_image_of_a_private_registry(
    isolated_harness: LabHarness, private_registry: StubRegistry
) -> None:
    image = f"{private_registry.repository}:private"
    job = run(isolated_harness, image=image, command=[PROGRAM])
    assert job.outcome is not None
    assert job.outcome.ok, job.outcome


@pytest.mark.parametrize("isolated_harness", ["log"], indirect=True)
def test_a_login_that_has_expired(
    isolated_harness: LabHarness, private_registry: StubRegistry
) -> None:
    good, private_registry.login = private_registry.login, "reader:another"
    image = f"{private_registry.repository}:expired"
    job = run(isolated_harness, image=image, command=[PROGRAM])
    private_registry.login = good
    assert job.outcome is not None
    assert job.outcome.kind is OutcomeKind.IMAGE_NOT_FOUND
    assert "access to it is denied" in job.outcome.message
    assert image in job.outcome.message
    assert "another" not in job.outcome.message


@pytest.mark.parametrize("isolated_harness", ["log"], indirect=True)
def test_what_a_registry_answers(isolated_harness: LabHarness, registry: StubRegistry) -> None:
    """As a proxy does, in plain text: the engine then shows the status and not the meaning."""
    for status in (401, 403, 404, 429, 500):
        registry.statuses[str(status)] = HTTPStatus(status)
    with isolated_harness.runner() as runner:
        jobs = runner.submit(
            [
                isolated_harness.invocation(
                    tag, image=f"{registry.repository}:{tag}", command=[PROGRAM]
                )
                for tag in registry.statuses
            ]
        )
        ended = runner.wait(jobs[:3], TIMEOUT_S)
        # What may pass is tried again, and passes.
        registry.statuses.clear()
        ended += runner.wait(jobs[3:], TIMEOUT_S)
    outcomes = [job.outcome for job in ended if job.outcome]
    assert [outcome.kind for outcome in outcomes] == [
        *[OutcomeKind.IMAGE_NOT_FOUND] * 3,
        *[OutcomeKind.EXITED] * 2,
    ]
    for job, outcome in zip(ended[:3], outcomes, strict=False):
        assert f"{registry.repository}:{job.key}" in outcome.message


@pytest.mark.parametrize("isolated_harness", ["log"], indirect=True)
def test_jobs_that_take_what_they_can(isolated_harness: LabHarness) -> None:
    commands = {
        "fork-bomb": "bomb() { bomb | bomb & }; bomb; sleep 3; echo here",
        # HTCondor measures the disk from time to time: a job that is quicker is not held.
        "full-disk": "head -c 2G /dev/zero > zeros; sleep 300",
        "10-GB-of-output": "head -c 10G /dev/zero; sleep 300",
        "good": "echo here",
    }
    with isolated_harness.runner() as runner:
        jobs = runner.submit(
            [
                isolated_harness.invocation(
                    key,
                    command,
                    stdout=f"{number}.txt",
                    resources={"memory_mb": 100, "disk_mb": 100},
                )
                for number, (key, command) in enumerate(commands.items())
            ]
        )
        ended = runner.wait(jobs, TIMEOUT_S)
    kinds = {job.key: job.outcome.kind for job in ended if job.outcome}
    assert kinds == {
        "fork-bomb": OutcomeKind.EXITED,
        "full-disk": OutcomeKind.OUT_OF_DISK,
        "10-GB-of-output": OutcomeKind.OUT_OF_DISK,
        "good": OutcomeKind.EXITED,
    }
    assert (isolated_harness.directory / "3.txt").read_text() == "here\n"


@pytest.mark.parametrize("isolated_harness", ["log"], indirect=True)
def test_a_mount_that_goes_away(isolated_harness: LabHarness, mounts: Path) -> None:
    gone = mounts / "gone"
    gone.mkdir(exist_ok=True)
    subprocess.run([*_ENV, "mount", "-t", "tmpfs", "gone", gone], check=True)
    (gone / "file").touch()
    script = (
        f"cat {gone}/file && touch started; "
        f"for i in $(seq 600); do cat {gone}/file || exit 7; sleep 0.2; done"
    )
    with isolated_harness.runner() as runner:
        invocation = isolated_harness.invocation(
            "gone",
            script,
            in_place=True,
            container_options={"volumes": [str(mounts), _volume()]},
        )
        jobs = runner.submit([invocation])
        _wait_for(isolated_harness.directory / "started", runner)
        subprocess.run([*_ENV, "umount", gone], check=True)
        (job,) = runner.wait(jobs, TIMEOUT_S)
    assert job.outcome is not None
    assert (job.outcome.kind, job.outcome.exit_code) == (OutcomeKind.EXITED, 7)


def _wait_for(path: Path, runner: Runner) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not path.exists():
        assert time.monotonic() < deadline
        runner.poll()
        time.sleep(0.2)


@pytest.mark.parametrize("isolated_harness", ["log"], indirect=True)
def test_processes_are_limited(isolated_harness: LabHarness) -> None:
    script = "for i in $(seq 60); do sleep 5 & done; wait"
    job = run(isolated_harness, shell=script, stderr="err.txt")
    assert job.outcome is not None
    assert "Cannot fork" in (isolated_harness.directory / "err.txt").read_text()


@pytest.mark.parametrize("isolated_harness", ["log"], indirect=True)
def test_a_mount_that_appears_later(isolated_harness: LabHarness, mounts: Path) -> None:
    late = mounts / "late"
    late.mkdir(exist_ok=True)
    script = (
        f"touch started; for i in $(seq 600); do test -e {late}/file && exit 0; sleep 0.2; done; "
        "exit 9"
    )
    with isolated_harness.runner() as runner:
        invocation = isolated_harness.invocation(
            "late", script, in_place=True, container_options={"volumes": [str(mounts), _volume()]}
        )
        jobs = runner.submit([invocation])
        _wait_for(isolated_harness.directory / "started", runner)
        subprocess.run([*_ENV, "mount", "-t", "tmpfs", "late", late], check=True)
        (late / "file").touch()
        (job,) = runner.wait(jobs, TIMEOUT_S)
    assert job.outcome is not None
    assert job.outcome.ok, job.outcome


@pytest.mark.parametrize("isolated_harness", ["log"], indirect=True)
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image": "busybox:1"}, "isolation.images"),
        ({"container_options": {"network": "bridge"}}, "isolation.network"),
        ({"container_options": {"ptrace": True}}, "isolation.ptrace"),
        ({"container_options": {"shm_mb": 4000}}, "shm_mb"),
    ],
)
def test_what_a_job_is_refused(
    isolated_harness: LabHarness, fields: dict[str, object], message: str
) -> None:
    job = run(isolated_harness, **{"command": ["/bin/true"]} | fields)
    assert job.outcome is not None
    assert (job.outcome.kind, message in job.outcome.message) == (OutcomeKind.REFUSED, True)


@pytest.mark.parametrize("isolated_harness", ["log"], indirect=True)
def test_a_volume_on_request_is_only_for_jobs_that_name_it(
    isolated_harness: LabHarness, mounts: Path
) -> None:
    job = run(isolated_harness, shell=f"test ! -e {mounts}")
    assert job.outcome is not None
    assert job.outcome.ok, job.outcome


@pytest.mark.parametrize("isolated_harness", ["log"], indirect=True)
def test_images_that_cannot_be_pulled_keep_no_executor(
    isolated_harness: LabHarness, silent_registry: str
) -> None:
    with isolated_harness.runner() as runner:
        hopeless = runner.submit(
            [
                isolated_harness.invocation(
                    f"hopeless-{n}", "true", image=f"{silent_registry}/x:{n}"
                )
                for n in range(2)
            ]
        )
        submitted = time.monotonic()
        jobs = runner.submit([isolated_harness.invocation("good", "true")])
        (good,) = runner.wait(jobs, TIMEOUT_S)
        waited_s = time.monotonic() - submitted
        states = {job.id: job.state for job in runner.jobs()}
        runner.remove(hopeless, "the test is over")
    assert good.outcome is not None
    assert good.outcome.ok, good.outcome
    # The executor does not wait for the hopeless ones: they are held, and tried again later.
    assert not any(states[job.id].ended for job in hopeless)
    sys.stdout.write(f"the good job ended after {waited_s:.1f} s\n")


def test_images_are_pulled_and_removed_on_the_nodes(
    isolated: LabPool, registry: StubRegistry
) -> None:
    names = [f"{registry.repository}:{tag}" for tag in ("pulled", "used")]
    (report,) = isolated.provisioner.pull_images([*names, f"{registry.address}/nothing/there:1"])
    assert [image.name for image in report.images] == names
    assert len(report.problems) == 1
    assert isolated.provisioner.prune_images(3600)[0].images == ()
    (report,) = isolated.provisioner.prune_images(0)
    assert {image.name for image in report.images} >= set(names)


def _volume() -> str:
    return str(STATE_DIRECTORY / NAME / "volume")
