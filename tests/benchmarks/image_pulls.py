"""Pulls of an image that many jobs want, and what jobs wait behind images that cannot be pulled."""

from __future__ import annotations

import contextlib
import socket
import statistics
import uuid
from collections.abc import Iterator
from http import HTTPStatus

import docker

from swarm_runner.model.invocation import Invocation
from swarm_runner.model.job import Job
from swarm_runner.runner import Runner
from tests.benchmarks.measurement import Measurement
from tests.lab.pool import LabPool
from tests.lab.stub_registry import PROGRAM, StubRegistry

JOBS = 100
# One for each executor. The slots that they leave are matched in the next negotiation cycle.
HOPELESS_JOBS = 5
GOOD_JOBS = 5
ROUNDS = 3
TIMEOUT_S = 300.0
RESOURCES = {"memory_mb": 100, "disk_mb": 50}


def measurements(lab: LabPool) -> list[Measurement]:
    """Measure both on the pool of small_jobs.py, with a registry that counts."""
    with StubRegistry().running() as registry:
        requests_of_a_pull = _pull_alone(registry)
        requests = _pull_for_jobs(lab, registry)
        rounds = [_wait_alone_and_behind_s(lab, registry, f"missing-{n}") for n in range(ROUNDS)]
    alone_s, behind_s = (statistics.median(waits) for waits in zip(*rounds, strict=True))
    return [
        Measurement(
            "iv",
            f"{JOBS} jobs of one image that is not on the node",
            f"{requests} requests for its manifest",
            f"docker pull: {requests_of_a_pull}",
            requests / requests_of_a_pull,
            "pulls",
            "at most",
            1.0,
        ),
        Measurement(
            "iv",
            f"{GOOD_JOBS} jobs behind {HOPELESS_JOBS} of two images that are not available: wait",
            f"{behind_s:.0f} s",
            f"without those: {alone_s:.0f} s",
            behind_s - alone_s,
            "s",
            "at most",
            5.0,
        ),
    ]


@contextlib.contextmanager
def _unresponsive_registry() -> Iterator[str]:
    """Yield the address of a registry that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def _wait_alone_and_behind_s(lab: LabPool, registry: StubRegistry, tag: str) -> tuple[float, float]:
    """Return the wait of good jobs alone, and behind jobs of two images that are not available."""
    registry.statuses[tag] = HTTPStatus.NOT_FOUND
    alone_s = _longest_start_s(lab, [])
    with _unresponsive_registry() as unresponsive:
        hopeless = [f"{unresponsive}/none:1", f"{registry.repository}:{tag}"]
        return alone_s, _longest_start_s(lab, hopeless)


def _pull_alone(registry: StubRegistry) -> int:
    """Pull and remove the image; count the requests for its manifest."""
    with contextlib.closing(docker.from_env()) as client:
        client.images.pull(registry.repository, tag="alone")
        client.images.remove(f"{registry.repository}:alone")
    return _manifest_requests(registry, "alone")


def _pull_for_jobs(lab: LabPool, registry: StubRegistry) -> int:
    image = f"{registry.repository}:wanted"
    with Runner(lab.destination, name=f"pulls-{uuid.uuid4().hex[:8]}") as runner:
        jobs = runner.submit(_invocation(lab, image, PROGRAM) for _ in range(JOBS))
        _check(runner.wait(jobs, TIMEOUT_S))
    return _manifest_requests(registry, "wanted")


def _manifest_requests(registry: StubRegistry, tag: str) -> int:
    return sum(path.endswith(f"/manifests/{tag}") for path in registry.requests)


def _longest_start_s(lab: LabPool, hopeless: list[str]) -> float:
    """Return the longest wait of some good jobs, behind jobs of those images."""
    with Runner(lab.destination, name=f"waits-{uuid.uuid4().hex[:8]}") as runner:
        runner.submit(
            _invocation(lab, hopeless[number % len(hopeless)], "/bin/true")
            for number in range(HOPELESS_JOBS if hopeless else 0)
        )
        jobs = runner.submit(
            _invocation(lab, "debian:trixie", "/bin/true") for _ in range(GOOD_JOBS)
        )
        ended = runner.wait(jobs, TIMEOUT_S)
        runner.remove_all("measured")
    _check(ended)
    return max((job.started_at or 0) - (job.submitted_at or 0) for job in ended)


def _invocation(lab: LabPool, image: str, program: str) -> Invocation:
    return Invocation.model_validate(
        {
            "image": image,
            "command": [program],
            "resources": RESOURCES,
            "working_directory": str(lab.volume),
        }
    )


def _check(jobs: list[Job]) -> None:
    bad = [job for job in jobs if job.outcome is None or not job.outcome.ok]
    if bad:
        raise RuntimeError(f"{len(bad)} of {len(jobs)} jobs failed: {bad[0].outcome}")
