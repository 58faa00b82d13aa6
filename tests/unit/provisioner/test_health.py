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
# FakeSwarm's tasks are made at the beginning of 2026.
BEGIN_S = 1767225600.0
_numbers = count()


def runs(task: str, job_types: str, *, succeeded: bool, runtime_s: float = 1) -> list[JobRun]:
    """One run for each letter of `kinds`, one after another."""
    return [
        JobRun(
            job=f"{(number := next(_numbers))}.0",
            task=task,
            job_type=kind,
            ended_s=float(number),
            runtime_s=runtime_s,
            succeeded=succeeded,
            failed=not succeeded,
        )
        for kind in job_types
    ]


def test_an_executor_that_fails_what_others_run_well() -> None:
    found = black_holes(
        [*runs("good", "abc" * 4, succeeded=True), *runs("hole", "abcabc", succeeded=False)]
    )
    assert list(found) == ["hole"]
    assert found["hole"].startswith(
        "its last 6 jobs failed, most within 30 s of their start; their kinds"
    )


@pytest.mark.parametrize(
    "seen",
    [
        # A tool that fails everywhere.
        [*runs("one", "a" * 9, succeeded=False), *runs("two", "a" * 9, succeeded=False)],
        # A batch of bad inputs that met one executor.
        [*runs("good", "a" * 20, succeeded=True), *runs("one", "a" * 20, succeeded=False)],
        # Failures, but of jobs that ran for a while.
        [
            *runs("good", "abc" * 9, succeeded=True),
            *runs("one", "abc", succeeded=False, runtime_s=60),
        ],
        # Two in a row are no row.
        [*runs("good", "ab" * 99, succeeded=True), *runs("one", "ab", succeeded=False)],
        # It works again.
        [
            *runs("good", "abc" * 9, succeeded=True),
            *runs("one", "abc" * 3, succeeded=False),
            *runs("one", "a", succeeded=True),
        ],
        # Nobody else ran anything.
        runs("one", "abcdef" * 3, succeeded=False),
        # Tools that fail elsewhere too, each now and then.
        [
            *runs("good", "abc" * 2, succeeded=True),
            *runs("good", "abc" * 2, succeeded=False),
            *runs("one", "abcabc", succeeded=False),
            *runs("good", "abc", succeeded=True),
        ],
    ],
)
def test_a_bad_tool_is_no_bad_executor(seen: list[JobRun]) -> None:
    assert black_holes(seen) == {}


def test_now_and_then_a_failure_takes_its_time() -> None:
    seen = [*runs("good", "abc" * 4, succeeded=True), *runs("hole", "abcab", succeeded=False)]
    assert list(black_holes([*seen, *runs("hole", "c", succeeded=False, runtime_s=99)])) == ["hole"]


def test_two_black_holes_do_not_excuse_each_other() -> None:
    seen = [*runs("good", "abc" * 9, succeeded=True)]
    seen += [*runs("one", "abcabc", succeeded=False), *runs("two", "abcabc", succeeded=False)]
    assert set(black_holes(seen)) == {"one", "two"}


class Harness:
    """A pool that is up on a fake Swarm, its health, and a clock."""

    def __init__(self, directory: Path, pool: Pool = POOL) -> None:
        self.now = BEGIN_S
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
        return [(mending.task, mending.action) for mending in found]


@pytest.fixture
def harness(tmp_path: Path) -> Harness:
    return Harness(tmp_path)


def test_a_broken_slot_is_replaced_after_a_grace(harness: Harness) -> None:
    sick = harness.executors()[0]
    harness.swarm.broken_reasons[sick] = "no disk"
    assert harness.run_once() == []
    harness.now += 61
    assert harness.run_once() == [(sick, "draining")]
    assert harness.run_once() == []
    status = harness.provisioner.scale({"normal": 2})
    assert sick not in {e.task for e in status.executors}
    assert status.converged


def test_switched_off_virtual_machines_are_replaced_and_a_missing_kvm_is_not(
    tmp_path: Path,
) -> None:
    machines = CapacityClass(memory_mb=512, virtual_machines=1, emulate=True)
    benchmarks = Harness(tmp_path, Pool(name="galaxy", classes={"vm": machines}))
    [sick] = benchmarks.executors("vm")
    benchmarks.swarm.vm_offline.add(sick)
    status = benchmarks.provisioner.status()
    [line] = status.executors
    without = line.model_copy(update={"virtualization": "none"})
    for _ in range(2):
        assert benchmarks.health.run_once(status.model_copy(update={"executors": (without,)})) == []
        benchmarks.now += 61
    assert benchmarks.run_once() == []
    benchmarks.now += 61
    assert benchmarks.run_once() == [(sick, "draining")]


def test_what_gets_well_stays(harness: Harness) -> None:
    sick = harness.executors()[0]
    harness.swarm.broken_reasons[sick] = "no disk"
    harness.run_once()
    harness.now += 50
    harness.swarm.broken_reasons.clear()
    harness.run_once()
    harness.swarm.broken_reasons[sick] = "no disk"
    harness.now += 50
    assert harness.run_once() == []


def test_a_busy_one_finishes_first(harness: Harness) -> None:
    sick = harness.executors()[0]
    harness.swarm.broken_reasons[sick] = "no disk"
    harness.swarm.busy_tasks.add(sick)
    harness.run_once()
    harness.now += 61
    assert harness.run_once() == [(sick, "draining")]
    line = next(e for e in harness.provisioner.status().executors if e.task == sick)
    assert (line.state, line.jobs) == ("Retiring", ("1.0",))
    assert sick in harness.executors()
    harness.swarm.busy_tasks.clear()
    for _ in range(3):
        left = harness.executors()
    assert sick not in left


def test_one_after_another_and_a_few_on_a_node(harness: Harness) -> None:
    harness.provisioner.scale({"normal": 5})
    for task in harness.executors():
        harness.swarm.broken_reasons[task] = "no disk"
    harness.run_once()
    done: list[str] = []
    for _ in range(MAX_REPLACEMENTS_PER_NODE + 2):
        harness.now += 61
        done += [done for _, done in harness.run_once() if done == "draining"]
    assert len(done) == MAX_REPLACEMENTS_PER_NODE
    last = harness.health.run_once(harness.provisioner.status())
    assert {mending.action for mending in last} == {"deferred"}
    assert "look at the node and its engine" in last[0].problem
    harness.now += 3600
    assert "draining" in {done for _, done in harness.run_once()}


def test_several_at_once_keep_to_the_rate(harness: Harness) -> None:
    harness.provisioner.scale({"normal": 5})
    both = [
        harness.health,
        ExecutorHealthMonitor(POOL, harness.swarm, harness.swarm, clock=lambda: harness.now),
    ]
    harness.swarm.broken_reasons = dict.fromkeys(harness.executors(), "no disk")
    harness.swarm.busy_tasks = set(harness.executors())
    told: list[float] = []
    for _ in range(50):
        for health in both:
            found = health.run_once(harness.provisioner.status())
            told += [harness.now for mending in found if mending.action == "draining"]
        harness.now += 6
    assert len(told) == MAX_REPLACEMENTS_PER_NODE
    assert all(later - sooner >= 60 for sooner, later in pairwise(told))


def test_one_that_begins_anew_keeps_to_the_rate(harness: Harness) -> None:
    one, other = harness.executors()
    harness.swarm.broken_reasons = dict.fromkeys((one, other), "no disk")
    harness.swarm.busy_tasks = {one}

    def fresh() -> list[tuple[str, str]]:
        health = ExecutorHealthMonitor(
            POOL, harness.swarm, harness.swarm, grace_s=0, clock=lambda: harness.now
        )
        found = health.run_once(harness.provisioner.status())
        return [(mending.task, mending.action) for mending in found]

    assert fresh() == [(one, "draining"), (other, "deferred")]
    assert fresh() == [(other, "deferred")]  # one retires
    harness.swarm.busy_tasks.clear()
    for _ in range(3):
        harness.provisioner.status()
    assert one not in harness.executors()
    assert fresh() == [(other, "deferred")]  # it went a moment ago
    harness.now += 70
    assert fresh() == [(other, "draining")]


def test_a_silent_one_among_others_is_replaced(harness: Harness) -> None:
    silent, heard = harness.executors()
    harness.swarm.unresponsive = {silent, heard}
    for _ in range(3):
        assert harness.run_once() == []
        harness.now += 100
    harness.swarm.unresponsive = {silent}  # it was the collector, and the others are still to come
    assert harness.run_once() == []
    harness.now += 179
    assert harness.run_once() == []
    harness.now += 2
    assert harness.run_once() == [(silent, "draining")]


def test_what_cannot_be_told_to_go_is_tried_again_after_a_pause(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    sick = harness.executors()[0]
    harness.swarm.broken_reasons[sick] = "no disk"
    tried: list[str] = []

    def refuse(service: str, _command: list[str]) -> bytes:
        tried.append(service)
        raise PreconditionError("condor_off: failed to find daemons")

    monkeypatch.setattr(harness.swarm, "run_in", refuse)
    harness.run_once()
    for later_s in (61, 2, 2, 61):
        harness.now += later_s
        assert harness.run_once() == [(sick, "failed")]
    assert len(tried) == 2


def test_a_black_hole_is_replaced_at_once(harness: Harness) -> None:
    good, hole = harness.executors()
    seen = [*runs(good, "abc" * 4, succeeded=True), *runs(hole, "abcabc", succeeded=False)]
    harness.swarm.job_runs = [
        run.model_copy(update={"ended_s": BEGIN_S + n}) for n, run in enumerate(seen)
    ]
    assert harness.run_once() == [(hole, "draining")]


def test_a_silent_pool_is_left_alone(harness: Harness) -> None:
    sick = harness.executors()[0]
    harness.swarm.broken_reasons[sick] = "no disk"
    harness.run_once()
    harness.now += 61
    status = harness.provisioner.status().model_copy(update={"problems": ("no collector",)})
    assert harness.health.run_once(status) == []
    harness.now += 61
    harness.swarm.accept_token = False
    assert harness.run_once() == []
    assert not harness.swarm.retiring


def test_a_dry_run_tells_nobody(harness: Harness) -> None:
    sick = harness.executors()[0]
    harness.swarm.broken_reasons[sick] = "no disk"
    found, _ = harness.provisioner.repair(dry_run=True)
    assert [(mending.task, mending.action) for mending in found] == [(sick, "dry_run")]
    assert not harness.swarm.retiring


def test_mend_replaces_and_waits(harness: Harness) -> None:
    sick = harness.executors("big")[0]
    harness.swarm.broken_reasons[sick] = "no disk"
    found, status = harness.provisioner.repair()
    assert [mending.action for mending in found] == ["draining"]
    assert status.converged
    assert sick not in {e.task for e in status.executors}
    assert any("broken slot: no disk; replacing it" in said for said in harness.messages)


def test_a_black_hole_that_was_told_to_go_is_shown_with_why(harness: Harness) -> None:
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


def test_the_manager_elsewhere_is_said(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    sick = harness.executors()[0]
    harness.swarm.broken_reasons[sick] = "no disk"
    harness.run_once()
    harness.now += 61
    monkeypatch.setattr(harness.swarm, "run_in", lambda _service, _command: None)
    [mending] = harness.health.run_once(harness.provisioner.status())
    assert mending.action == "failed"
    assert "another node" in mending.problem
