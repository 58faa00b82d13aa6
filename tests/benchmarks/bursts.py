"""Start of a burst on an empty pool, with the autoscaler and after scaling by hand."""

from __future__ import annotations

import statistics
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from swarm_runner.condor.pool_query import PoolQuery
from swarm_runner.hooks.manager import Hooks
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.pool import Pool
from swarm_runner.model.resources import Resources
from swarm_runner.provisioner import Autoscaler
from swarm_runner.runner import Runner
from swarm_runner.swarm.client import DockerSwarm
from tests.benchmarks.measurement import Measurement
from tests.lab.pool import LabPool

ROUNDS = 7
JOBS = 4
EXECUTORS = 4
TIMEOUT_S = 120.0
CLASS_NAME = "normal"


def measurements(lab: LabPool) -> list[Measurement]:
    """Measure alternately the seconds from the submit to the first start; compare the medians."""
    by_hand, autoscaled = [], []
    for _ in range(ROUNDS):
        by_hand.append(_first_start_s(lab, by_hand=True))
        autoscaled.append(_first_start_s(lab, by_hand=False))
    by_hand_s, autoscaled_s = statistics.median(by_hand), statistics.median(autoscaled)
    return [
        Measurement(
            "i",
            f"a burst of {JOBS} jobs on an empty class, until the first runs; median of {ROUNDS}",
            f"autoscaler: {autoscaled_s:.1f} s ({min(autoscaled):.1f} to {max(autoscaled):.1f})",
            f"scaled by hand: {by_hand_s:.1f} s ({min(by_hand):.1f} to {max(by_hand):.1f})",
            autoscaled_s / by_hand_s,
            "x",
            "at most",
            1.3,
        )
    ]


def _first_start_s(lab: LabPool, *, by_hand: bool) -> float:
    lab.provisioner.scale({CLASS_NAME: 0}, timeout_s=TIMEOUT_S)
    pool = _scalable_pool(lab.destination.pool)
    with (
        Runner(lab.destination, name=f"burst-{uuid.uuid4().hex[:8]}") as runner,
        nullcontext() if by_hand else _autoscaler(lab, pool),
    ):
        # Runner and autoscaler connect and make their first observation before the burst.
        runner.jobs()
        time.sleep(5)
        submitted_at = time.time()
        if by_hand:
            DockerSwarm().scale_service(pool.service(CLASS_NAME), EXECUTORS)
        jobs = runner.submit([_invocation(lab) for _ in range(JOBS)])
        finished = runner.wait(jobs, TIMEOUT_S)
    starts = [job.started_at for job in finished if job.started_at is not None]
    if len(starts) != JOBS:
        raise RuntimeError(f"{len(starts)} of {JOBS} jobs ran within {TIMEOUT_S:.0f} s")
    return min(starts) - submitted_at


def _invocation(lab: LabPool) -> Invocation:
    return Invocation(
        image="debian:trixie",
        command=("sleep", "2"),
        resources=Resources(memory_mb=600),  # an executor has memory for one
        working_directory=str(lab.volume),
        capacity_class=CLASS_NAME,
    )


def _scalable_pool(pool: Pool) -> Pool:
    capacity_class = pool.classes[CLASS_NAME].model_copy(
        update={"min_replicas": 0, "replicas": 0, "max_replicas": EXECUTORS}
    )
    return pool.model_copy(update={"classes": {CLASS_NAME: capacity_class}})


@contextmanager
def _autoscaler(lab: LabPool, pool: Pool) -> Iterator[None]:
    stop = threading.Event()
    access_point = PoolQuery.connect(pool, lab.destination.token_directory)
    autoscaler = Autoscaler(pool, DockerSwarm(), access_point, Hooks())
    thread = threading.Thread(target=autoscaler.run, args=(lambda _record: None, stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
