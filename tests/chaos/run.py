"""Jobs in a storm, and the account of what it cost them."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import docker

from swarm_runner import Runner
from swarm_runner.condor.access_point import AccessPoint
from swarm_runner.condor.connection import token_file
from swarm_runner.condor.ports import JobQuery
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.job import JobEvent
from swarm_runner.model.pool import Destination, Pool
from swarm_runner.provisioner import Provisioner
from swarm_runner.swarm.client import DockerSwarm
from tests.chaos.storm import CALL_TIMEOUT_S, DRAINED_HOST, MAX_REPLICAS, Storm, set_availability
from tests.lab.hosts.images import pool_image
from tests.lab.hosts.layout import SHARED, nodes

NAME = "swarm-runner-chaos"
PORT = 9629
STATE_DIRECTORY = Path(__file__).parents[2] / ".state" / "lab" / NAME
TIMEOUT_S = 800.0
SCALING_PAUSE_S = 7.0
# Code 1021 (HTCondor, condor_holdcodes.h), as job ads call it.
CONTAINER_ERROR = "ContainerError"
# HTCondor counts a match that is given back before the command began as a vacate, too.
VACATE_PROJECTION = ("NumJobStarts", "NumVacates", "NumVacatesPreExecution", "NumVacatesByReason")


@dataclass(frozen=True, slots=True)
class ChaosReport:
    """What the storm cost.

    `evictions` is by the event log, `started_again` by the job ads and by what the jobs wrote
    themselves, `vacates` by the job ads, `container_errors` those of code 1021 among them.
    `given_back` are matches that ended before a command began, which costs nothing but time.
    """

    seed: int
    jobs: int
    done: int
    evictions: int
    started_again: int
    vacates: int
    container_errors: int
    given_back: int
    scalings: int
    duration_s: float


def lossless(report: ChaosReport) -> bool:
    """Whether every job is done, and none was started twice or thrown out."""
    cost = (report.evictions, report.started_again, report.vacates, report.container_errors)
    return report.done == report.jobs and not any(cost)


def run(seed: int, jobs: int, scalings: int, progress: Callable[[str], None]) -> ChaosReport:
    """A pool on the lab's hosts, which must be up; jobs of 1 to 20 s, and the storm."""
    leader = nodes()[0]
    pool = _pool(leader.address)
    with (
        contextlib.closing(
            docker.DockerClient(leader.docker_host, timeout=CALL_TIMEOUT_S)
        ) as engine,
        _running_pool(engine, pool),
        _job_directory() as directory,
    ):
        destination = _destination(pool)
        name = directory.name
        storm = Storm(
            leader.docker_host, pool, _provisioner, seed, scalings, SCALING_PAUSE_S, progress
        )
        began = time.monotonic()
        evictions = done = 0
        with Runner(destination, name=name) as runner, storm.running():
            runner.submit(_invocations(Random(seed), directory, jobs))  # noqa: S311
            for change in runner.watch(TIMEOUT_S):
                if change.event is JobEvent.EVICTED:
                    evictions += 1
                    progress(f"{change.job.id} was evicted: {change.reason}")
                elif change.event is JobEvent.ENDED:
                    done += bool(change.job.outcome and change.job.outcome.ok)
                    if done % 50 == 0:
                        progress(f"{done} of {jobs} jobs done")
        access_point = AccessPoint.connect(pool, destination.token_directory)
        ads = access_point.history(JobQuery(runner_name=name), VACATE_PROJECTION)
        by_themselves = {file.name: len(file.read_text()) for file in directory.iterdir()}
        again = max(
            sum(ad.get("NumJobStarts", 0) > 1 for ad in ads),
            sum(starts > 1 for starts in by_themselves.values()),
        )
        reasons = [ad.get("NumVacatesByReason", {}) for ad in ads]
        given_back = sum(ad.get("NumVacatesPreExecution", 0) for ad in ads)
        return ChaosReport(
            seed=seed,
            jobs=jobs,
            done=min(done, len(by_themselves), len(ads)),
            evictions=evictions,
            started_again=again,
            vacates=sum(ad.get("NumVacates", 0) for ad in ads) - given_back,
            container_errors=sum(reason.get(CONTAINER_ERROR, 0) for reason in reasons),
            given_back=given_back,
            scalings=scalings,
            duration_s=time.monotonic() - began,
        )


def _invocations(random: Random, directory: Path, jobs: int) -> list[Invocation]:
    return [
        Invocation(
            key=f"{directory.name}-{number}",
            image="debian:trixie",
            # A letter for each start.
            shell=f"printf x >>{number}; sleep {random.randint(1, 20)}",
            resources={"memory_mb": random.choice((64, 64, 64, 64, 64, 300))},
            working_directory=str(directory),
            in_place=True,
        )
        for number in range(jobs)
    ]


@contextlib.contextmanager
def _running_pool(client: docker.DockerClient, pool: Pool) -> Iterator[None]:
    set_availability(client, DRAINED_HOST, "active")
    provisioner = _provisioner(client, pool)
    provisioner.down(force=True)
    try:
        provisioner.up()
        yield
    finally:
        provisioner.down(force=True)


@contextlib.contextmanager
def _job_directory() -> Iterator[Path]:
    directory = SHARED / f"chaos-{uuid.uuid4().hex[:12]}"
    directory.mkdir()
    directory.chmod(0o1777)  # jobs run as a user of their own
    yield directory


def _provisioner(client: docker.DockerClient, pool: Pool) -> Provisioner:
    tokens = _destination(pool).token_directory
    access_point = AccessPoint.connect(pool, tokens)
    return Provisioner(pool, DockerSwarm(client), access_point, token_file(pool.name, tokens))


def _destination(pool: Pool) -> Destination:
    return Destination(
        pool=pool,
        state_directory=str(SHARED / "state"),
        token_directory=str(STATE_DIRECTORY / "tokens.d"),
    )


def _pool(address: str) -> Pool:
    shape = {"normal": {"cpus": 2, "memory_mb": 256}, "big": {"cpus": 1, "memory_mb": 512}}
    classes = {
        name: {**shape[name], "replicas": MAX_REPLICAS[name], "max_replicas": MAX_REPLICAS[name]}
        for name in shape
    }
    return Pool.model_validate(
        {
            "name": NAME,
            "image": pool_image(),
            "host": address,
            "port": PORT,
            "volumes": [str(SHARED)],
            "classes": classes,
        }
    )
