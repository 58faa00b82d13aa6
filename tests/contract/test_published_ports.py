"""Published ports: a suite for a fake access point and a real pool, and what only the latter has.

It prints how long after its start a job is reached, and after its removal its slot is free.
"""

from __future__ import annotations

import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest

from swarm_runner.condor.access_point import AccessPoint
from swarm_runner.condor.ports import AccessPointPort
from swarm_runner.errors import InvalidInputError
from swarm_runner.hooks.specs import hookimpl
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.job import Job, JobState, OutcomeKind
from swarm_runner.model.pool import Destination, Pool
from swarm_runner.model.pool_status import Slot
from swarm_runner.model.published_port import PublishedPort
from swarm_runner.runner import Runner
from swarm_runner.testing import FakeAccessPoint
from tests.lab.pool import LabPool, lab_pool
from tests.polling import TIMEOUT_S, poll_until

NAME, PORT = "swarm-runner-ports", 9761
SETTINGS = {
    "classes": {
        "normal": {"cpus": 3, "memory_mb": 512, "replicas": 1},
        "closed": {
            "cpus": 1,
            "memory_mb": 600,
            "replicas": 0,
            "isolation": {"ports": "none"},
        },
    },
    "isolation": {"ports": "loopback", "host_ports": "31000-31001", "networks": ["bridge"]},
}
HOST_PORTS = range(31_000, 31_002)
# A web server of what every Debian has. It answers with the number of its requests.
SERVER = r"""
exec perl -MIO::Socket::INET -e '
    $server = IO::Socket::INET->new(LocalPort => 8888, Listen => 5, ReuseAddr => 1) or die $!;
    while ($client = $server->accept) {
        <$client>; $n++; print $client "HTTP/1.0 200 OK\r\n\r\nrequest $n"; close $client;
    }'
"""
OPTIONS = {"network": "bridge", "ports": {"web": 8888}}


@pytest.fixture(scope="module")
def ports_pool() -> Iterator[LabPool]:
    with lab_pool(NAME, PORT, SETTINGS) as lab:
        yield lab


@dataclass
class Harness:
    """A runner, and what makes its jobs go on if nothing else does."""

    runner: Runner
    access_point: AccessPointPort
    directory: Path

    def submit(self, key: str, shell: str = SERVER, **fields: object) -> Job:
        (job,) = self.runner.submit([self.invocation(key, shell, **fields)])
        return job

    def invocation(self, key: str, shell: str, **fields: object) -> Invocation:
        given = {
            "key": key,
            "image": "debian:trixie",
            "shell": shell,
            "working_directory": str(self.directory),
            "resources": {"memory_mb": 100, "disk_mb": 50},
            "container_options": OPTIONS,
        }
        return Invocation.model_validate(given | fields)

    def until(self, job: Job, condition: Callable[[Job], object]) -> Job:
        def observe() -> Job:
            self.runner.poll()
            (found,) = self.runner.find(job.key)
            return found

        return poll_until(observe, condition, interval_s=0.1)

    def start(self, job: Job) -> tuple[PublishedPort, ...]:
        """Return where the job's ports are once it runs."""
        if isinstance(self.access_point, FakeAccessPoint):
            self.access_point.start(job.id)
            self.access_point.publish_ports(job.id, "127.0.0.1", 31_000)
        self.until(job, lambda found: found.state is JobState.RUNNING)
        published = poll_until(lambda: self.runner.published_ports([job]), interval_s=0.1)
        return published[job.id]


@pytest.fixture(params=["fake", "real"])
def harness(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Harness]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    if request.param == "fake":
        volume = tmp_path / "volume"
        volume.mkdir()
        pool = Pool.model_validate(SETTINGS | {"volumes": [str(volume)]})
        destination, access_point = Destination(pool=pool), FakeAccessPoint()
        with Runner(destination, name=request.node.name[:20], access_point=access_point) as runner:
            yield Harness(runner, access_point, volume)
        return
    yield from _real(request.getfixturevalue("ports_pool"))


@pytest.fixture
def real(ports_pool: LabPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Harness]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    yield from _real(ports_pool)


def _real(lab: LabPool, *plugins: object) -> Iterator[Harness]:
    destination = lab.destination
    access_point = AccessPoint.connect(destination.pool, destination.token_directory)
    name = f"ports-{time.monotonic_ns()}"
    with Runner(destination, name=name, access_point=access_point, plugins=plugins) as runner:
        yield Harness(runner, access_point, lab.volume)
        runner.remove_all("the test is over")
        runner.wait(timeout_s=TIMEOUT_S)


def test_a_running_job_says_where_its_ports_are(harness: Harness) -> None:
    job = harness.submit("job")
    assert harness.runner.published_ports([job]) == {}
    (port,) = harness.start(job)
    assert (port.name, port.container_port, port.host) == ("web", 8888, "127.0.0.1")
    assert port.port in HOST_PORTS
    assert harness.runner.explain(job).details == (
        f"port 8888 (web) is published at {port.address}",
    )
    harness.runner.remove([job])
    harness.until(job, lambda found: found.state.ended)
    assert harness.runner.published_ports([job]) == {}


def test_a_class_that_publishes_none_refuses_the_job(harness: Harness) -> None:
    with pytest.raises(InvalidInputError, match=r"isolation\.ports"):
        harness.submit("job", capacity_class="closed")
    options = {"ports": {"web": 8888}}
    with pytest.raises(InvalidInputError, match="network none"):
        harness.submit("job", container_options=options)


def test_it_is_reached_there_and_its_slot_is_soon_free(real: Harness) -> None:
    job = real.submit("job")
    real.until(job, lambda found: found.state is JobState.RUNNING)
    started = time.monotonic()
    (port,) = poll_until(lambda: real.runner.published_ports([job]), interval_s=0.1)[job.id]
    known_s = time.monotonic() - started
    text = poll_until(lambda: _get(port), interval_s=0.1, retry_on=(OSError,))
    reached_s = time.monotonic() - started
    assert text == "request 1"
    client = docker.from_env()
    # Jobs of another pool may run on the same engine.
    labels = ["org.htcondorproject", f"swarm-runner.pool={NAME}"]
    filters: dict[str, str | list[str] | bool] = {"label": labels}
    bindings = [container.ports for container in client.containers.list(filters=filters)]
    client.close()
    # On no other address of the node, and nothing else.
    assert bindings == [{"8888/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(port.port)}]}]
    poll_until(lambda: _slots_in_use(real), interval_s=0.1)  # the collector knows a moment later
    removed = time.monotonic()
    real.runner.remove([job])
    poll_until(lambda: _slots_in_use(real), lambda found: not found, interval_s=0.1)
    freed_s = time.monotonic() - removed
    with pytest.raises(OSError, match=r"refused|reset|closed"):
        _get(port)
    sys.stdout.write(
        f"published port: known {known_s:.1f} s after the start of the job, reached after "
        f"{reached_s:.1f} s; its slot was free {freed_s:.1f} s after the removal\n"
    )


def test_htcondor_itself_learns_the_port(real: Harness) -> None:
    """Its starter asks the engine; we answer. It writes the port to the job's own ad."""
    script = (
        'for n in $(seq 600); do grep ^web_HostPort "$_CONDOR_JOB_AD" && break; sleep 0.2; done'
    )
    job = real.submit("job", script, stdout="ports.txt")
    real.until(job, lambda found: found.state.ended)
    name, _, number = (real.directory / "ports.txt").read_text().partition(" = ")
    assert (name, int(number) in HOST_PORTS) == ("web_HostPort", True)


def test_a_node_without_a_free_port(real: Harness) -> None:
    """The job waits for one; the others go on."""
    others = [real.submit(f"other-{number}") for number in HOST_PORTS]
    ports = [real.start(job)[0].port for job in others]
    assert sorted(ports) == list(HOST_PORTS)
    late = real.until(real.submit("late"), lambda found: found.state is JobState.HELD)
    assert "ports are allocated" in str(real.runner.explain(late))
    first, *rest = others
    real.runner.remove([first])
    real.until(late, lambda found: found.state is JobState.RUNNING)
    keys = {job.key for job in rest}
    assert {job.state for job in real.runner.jobs() if job.key in keys} == {JobState.RUNNING}


class Amend:
    """A plugin that changes submit commands, as a raw client may."""

    def __init__(self, **commands: str) -> None:
        self._commands = commands

    @hookimpl
    def swarm_runner_amend_submit(self) -> Mapping[str, str]:
        return self._commands


@pytest.mark.parametrize(
    ("commands", "expected"),
    [
        ({"web_container_port": "22"}, "asks for the ports '22' in its ad, and for '8888'"),
        ({"docker_network_type": "none"}, "network none"),
    ],
)
def test_the_gateway_refuses_what_the_job_did_not_ask_for(
    ports_pool: LabPool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    commands: dict[str, str],
    expected: str,
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for harness in _real(ports_pool, Amend(**commands)):
        job = harness.until(harness.submit("job"), lambda found: found.state.ended)
        assert job.outcome is not None
        assert job.outcome.kind is OutcomeKind.REFUSED
        assert expected in job.outcome.message


def _get(port: PublishedPort) -> str:
    with urllib.request.urlopen(f"http://{port.address}/", timeout=10) as response:
        return str(response.read().decode())


def _slots_in_use(harness: Harness) -> list[Slot]:
    return [slot for slot in harness.access_point.slots() if not slot.partitionable]
