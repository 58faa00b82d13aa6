"""The autoscaler on a Swarm in memory, with a clock that the test sets."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from swarm_runner.errors import UnreachableError
from swarm_runner.hooks.manager import Hooks
from swarm_runner.hooks.specs import hookimpl
from swarm_runner.model.pool import CapacityClass, Pool
from swarm_runner.model.pool_status import ExecutorReplacement, PoolStatus
from swarm_runner.model.scaling import FinishedJob, IdleJobGroup, ScalingRecord
from swarm_runner.model.submitter import Submitter
from swarm_runner.provisioner import Autoscaler, Provisioner
from swarm_runner.provisioner.autoscaler import AutoscalerRecord
from swarm_runner.testing.swarm import FakeSwarm

# FakeSwarm's tasks are created at the beginning of 2026.
START_S = 1767225600.0
NORMAL = "galaxy_htcondor-executor"
POOL = Pool(
    name="galaxy",
    classes={
        "normal": CapacityClass(memory_mb=1024, replicas=0, max_replicas=5),
        "big": CapacityClass(memory_mb=2048, replicas=1, min_replicas=0),
    },
)


class Harness:
    """A running pool and its autoscaler."""

    def __init__(self, directory: Path, pool: Pool = POOL) -> None:
        self.now = START_S
        self.replacements: list[ExecutorReplacement] = []
        self.swarm = FakeSwarm()
        token = directory / "token"
        self.pool = pool
        self.provisioner = Provisioner(pool, self.swarm, self.swarm, token, poll_interval_s=0.001)
        self.provisioner.up()
        self.autoscaler = self.new_autoscaler()

    def new_autoscaler(self, *plugins: object, dry_run: bool = False) -> Autoscaler:
        hooks = Hooks(plugins, installed=False)
        return Autoscaler(
            self.pool, self.swarm, self.swarm, hooks, dry_run=dry_run, clock=lambda: self.now
        )

    def run_once(
        self, autoscaler: Autoscaler | None = None, later_s: float = 5
    ) -> dict[str, ScalingRecord]:
        self.now += later_s
        records = (autoscaler or self.autoscaler).run_once()
        self.replacements = [r for r in records if isinstance(r, ExecutorReplacement)]
        return {r.capacity_class: r for r in records if isinstance(r, ScalingRecord)}

    def submit(self, count: int, capacity_class: str = "normal", **kwargs: Any) -> None:
        fields = {"cpus": 1, "memory_mb": 100, "first_cluster": 1, "last_cluster": 1} | kwargs
        jobs = IdleJobGroup(capacity_class=capacity_class, count=count, **fields)
        self.swarm.idle_job_groups.append(jobs)

    def run(self) -> None:
        """Start every idle job, one on each executor."""
        self.swarm.idle_job_groups.clear()
        status = self.provisioner.status()
        self.swarm.busy_tasks |= {e.task for e in status.executors if e.capacity_class == "normal"}

    def replicas(self) -> dict[str, int]:
        return self.provisioner.status().replicas


@pytest.fixture
def harness(tmp_path: Path) -> Harness:
    return Harness(tmp_path)


def test_from_nothing_and_back(harness: Harness) -> None:
    harness.submit(3)
    grown = harness.run_once()["normal"]
    assert (grown.replicas, grown.wanted, grown.action) == (0, 3, "scaled")
    assert str(grown) == "normal: scaled 0 -> 3 (3 waiting, 0 running on 0; 3 more for 3 of them)"
    assert harness.run_once()["normal"].executors.starting == 3
    harness.run_once()
    harness.run()
    assert harness.run_once()["normal"].executors.busy == 3
    harness.swarm.busy_tasks.clear()
    assert harness.run_once()["normal"].action == "unchanged"  # the cooldown
    shrunk = harness.run_once(later_s=31)["normal"]
    assert (shrunk.wanted, shrunk.action) == (0, "scaled")
    harness.run_once()
    assert harness.run_once()["normal"].executors.retiring == 0
    assert harness.replicas() == {"normal": 0, "big": 0}


def test_scalings_and_freezes_are_logged_once(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "swarm_runner")
    harness.submit(3)
    harness.run_once()
    harness.swarm.accept_token = False
    for _ in range(3):
        harness.run_once()
    harness.swarm.accept_token = True
    harness.run_once()
    events = [r.getMessage() for r in caplog.records if f"service={NORMAL} " in f"{r.message} "]
    assert events[0] == (
        f"Service scaled service={NORMAL} previous_replicas=0 replicas=3 "
        'reason="3 waiting, 0 running on 0; 3 more for 3 of them"'
    )
    assert events[1].startswith(f"Scaling frozen service={NORMAL} reason=")
    assert events[2:] == [f"Scaling resumed service={NORMAL}"]


def test_jobs_are_packed_and_the_limit_holds(harness: Harness) -> None:
    harness.submit(12)
    record = harness.run_once()["normal"]
    assert record.wanted == 5
    assert "max_replicas is 5" in record.reason


def test_jobs_of_no_class_and_those_that_fit_none_do_not_count(harness: Harness) -> None:
    harness.submit(3, capacity_class="")
    harness.submit(4, capacity_class="huge")
    harness.submit(5, memory_mb=1025)
    record = harness.run_once()["normal"]
    assert (record.wanted, record.action) == (0, "unchanged")
    assert "5 waiting fit no executor" in record.reason


def test_retiring_executors_do_not_make_it_oscillate(harness: Harness) -> None:
    harness.submit(4)
    for _ in range(3):
        harness.run_once()
    harness.swarm.idle_job_groups.clear()
    busy = [e.task for e in harness.provisioner.status().executors if e.capacity_class == "normal"]
    harness.swarm.busy_tasks |= set(busy)
    harness.run_once()
    harness.provisioner._swarm.scale_service(NORMAL, 2)  # by hand
    records = [harness.run_once(later_s=40)["normal"] for _ in range(4)]
    assert [record.wanted for record in records] == [2, 2, 2, 2]
    assert records[-1].executors.retiring == 2
    assert records[-1].executors.busy == 2


def test_a_dry_run_changes_nothing(harness: Harness) -> None:
    harness.submit(3)
    record = harness.run_once(harness.new_autoscaler(dry_run=True))["normal"]
    assert str(record).startswith("normal: would scale 0 -> 3")
    assert harness.replicas()["normal"] == 0


def test_two_autoscalers_do_no_harm(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    other = harness.new_autoscaler()
    harness.submit(3)
    scale = harness.swarm.scale_service

    def late(name: str, replicas: int, version: int | None = None) -> None:
        # The other one observes and scales between our observation and our scaling.
        monkeypatch.setattr(harness.swarm, "scale_service", scale)
        assert harness.run_once(other, 0)["normal"].action == "scaled"
        scale(name, replicas, version)

    monkeypatch.setattr(harness.swarm, "scale_service", late)
    second = harness.run_once()["normal"]
    assert second.action == "conflict"
    assert "the service changed since it was read" in str(second)
    for _ in range(3):
        assert harness.run_once()["normal"].action == "unchanged"
        assert harness.run_once(other)["normal"].action == "unchanged"
    assert harness.replicas()["normal"] == 3


def test_a_restarted_autoscaler_waits_before_it_shrinks(harness: Harness) -> None:
    new_autoscaler = harness.new_autoscaler()
    assert harness.run_once(new_autoscaler)["big"].wanted == 1
    assert harness.run_once(new_autoscaler, later_s=29)["big"].wanted == 1
    assert harness.run_once(new_autoscaler)["big"].wanted == 0


def test_no_growth_while_swarm_finds_no_node(harness: Harness) -> None:
    harness.submit(2)
    harness.swarm.unschedulable[NORMAL] = "no suitable node (insufficient resources on 1 node)"
    assert harness.run_once()["normal"].wanted == 2
    harness.submit(2)
    limited = harness.run_once()["normal"]
    assert (limited.wanted, limited.executors.unschedulable) == (1, 2)
    assert "not 4: Swarm finds no node for 2; one pending task is enough" in limited.reason
    assert [harness.run_once()["normal"].wanted for _ in range(3)] == [1, 1, 1]
    assert "insufficient resources" in "; ".join(harness.provisioner.status().pending_changes())
    harness.swarm.unschedulable.clear()
    harness.run_once()
    assert harness.run_once()["normal"].wanted == 4


def up(harness: Harness) -> list[str]:
    """Start two executors, submit jobs for four, and return the task IDs."""
    harness.submit(2)
    for _ in range(3):
        harness.run_once()
    harness.submit(2)
    executors = harness.provisioner.status().executors
    return [e.task for e in executors if e.capacity_class == "normal"]


def test_a_collector_restart_freezes(harness: Harness) -> None:
    tasks = up(harness)
    harness.swarm.unresponsive = set(tasks)
    frozen = harness.run_once()["normal"]
    assert (frozen.frozen, frozen.wanted, frozen.action) == (True, 2, "unchanged")
    assert str(frozen).startswith(
        "normal: frozen at 2 (kept at 2: data unavailable: the state of 2 running"
    )
    assert not harness.run_once()["big"].frozen  # the data of the other class is complete
    harness.swarm.unresponsive.clear()
    assert harness.run_once()["normal"].wanted == 4


def test_an_unresponsive_executor_does_not_count_and_is_replaced(harness: Harness) -> None:
    tasks = up(harness)
    harness.swarm.unresponsive = {tasks[0]}
    assert harness.run_once()["normal"].frozen
    after = harness.run_once(later_s=200)["normal"]
    assert not after.frozen
    assert (after.executors.idle, after.executors.unresponsive) == (1, 1)
    assert after.wanted == 5  # four, beside the unresponsive one
    assert "1 not accepting jobs (1 unresponsive)" in after.reason
    [replacement] = harness.replacements
    assert (replacement.task, replacement.action) == (tasks[0], "draining")
    assert replacement.reason == "the collector has received no update from it for 180 s"


def test_a_completely_unresponsive_class_stays_frozen(harness: Harness) -> None:
    harness.swarm.unresponsive = set(up(harness))
    harness.swarm.idle_job_groups.clear()
    for later_s in (5, 200, 200):
        record = harness.run_once(later_s=later_s)["normal"]
        assert (record.frozen, record.wanted) == (True, 2)
        assert not harness.replacements


def test_unresponsive_executors_are_not_a_reason_to_shrink(harness: Harness) -> None:
    tasks = up(harness)
    harness.swarm.idle_job_groups.clear()
    harness.swarm.unresponsive = {tasks[0]}
    harness.swarm.busy_tasks = {tasks[0]}  # unknown to the collector
    wanted = [harness.run_once(later_s=later_s)["normal"].wanted for later_s in (5, 179, 2, 29, 2)]
    assert wanted == [2, 2, 2, 2, 1]  # the idle one may stop, but not the other
    assert [harness.run_once(later_s=40)["normal"].wanted for _ in range(3)] == [1, 1, 1]


def test_executors_that_reappear_one_by_one_are_not_unresponsive(harness: Harness) -> None:
    tasks = up(harness)
    harness.swarm.unresponsive = set(tasks)
    for _ in range(3):
        assert harness.run_once(later_s=100)["normal"].frozen
    harness.swarm.unresponsive = {tasks[0]}
    assert harness.run_once()["normal"].frozen
    assert not harness.replacements


def test_after_a_freeze_it_waits_for_a_complete_cooldown(harness: Harness) -> None:
    up(harness)
    harness.swarm.idle_job_groups.clear()
    for attribute in ("accept_token", "reachable"):
        setattr(harness.swarm, attribute, False)
        for _ in range(12):
            assert harness.run_once()["normal"].frozen
        setattr(harness.swarm, attribute, True)
        assert harness.run_once()["normal"].wanted == 2
        assert harness.run_once(later_s=29)["normal"].wanted == 2
    assert harness.run_once()["normal"].wanted == 0


def test_an_autoscaler_that_starts_with_an_empty_collector_freezes_too(harness: Harness) -> None:
    harness.swarm.unresponsive = set(up(harness))
    assert not harness.run_once(harness.new_autoscaler())["normal"].frozen  # they may be starting
    harness.now += 120
    assert harness.run_once(harness.new_autoscaler())["normal"].frozen


def test_an_unreachable_pool_freezes_and_recovers(harness: Harness) -> None:
    up(harness)
    harness.swarm.accept_token = False
    frozen = harness.run_once()
    assert all(record.frozen for record in frozen.values())
    assert "data unavailable: the slots (the pool rejected the token" in frozen["normal"].reason
    harness.swarm.accept_token = True
    assert harness.run_once()["normal"].wanted == 4


def test_an_unreachable_swarm_freezes_and_recovers(harness: Harness) -> None:
    up(harness)
    harness.swarm.reachable = False
    frozen = harness.run_once()["normal"]
    assert (frozen.frozen, frozen.replicas) == (True, 2)
    assert str(frozen).startswith("normal: frozen at 2 (the Docker engine does not answer")
    harness.swarm.reachable = True
    assert harness.run_once()["normal"].wanted == 4


def test_a_failed_scaling_is_reported_and_retried(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.submit(1)
    scale = harness.swarm.scale_service
    monkeypatch.setattr(
        harness.swarm, "scale_service", lambda *_: scale("galaxy_htcondor-nowhere", 1)
    )
    failed = harness.run_once()["normal"]
    assert failed.action == "failed"
    assert "not scaled 0 -> 1" in str(failed)
    assert "no such service" in failed.problem
    monkeypatch.setattr(harness.swarm, "scale_service", scale)
    assert harness.run_once()["normal"].action == "scaled"


def test_a_missing_service_freezes_its_class(harness: Harness) -> None:
    harness.swarm.remove_services([NORMAL])
    harness.submit(1, capacity_class="big")
    records = harness.run_once()
    assert records["normal"].frozen
    assert "is missing" in records["normal"].reason
    assert not records["big"].frozen


def test_executors_on_a_lost_node_do_not_count(harness: Harness) -> None:
    tasks = up(harness)
    harness.swarm.mark_node_down(tasks[0])
    harness.run_once()
    found = harness.run_once()["normal"]
    assert found.executors.retiring == 0
    assert found.wanted == 4


class RecordingPlugin:
    """A plugin that records its calls, and has a policy for one class."""

    def __init__(self) -> None:
        self.statuses: list[Any] = []
        self.changes: list[tuple[PoolStatus, PoolStatus]] = []

    @hookimpl
    def swarm_runner_size_class(self, capacity_class: Any, status: Any) -> int | None:
        self.statuses.append(status)
        return 2 if capacity_class.name == "big" else None

    @hookimpl
    def swarm_runner_pool_changed(self, before: PoolStatus, after: PoolStatus) -> None:
        self.changes.append((before, after))


def test_a_plugin_decides_and_sees_how_jobs_did(harness: Harness) -> None:
    plugin = RecordingPlugin()
    autoscaler = harness.new_autoscaler(plugin)
    harness.submit(10, first_cluster=7, last_cluster=9)
    assert harness.run_once(autoscaler)["big"].wanted == 2
    harness.swarm.idle_job_groups.clear()
    harness.submit(7, first_cluster=8, last_cluster=12)
    harness.swarm.finished_jobs = [
        FinishedJob(capacity_class="normal", ended_s=harness.now + 50, runtime_s=30),
        FinishedJob(capacity_class="normal", ended_s=harness.now + 40, runtime_s=50),
        FinishedJob(capacity_class="normal", ended_s=harness.now - 40),
        FinishedJob(capacity_class="big", ended_s=harness.now, runtime_s=1000),
    ]
    harness.run_once(autoscaler, later_s=100)
    status = next(found for found in reversed(plugin.statuses) if found.idle_jobs)
    assert status.idle_jobs[0].oldest_wait_s == 100  # since it was first seen
    assert status.runtime_s == 40
    # Of 10 jobs 2 ended and 7 are waiting: none arrived. Then 4 more: one every 25 s.
    assert status.arrivals_per_s == 0
    harness.submit(4, memory_mb=200)
    harness.run_once(autoscaler, later_s=0)
    status = next(found for found in reversed(plugin.statuses) if found.idle_jobs)
    assert status.arrivals_per_s == pytest.approx(0.03)


def test_plugins_are_notified_of_a_change_of_the_pool(harness: Harness) -> None:
    plugin = RecordingPlugin()
    autoscaler = harness.new_autoscaler(plugin)
    for _ in range(4):
        harness.run_once(autoscaler)
    change_count = len(plugin.changes)
    before, after = plugin.changes[0]
    assert (before.replicas["big"], after.replicas["big"]) == (1, 2)
    harness.swarm.busy_tasks |= {e.task for e in harness.provisioner.status().executors}
    harness.run_once(autoscaler)
    assert len(plugin.changes) == change_count  # running jobs are not a change
    harness.swarm.unresponsive = set(harness.swarm.busy_tasks)
    harness.run_once(autoscaler)
    assert len(plugin.changes) == change_count + 1


def test_how_long_a_start_takes_is_measured(harness: Harness) -> None:
    plugin = RecordingPlugin()
    autoscaler = harness.new_autoscaler(plugin)
    harness.submit(1)
    harness.now = START_S
    harness.swarm.unschedulable[NORMAL] = "no suitable node"
    harness.run_once(autoscaler, later_s=1)
    harness.run_once(autoscaler, later_s=1)
    harness.swarm.unschedulable.clear()
    harness.run_once(autoscaler, later_s=10)
    harness.run_once(autoscaler, later_s=10)
    starts = {found.start_up_s for found in plugin.statuses}
    assert 10.0 in starts  # the default, until one is measured
    assert any(15 < found < 25 for found in starts)


def test_it_runs_until_it_is_stopped(harness: Harness) -> None:
    stop = threading.Event()
    records: list[AutoscalerRecord] = []

    def report(record: AutoscalerRecord) -> None:
        records.append(record)
        if len(records) == 4:
            stop.set()

    harness.autoscaler.run(report, stop, interval_s=0.001)
    assert [record.capacity_class for record in records] == ["normal", "big"] * 2


def test_an_outage_ends_it_at_the_start_and_freezes_it_later(harness: Harness) -> None:
    stop = threading.Event()
    records: list[AutoscalerRecord] = []

    def report(record: AutoscalerRecord) -> None:
        records.append(record)
        harness.swarm.reachable = False
        if len(records) == 4:
            stop.set()

    harness.autoscaler.run(report, stop, interval_s=0.001)
    frozen = [isinstance(record, ScalingRecord) and record.frozen for record in records]
    assert frozen == [False] * 2 + [True] * 2
    with pytest.raises(UnreachableError, match="does not answer"):
        harness.autoscaler.run(report, stop, interval_s=0.001)


def test_an_executor_that_does_not_work_is_replaced(harness: Harness) -> None:
    tasks = up(harness)
    harness.swarm.broken_reasons[tasks[0]] = "no scratch directory"
    found = harness.run_once()["normal"]
    assert found.executors.idle == 1  # the broken one does not count
    assert harness.replacements == []
    harness.run_once(later_s=61)
    (replacement,) = harness.replacements
    assert (replacement.task, replacement.action) == (tasks[0], "draining")
    assert tasks[0] in harness.swarm.retiring


def test_the_broken_do_not_count_as_executors(harness: Harness) -> None:
    tasks = up(harness)
    harness.swarm.broken_reasons[tasks[0]] = "no scratch directory"
    found = harness.run_once()["normal"]
    assert (found.wanted, found.executors.unusable) == (5, 1)
    harness.swarm.busy_tasks.add(tasks[0])
    harness.swarm.retiring.add(tasks[0])  # drained, but not by Swarm
    found = harness.run_once()["normal"]
    assert (found.executors.unusable, found.executors.retiring) == (1, 0)


def test_jobs_that_match_nothing_do_not_keep_executors(harness: Harness) -> None:
    harness.submit(4)
    for _ in range(3):
        harness.run_once()
    assert harness.replicas()["normal"] == 4
    for _ in range(30):
        found = harness.run_once(later_s=30)["normal"]
    assert found.wanted == 1
    assert "4 waiting do not count" in found.reason
    harness.submit(2, memory_mb=200, first_cluster=2, last_cluster=2)
    assert harness.run_once()["normal"].wanted == 2


def test_a_guest_takes_one_of_its_executors_virtual_machines(tmp_path: Path) -> None:
    capacity_class = CapacityClass(
        cpus=4, memory_mb=1024, replicas=1, min_replicas=0, virtual_machines=1, emulate=True
    )
    harness = Harness(tmp_path, Pool(name="galaxy", classes={"vm": capacity_class}))
    [executor] = harness.provisioner.status().executors
    harness.swarm.busy_tasks.add(executor.task)
    assert harness.run_once()["vm"].wanted == 1
    harness.submit(2, capacity_class="vm")
    assert harness.run_once()["vm"].wanted == 3


def test_a_dry_run_only_names_the_broken(harness: Harness) -> None:
    tasks = up(harness)
    harness.swarm.broken_reasons[tasks[0]] = "no scratch directory"
    observer = harness.new_autoscaler(dry_run=True)
    harness.run_once(observer)
    harness.run_once(observer, later_s=61)
    assert [replacement.action for replacement in harness.replacements] == ["dry_run"]
    assert not harness.swarm.retiring


def test_jobs_above_a_ceiling_start_no_executors(tmp_path: Path) -> None:
    shares = {"users": {"alice": {"ceiling": 2}}}
    pool = Pool.model_validate({**POOL.model_dump(exclude_unset=True), "shares": shares})
    harness = Harness(tmp_path, pool)
    harness.swarm.submitter_list = [Submitter(name="alice", ceiling=2, cpus_in_use=1)]
    harness.submit(100, submitter="alice")
    record = harness.run_once()["normal"]
    assert record.wanted == 1
    assert "99 more waiting do not count" in record.reason
