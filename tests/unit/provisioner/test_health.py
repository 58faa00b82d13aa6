from __future__ import annotations

import time
from itertools import count, pairwise
from pathlib import Path

import pytest

from swarm_runner.errors import PreconditionError
from swarm_runner.model.pool import CapacityClass, Pool
from swarm_runner.model.pool_status import JobRun
from swarm_runner.provisioner import Provisioner
from swarm_runner.provisioner.black_holes import black_holes
from swarm_runner.provisioner.health import MAX_REPLACEMENTS_PER_NODE, ExecutorHealthMonitor
from swarm_runner.testing.swarm import FakeSwarm

POOL = Pool(name="galaxy")
# FakeSwarm's tasks are created at the beginning of 2026.
START_S = 1767225600.0
_numbers = count()


def runs(task: str, job_types: str, *, succeeded: bool, runtime_s: float = 1) -> list[JobRun]:
    """Return one run for each letter of `job_types`, one after the other."""
    return [
        JobRun(
            job=f"{(number := next(_numbers))}.0",
            task=task,
            job_type=job_type,
            ended_s=float(number),
            runtime_s=runtime_s,
            succeeded=succeeded,
            failed=not succeeded,
        )
        for job_type in job_types
    ]


def test_an_executor_that_fails_what_others_run_well() -> None:
    found = black_holes(
        [*runs("good", "abc" * 4, succeeded=True), *runs("hole", "abcabc", succeeded=False)]
    )
    assert list(found) == ["hole"]
    assert found["hole"].startswith(
        "its last 6 jobs failed, most of them within 30 s of their start; jobs of the same types"
    )


@pytest.mark.parametrize(
    "job_runs",
    [
        # A tool that fails everywhere.
        [*runs("one", "a" * 9, succeeded=False), *runs("two", "a" * 9, succeeded=False)],
        # A batch of bad inputs on one executor.
        [*runs("good", "a" * 20, succeeded=True), *runs("one", "a" * 20, succeeded=False)],
        # Failures, but of jobs that ran for a while.
        [
            *runs("good", "abc" * 9, succeeded=True),
            *runs("one", "abc", succeeded=False, runtime_s=60),
        ],
        # Two failures are not enough.
        [*runs("good", "ab" * 99, succeeded=True), *runs("one", "ab", succeeded=False)],
        # It works again.
        [
            *runs("good", "abc" * 9, succeeded=True),
            *runs("one", "abc" * 3, succeeded=False),
            *runs("one", "a", succeeded=True),
        ],
        # No other executor ran a job.
        runs("one", "abcdef" * 3, succeeded=False),
        # Tools that sometimes fail on other executors too.
        [
            *runs("good", "abc" * 2, succeeded=True),
            *runs("good", "abc" * 2, succeeded=False),
            *runs("one", "abcabc", succeeded=False),
            *runs("good", "abc", succeeded=True),
        ],
    ],
)
def test_a_bad_tool_is_no_bad_executor(job_runs: list[JobRun]) -> None:
    assert black_holes(job_runs) == {}


def test_a_black_hole_may_have_a_slow_failure() -> None:
    job_runs = [*runs("good", "abc" * 4, succeeded=True), *runs("hole", "abcab", succeeded=False)]
    assert list(black_holes([*job_runs, *runs("hole", "c", succeeded=False, runtime_s=99)])) == [
        "hole"
    ]


def test_two_black_holes_do_not_excuse_each_other() -> None:
    job_runs = [*runs("good", "abc" * 9, succeeded=True)]
    job_runs += [*runs("one", "abcabc", succeeded=False), *runs("two", "abcabc", succeeded=False)]
    assert set(black_holes(job_runs)) == {"one", "two"}


class Harness:
    """A running pool on a fake Swarm, its health monitor, and a clock."""

    def __init__(self, directory: Path, pool: Pool = POOL) -> None:
        self.now = START_S
        self.swarm = FakeSwarm()
        self.messages: list[str] = []
        token = directory / "token"
        self.provisioner = Provisioner(
            pool, self.swarm, self.swarm, token, self.messages.append, poll_interval_s=0.001
        )
        self.provisioner.up()
        self.health = ExecutorHealthMonitor(pool, self.swarm, self.swarm, clock=lambda: self.now)

    def executors(self, capacity_class: str = "normal") -> list[str]:
        status = self.provisioner.status()
        return [e.task for e in status.executors if e.capacity_class == capacity_class]

    def run_once(self) -> list[tuple[str, str]]:
        found = self.health.run_once(self.provisioner.status())
        return [(r.task, r.action) for r in found]


@pytest.fixture
def harness(tmp_path: Path) -> Harness:
    return Harness(tmp_path)


def test_a_broken_slot_is_replaced_after_a_grace(harness: Harness) -> None:
    unhealthy = harness.executors()[0]
    harness.swarm.broken_reasons[unhealthy] = "no disk"
    assert harness.run_once() == []
    harness.now += 61
    assert harness.run_once() == [(unhealthy, "draining")]
    assert harness.run_once() == []
    status = harness.provisioner.scale({"normal": 2})
    assert unhealthy not in {e.task for e in status.executors}
    assert status.converged


def test_a_replacement_is_logged(harness: Harness, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "swarm_runner")
    unhealthy = harness.executors()[0]
    harness.swarm.broken_reasons[unhealthy] = "no disk"
    harness.run_once()
    harness.now += 61
    harness.run_once()
    [record] = [r for r in caplog.records if r.name == "swarm_runner.provisioner.health"]
    assert record.getMessage().startswith("Replacing executor service=")
    assert f'task={unhealthy} node=swarm-1 reason="broken slot: no disk"' in record.getMessage()


def test_switched_off_virtual_machines_are_replaced_and_a_missing_kvm_is_not(
    tmp_path: Path,
) -> None:
    capacity_class = CapacityClass(memory_mb=512, virtual_machines=1, emulate=True)
    harness = Harness(tmp_path, Pool(name="galaxy", classes={"vm": capacity_class}))
    [unhealthy] = harness.executors("vm")
    harness.swarm.vm_offline.add(unhealthy)
    status = harness.provisioner.status()
    [line] = status.executors
    without = line.model_copy(update={"virtualization": "none"})
    for _ in range(2):
        assert harness.health.run_once(status.model_copy(update={"executors": (without,)})) == []
        harness.now += 61
    assert harness.run_once() == []
    harness.now += 61
    assert harness.run_once() == [(unhealthy, "draining")]


def test_an_executor_that_recovers_stays(harness: Harness) -> None:
    unhealthy = harness.executors()[0]
    harness.swarm.broken_reasons[unhealthy] = "no disk"
    harness.run_once()
    harness.now += 50
    harness.swarm.broken_reasons.clear()
    harness.run_once()
    harness.swarm.broken_reasons[unhealthy] = "no disk"
    harness.now += 50
    assert harness.run_once() == []


def test_a_busy_one_finishes_first(harness: Harness) -> None:
    unhealthy = harness.executors()[0]
    harness.swarm.broken_reasons[unhealthy] = "no disk"
    harness.swarm.busy_tasks.add(unhealthy)
    harness.run_once()
    harness.now += 61
    assert harness.run_once() == [(unhealthy, "draining")]
    line = next(e for e in harness.provisioner.status().executors if e.task == unhealthy)
    assert (line.state, line.jobs) == ("Retiring", ("1.0",))
    assert unhealthy in harness.executors()
    harness.swarm.busy_tasks.clear()
    for _ in range(3):
        left = harness.executors()
    assert unhealthy not in left


def test_one_after_another_and_a_few_on_a_node(harness: Harness) -> None:
    harness.provisioner.scale({"normal": 5})
    for task in harness.executors():
        harness.swarm.broken_reasons[task] = "no disk"
    harness.run_once()
    done: list[str] = []
    for _ in range(MAX_REPLACEMENTS_PER_NODE + 2):
        harness.now += 61
        done += [action for _, action in harness.run_once() if action == "draining"]
    assert len(done) == MAX_REPLACEMENTS_PER_NODE
    last = harness.health.run_once(harness.provisioner.status())
    assert {replacement.action for replacement in last} == {"deferred"}
    assert "check the node and its Docker engine" in last[0].problem
    harness.now += 3600
    assert "draining" in {action for _, action in harness.run_once()}


def test_several_at_once_keep_to_the_rate(harness: Harness) -> None:
    harness.provisioner.scale({"normal": 5})
    both = [
        harness.health,
        ExecutorHealthMonitor(POOL, harness.swarm, harness.swarm, clock=lambda: harness.now),
    ]
    harness.swarm.broken_reasons = dict.fromkeys(harness.executors(), "no disk")
    harness.swarm.busy_tasks = set(harness.executors())
    drained_s: list[float] = []
    for _ in range(50):
        for health in both:
            found = health.run_once(harness.provisioner.status())
            drained_s += [harness.now for r in found if r.action == "draining"]
        harness.now += 6
    assert len(drained_s) == MAX_REPLACEMENTS_PER_NODE
    assert all(later - sooner >= 60 for sooner, later in pairwise(drained_s))


def test_one_that_begins_anew_keeps_to_the_rate(harness: Harness) -> None:
    first, other = harness.executors()
    harness.swarm.broken_reasons = dict.fromkeys((first, other), "no disk")
    harness.swarm.busy_tasks = {first}

    def run_new_monitor() -> list[tuple[str, str]]:
        health = ExecutorHealthMonitor(
            POOL, harness.swarm, harness.swarm, grace_s=0, clock=lambda: harness.now
        )
        found = health.run_once(harness.provisioner.status())
        return [(r.task, r.action) for r in found]

    assert run_new_monitor() == [(first, "draining"), (other, "deferred")]
    assert run_new_monitor() == [(other, "deferred")]  # the first one is retiring
    harness.swarm.busy_tasks.clear()
    for _ in range(3):
        harness.provisioner.status()
    assert first not in harness.executors()
    assert run_new_monitor() == [(other, "deferred")]  # it stopped a moment ago
    harness.now += 70
    assert run_new_monitor() == [(other, "draining")]


def test_an_unresponsive_executor_among_others_is_replaced(harness: Harness) -> None:
    unresponsive, advertised = harness.executors()
    harness.swarm.unresponsive = {unresponsive, advertised}
    for _ in range(3):
        assert harness.run_once() == []
        harness.now += 100
    harness.swarm.unresponsive = {unresponsive}  # the collector restarted, and gets updates again
    assert harness.run_once() == []
    harness.now += 179
    assert harness.run_once() == []
    harness.now += 2
    assert harness.run_once() == [(unresponsive, "draining")]


def test_a_failed_drain_is_retried_after_a_pause(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    unhealthy = harness.executors()[0]
    harness.swarm.broken_reasons[unhealthy] = "no disk"
    attempts: list[str] = []

    def refuse(service: str, _command: list[str]) -> bytes:
        attempts.append(service)
        raise PreconditionError("condor_off: failed to find daemons")

    monkeypatch.setattr(harness.swarm, "exec_in_service", refuse)
    harness.run_once()
    for later_s in (61, 2, 2, 61):
        harness.now += later_s
        assert harness.run_once() == [(unhealthy, "failed")]
    assert len(attempts) == 2


def test_a_black_hole_is_replaced_at_once(harness: Harness) -> None:
    good, hole = harness.executors()
    job_runs = [*runs(good, "abc" * 4, succeeded=True), *runs(hole, "abcabc", succeeded=False)]
    harness.swarm.job_runs = [
        run.model_copy(update={"ended_s": START_S + n}) for n, run in enumerate(job_runs)
    ]
    assert harness.run_once() == [(hole, "draining")]


def test_a_silent_pool_is_left_alone(harness: Harness) -> None:
    unhealthy = harness.executors()[0]
    harness.swarm.broken_reasons[unhealthy] = "no disk"
    harness.run_once()
    harness.now += 61
    status = harness.provisioner.status().model_copy(update={"problems": ("no collector",)})
    assert harness.health.run_once(status) == []
    harness.now += 61
    harness.swarm.accept_token = False
    assert harness.run_once() == []
    assert not harness.swarm.retiring


def test_a_dry_run_tells_nobody(harness: Harness) -> None:
    unhealthy = harness.executors()[0]
    harness.swarm.broken_reasons[unhealthy] = "no disk"
    found, _ = harness.provisioner.repair(dry_run=True)
    assert [(replacement.task, replacement.action) for replacement in found] == [
        (unhealthy, "dry_run")
    ]
    assert not harness.swarm.retiring


def test_repair_replaces_and_waits(harness: Harness) -> None:
    unhealthy = harness.executors("big")[0]
    harness.swarm.broken_reasons[unhealthy] = "no disk"
    found, status = harness.provisioner.repair()
    assert [replacement.action for replacement in found] == ["draining"]
    assert status.converged
    assert unhealthy not in {e.task for e in status.executors}
    assert any("broken slot: no disk; replacing it" in m for m in harness.messages)


def test_a_drained_black_hole_is_shown_with_its_reason(harness: Harness) -> None:
    hole, good = harness.executors()
    now = time.time()
    harness.swarm.job_runs = [
        run.model_copy(update={"ended_s": now - 60 + number})
        for number, run in enumerate(
            [*runs(good, "abc" * 4, succeeded=True), *runs(hole, "abcabc", succeeded=False)]
        )
    ]
    harness.swarm.busy_tasks.add(hole)
    harness.swarm.retiring.add(hole)
    [line] = [line for line in harness.provisioner.status().executors if line.task == hole]
    assert (line.state, line.jobs) == ("Retiring", ("1.0",))
    assert line.problem.startswith("its last 6 jobs failed")
    harness.swarm.job_runs = []
    assert not any(line.problem for line in harness.provisioner.status().executors)


def test_a_manager_on_another_node_is_reported(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    unhealthy = harness.executors()[0]
    harness.swarm.broken_reasons[unhealthy] = "no disk"
    harness.run_once()
    harness.now += 61
    monkeypatch.setattr(harness.swarm, "exec_in_service", lambda _service, _command: None)
    [replacement] = harness.health.run_once(harness.provisioner.status())
    assert replacement.action == "failed"
    assert "another node" in replacement.problem
