"""The metrics of a pool on a Swarm in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from swarm_runner.hooks.manager import Hooks
from swarm_runner.metrics.pool_metrics import HISTOGRAMS_OF_CLASSES, PoolMetrics
from swarm_runner.model.pool import CapacityClass, Pool
from swarm_runner.model.pool_status import ScheddStatistics
from swarm_runner.model.scaling import FinishedJob, IdleJobGroup
from swarm_runner.provisioner import Autoscaler, Provisioner
from swarm_runner.testing.swarm import FakeSwarm

# FakeSwarm's tasks are created at the beginning of 2026.
START_S = 1767225600.0
POOL = Pool(
    name="galaxy",
    classes={
        "normal": CapacityClass(cpus=2, memory_mb=1024, replicas=0, max_replicas=5),
        "big": CapacityClass(memory_mb=2048, replicas=1, min_replicas=0),
    },
)


class Harness:
    """A pool, its autoscaler, and the metrics that it fills."""

    def __init__(self, directory: Path) -> None:
        self.now = START_S
        self.swarm = FakeSwarm()
        Provisioner(POOL, self.swarm, self.swarm, directory / "token", poll_interval_s=0.001).up()
        self.metrics = PoolMetrics(POOL, self.swarm.schedd_statistics, clock=lambda: self.now)
        self.autoscaler = Autoscaler(
            POOL,
            self.swarm,
            self.swarm,
            Hooks(installed=False),
            clock=lambda: self.now,
            on_round=self.metrics.record_round,
        )

    def run_once(self, later_s: float = 5) -> None:
        self.now += later_s
        self.autoscaler.run_once()

    def value(self, name: str, *labels: str) -> float | None:
        (family,) = [f for f in self.metrics.store.families() if f.definition.name == name]
        return family.values.get(labels)

    def observations(self, name: str, *labels: str) -> tuple[int, float]:
        (family,) = [f for f in self.metrics.store.families() if f.definition.name == name]
        histogram = family.histograms.get(labels)
        assert histogram is not None, f"{name} has no series {labels}"
        return sum(histogram.counts), histogram.total

    def submit(self, count: int, capacity_class: str = "normal") -> None:
        jobs = IdleJobGroup(
            capacity_class=capacity_class,
            count=count,
            memory_mb=100,
            first_cluster=1,
            last_cluster=1,
        )
        self.swarm.idle_job_groups.append(jobs)

    def finish(self, job: str, **fields: Any) -> None:
        defaults = {"capacity_class": "normal", "ended_s": self.now, "starts": 1}
        self.swarm.finished_jobs.insert(0, FinishedJob(job=job, **(defaults | fields)))


@pytest.fixture
def harness(tmp_path: Path) -> Harness:
    return Harness(tmp_path)


def test_the_queue_and_the_scaling_that_it_causes(harness: Harness) -> None:
    harness.submit(3)
    harness.submit(4, "")
    harness.swarm.schedd = ScheddStatistics(held_jobs=2, duty_cycle=0.5)

    harness.run_once()

    assert harness.value("jobs", "normal", "idle") == 3
    assert harness.value("jobs", "", "held") == 2
    assert harness.value("jobs_unmatchable") == 4
    assert harness.value("scalings_total", "normal", "up") == 1
    assert harness.value("scalings_total", "normal", "down") == 0
    assert harness.value("frozen", "normal") == 0
    assert harness.value("schedd_duty_cycle_ratio") == 0.5
    harness.run_once(later_s=60)
    assert harness.value("oldest_idle_seconds", "normal") == 60


def test_executors_and_their_slots(harness: Harness) -> None:
    harness.submit(2)
    harness.run_once()
    harness.swarm.unresponsive = {"swarm-runner-pool:fake"}  # not advertised yet
    harness.run_once()
    harness.swarm.unresponsive = set()
    harness.run_once()
    running = [t for t in harness.swarm.tasks("galaxy") if t.service == POOL.service("normal")]
    desired = harness.value("executors_desired", "normal")

    assert desired == len(running) > 0
    assert harness.value("executors", "normal", "idle") == desired
    assert harness.value("slot_cpus", "normal", "free") == 2 * desired
    assert harness.value("slot_memory_bytes", "normal", "free") == desired * 1024 * 2**20
    assert harness.observations("executor_start_seconds", "normal")[0] == desired
    assert harness.value("executors_max", "normal") == 5
    assert harness.value("executors_max", "big") is None


def test_pulls_of_images_are_counted_from_the_first_round_on(harness: Harness) -> None:
    def pulls() -> tuple[float | None, float | None]:
        name = "image_pulls_total"
        return harness.value(name, "succeeded"), harness.value(name, "failed")

    (first,) = [task.id for task, _ in harness.swarm.running_executors()]
    harness.swarm.image_pulls[first] = (5, 2)
    harness.run_once()
    assert pulls() == (0, 0)
    harness.swarm.image_pulls[first] = (6, 4)
    harness.run_once()
    assert pulls() == (1, 2)

    harness.submit(2)
    harness.run_once()
    new = [task.id for task, _ in harness.swarm.running_executors() if task.id != first]
    harness.swarm.image_pulls |= dict.fromkeys(new, (1, 0))
    harness.run_once()
    assert pulls() == (1 + len(new), 2)
    harness.run_once()
    assert pulls() == (1 + len(new), 2)

    harness.swarm.unresponsive = {first}  # its ad is missing for a while
    harness.run_once()
    harness.run_once()
    harness.swarm.unresponsive = set()
    harness.run_once()
    assert pulls() == (1 + len(new), 2)

    harness.swarm.image_pulls[first] = (1, 0)  # its gateway was started again
    harness.run_once()
    assert pulls() == (2 + len(new), 2)


def test_series_are_there_before_the_first_job_ends(harness: Harness) -> None:
    for name in HISTOGRAMS_OF_CLASSES:
        for capacity_class in POOL.classes:
            assert harness.observations(name, capacity_class) == (0, 0.0)
    assert harness.value("job_vacates_total", "JobOutOfResources") == 0


def test_a_job_that_ended_counts_once_and_an_earlier_one_does_not(harness: Harness) -> None:
    harness.finish("1.0", runtime_s=50)
    harness.run_once()
    harness.finish(
        "2.0",
        runtime_s=40,
        wait_s=7,
        starts=3,
        outcome="failed",
        memory_used_ratio=0.5,
        holds={"TransferInputError": 2, "SpoolingInput": 1, "NewInHTCondor26": 1},
        vacates={"JobOutOfResources": 2, "TransferInputErrorCedar": 2, "TransferInputError": 2},
    )
    harness.run_once()
    harness.run_once()

    assert harness.value("jobs_finished_total", "normal", "failed") == 1
    assert harness.value("jobs_finished_total", "normal", "succeeded") == 0
    assert harness.value("job_starts_total", "normal") == 3
    assert harness.observations("job_execute_seconds", "normal") == (1, 40)
    assert harness.observations("job_wait_seconds", "normal") == (1, 7)
    assert harness.observations("job_memory_used_ratio", "normal") == (1, 0.5)
    assert harness.value("holds_total", "TransferInputError") == 2
    assert harness.value("holds_total", "SpoolingInput") is None
    assert harness.value("holds_total", "other") == 1
    assert harness.value("job_vacates_total", "TransferInputError") == 2
    assert harness.value("job_vacates_total", "other") == 0
    assert harness.value("memory_escalations_total", "normal") == 2


def test_refusals_and_the_space_of_the_spool(harness: Harness) -> None:
    harness.run_once()
    assert harness.value("disk_free_bytes") is None
    assert harness.value("refusals_total", "network") == 0
    harness.finish("1.0", outcome="removed", refused_by="network")
    harness.finish("2.0")
    harness.swarm.schedd = ScheddStatistics(spool_free_bytes=10, spool_size_bytes=100)
    harness.run_once(later_s=20)
    harness.run_once(later_s=20)

    assert harness.value("refusals_total", "network") == 1
    assert harness.value("refusals_total", "other") == 0
    assert harness.value("disk_free_bytes") == 10
    assert harness.value("disk_size_bytes") == 100


def test_a_class_that_is_not_configured_adds_no_series(harness: Harness) -> None:
    harness.run_once()
    for number in range(50):
        harness.finish(f"{number}.0", capacity_class=f"old-{number}")
    harness.run_once()

    assert harness.value("jobs_finished_total", "", "succeeded") == 50


def test_what_does_not_answer_keeps_its_last_values_and_freezes(harness: Harness) -> None:
    harness.submit(3)
    harness.run_once()
    answered_s = harness.now
    harness.swarm.accept_token = False
    harness.run_once(later_s=20)

    assert harness.value("frozen", "normal") == 1
    assert harness.value("jobs", "normal", "idle") == 3
    for source in ("slots", "queue", "schedd"):
        assert harness.value("poll_errors_total", source) == 1
        assert harness.value("last_poll_timestamp_seconds", source) == answered_s
    assert harness.value("last_poll_timestamp_seconds", "swarm") == harness.now

    harness.swarm.in_swarm = False
    harness.run_once()
    assert harness.value("poll_errors_total", "swarm") == 1
    assert harness.value("poll_errors_total", "slots") == 1
    assert harness.observations("round_duration_seconds")[0] == 3


def test_a_replaced_executor_counts_with_its_problem(harness: Harness) -> None:
    harness.submit(1, "big")
    harness.run_once()
    harness.run_once()
    (task,) = [t for t in harness.swarm.tasks("galaxy") if t.service == POOL.service("big")]
    harness.swarm.broken_reasons[task.id] = "no space left"
    for _ in range(20):
        harness.run_once()

    assert harness.value("executors_replaced_total", "big", "broken_slot") == 1
