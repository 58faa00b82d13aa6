"""Jobs in a storm, and a report of what it cost them."""

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
from swarm_runner.condor.pool_query import PoolQuery
from swarm_runner.condor.ports import JobQuery
from swarm_runner.condor.tokens import token_file
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.job import JobEvent
from swarm_runner.model.pool import Destination, Pool
from swarm_runner.provisioner import Provisioner
from swarm_runner.swarm.client import DockerSwarm
from tests.chaos.storm import CALL_TIMEOUT_S, DRAINED_HOST, MAX_REPLICAS, Storm, set_availability
from tests.lab.hosts.images import pool_image
from tests.lab.hosts.layout import SHARED, nodes
from tests.polling import poll_until

NAME = "swarm-runner-chaos"
PORT = 9629
STATE_DIRECTORY = Path(__file__).parents[2] / ".state" / "lab" / NAME
TIMEOUT_S = 800.0
SCALING_PAUSE_S = 7.0
# The name of code 1021 in job ads (HTCondor, condor_holdcodes.h).
CONTAINER_ERROR = "ContainerError"
# HTCondor also counts a claim that is released before the command starts as a vacate.
VACATE_PROJECTION = ("NumJobStarts", "NumVacates", "NumVacatesPreExecution", "NumVacatesByReason")


@dataclass(frozen=True, slots=True)
class ChaosReport:
    """What the storm cost.

    `evictions` are counted in the event log, and `started_again` in the job ads and in the files
    that the jobs wrote. `vacates` are counted in the job ads; `container_errors` are those with
    code 1021. `given_back` are vacates before a command started, which cost only time.
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
    """Return whether every job is done, and none was evicted or started twice."""
    cost = (report.evictions, report.started_again, report.vacates, report.container_errors)
    return report.done == report.jobs and not any(cost)


def run(seed: int, jobs: int, scalings: int, progress: Callable[[str], None]) -> ChaosReport:
    """Run jobs of 1 to 20 s and the storm on a new pool. The lab's hosts must be up."""
    leader = nodes()[0]
    pool = _pool(leader.address)
    with (
        contextlib.closing(
            docker.DockerClient(leader.docker_host, timeout=CALL_TIMEOUT_S)
        ) as client,
        _running_pool(client, pool),
        _job_directory() as directory,
    ):
        destination = _destination(pool)
        name = directory.name
        storm = Storm(
            leader.docker_host, pool, _provisioner, seed, scalings, SCALING_PAUSE_S, progress
        )
        started_at = time.monotonic()
        evictions = ended = done = 0
        with Runner(destination, name=name) as runner, storm.running():
            runner.submit(_invocations(Random(seed), directory, jobs))  # noqa: S311
            for change in runner.watch(TIMEOUT_S):
                if change.event is JobEvent.EVICTED:
                    evictions += 1
                    progress(f"{change.job.id} was evicted: {change.reason}")
                elif change.event is JobEvent.ENDED:
                    ended += 1
                    done += bool(change.job.outcome and change.job.outcome.ok)
                    if done % 50 == 0:
                        progress(f"{done} of {jobs} jobs done")
        access_point = PoolQuery.connect(pool, destination.token_directory)
        query = JobQuery(runner_name=name)
        expected = ended
        ads = poll_until(
            lambda: access_point.history(query, VACATE_PROJECTION),
            lambda found: len(found) >= expected,
        )
        start_counts = {file.name: len(file.read_text()) for file in directory.iterdir()}
        started_again = max(
            sum(ad.get("NumJobStarts", 0) > 1 for ad in ads),
            sum(starts > 1 for starts in start_counts.values()),
        )
        reasons = [ad.get("NumVacatesByReason", {}) for ad in ads]
        given_back = sum(ad.get("NumVacatesPreExecution", 0) for ad in ads)
        return ChaosReport(
            seed=seed,
            jobs=jobs,
            done=min(done, len(start_counts), len(ads)),
            evictions=evictions,
            started_again=started_again,
            vacates=sum(ad.get("NumVacates", 0) for ad in ads) - given_back,
            container_errors=sum(reason.get(CONTAINER_ERROR, 0) for reason in reasons),
            given_back=given_back,
            scalings=scalings,
            duration_s=time.monotonic() - started_at,
        )


def _invocations(random: Random, directory: Path, jobs: int) -> list[Invocation]:
    return [
        Invocation(
            key=f"{directory.name}-{number}",
            image="debian:trixie",
            # One letter for each start.
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
    directory.chmod(0o1777)  # the jobs' user writes here
    yield directory


def _provisioner(client: docker.DockerClient, pool: Pool) -> Provisioner:
    tokens = _destination(pool).token_directory
    access_point = PoolQuery.connect(pool, tokens)
    return Provisioner(pool, DockerSwarm(client), access_point, token_file(pool.name, tokens))


def _destination(pool: Pool) -> Destination:
    return Destination(
        pool=pool,
        state_directory=str(SHARED / "state"),
        token_directory=str(STATE_DIRECTORY / "tokens.d"),
    )


def _pool(address: str) -> Pool:
    sizes = {"normal": {"cpus": 2, "memory_mb": 256}, "big": {"cpus": 1, "memory_mb": 512}}
    classes = {
        name: {**size, "replicas": MAX_REPLICAS[name], "max_replicas": MAX_REPLICAS[name]}
        for name, size in sizes.items()
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
