"""The pool's queries in a child process: the same answers, and an error when it hangs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from swarm_runner.condor.pool_query import JobQueryPort, PoolQueryPort
from swarm_runner.condor.pool_query_process import PoolQueryProcess
from swarm_runner.condor.slot_ads import slot_from_ad
from swarm_runner.errors import UnreachableError
from swarm_runner.model.job import JobId
from swarm_runner.model.pool_status import JobRun, ScheddStatistics
from swarm_runner.model.scaling import FinishedJob, IdleJobGroup
from swarm_runner.model.submitter import Submitter
from tests.polling import TIMEOUT_S

GROUP = IdleJobGroup(
    capacity_class="normal", count=3, memory_mb=1024, first_cluster=1, last_cluster=2
)
FINISHED = FinishedJob(capacity_class="normal", ended_s=5, job="1.0")
SUBMITTER = Submitter(name="alice", idle_jobs=2)
RUN = JobRun(job="1.0", task="t", job_type="tool", ended_s=5, runtime_s=1)
SLOT_AD = {"Name": "slot1@a", "SwarmTaskId": "t", "CapacityClass": "normal", "Cpus": 2.0}


class KnownPool:
    """A pool with known answers."""

    def __init__(self) -> None:
        self.removed = False

    def slot_ads(self) -> list[dict[str, Any]]:
        return [SLOT_AD]

    def count_unfinished(self) -> int:
        return 0 if self.removed else 7

    def running_ids(self) -> set[str]:
        return {"1.0"}

    def remove_all(self) -> None:
        self.removed = True

    def idle_jobs(self, *, by_submitter: bool = False) -> list[IdleJobGroup]:
        return [GROUP] * (2 if by_submitter else 1)

    def submitters(self) -> list[Submitter]:
        return [SUBMITTER]

    def recent_jobs(self, limit: int) -> list[FinishedJob]:
        return [FINISHED] * limit

    def recent_runs(self, since_s: float, limit: int) -> list[JobRun]:
        return [RUN] * limit if since_s < 10 else []

    def schedd_statistics(self) -> ScheddStatistics:
        return ScheddStatistics(held_jobs=2)

    def queued_jobs(self, limit: int) -> list[dict[str, Any]]:
        if limit == 0:
            time.sleep(600)
        return [{"ClusterId": n} for n in range(limit)]

    def find_job(self, job_id: JobId) -> dict[str, Any] | None:
        return {"ClusterId": job_id.cluster} if job_id.proc == 0 else None


@pytest.fixture
def query() -> Iterator[PoolQueryProcess]:
    factory: Any = KnownPool
    process = PoolQueryProcess(factory, timeout_s=TIMEOUT_S)
    yield process
    process.close()


def test_every_answer_arrives(query: PoolQueryProcess) -> None:
    port: PoolQueryPort = query
    jobs: JobQueryPort = query
    assert port.slots() == [slot_from_ad(SLOT_AD)]
    assert port.count_unfinished() == 7
    port.remove_all()
    assert port.count_unfinished() == 0
    assert port.running_ids() == {"1.0"}
    assert port.idle_jobs() == [GROUP]
    assert port.idle_jobs(by_submitter=True) == [GROUP] * 2
    assert port.submitters() == [SUBMITTER]
    assert port.recent_jobs(2) == [FINISHED] * 2
    assert port.recent_runs(1, 2) == [RUN] * 2
    assert port.recent_runs(11, 2) == []
    assert port.schedd_statistics() == ScheddStatistics(held_jobs=2)
    assert jobs.queued_jobs(2) == [{"ClusterId": 0}, {"ClusterId": 1}]
    assert jobs.find_job(JobId(4, 0)) == {"ClusterId": 4}
    assert jobs.find_job(JobId(4, 1)) is None


def test_a_pool_that_hangs_is_unreachable(query: PoolQueryProcess) -> None:
    query._timeout_s = 0.5
    with pytest.raises(UnreachableError, match="no response within 0 s"):
        query.queued_jobs(0)
    query._timeout_s = TIMEOUT_S
    assert query.running_ids() == {"1.0"}
