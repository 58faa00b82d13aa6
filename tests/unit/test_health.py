from __future__ import annotations

import time
from itertools import count, pairwise
from pathlib import Path

import pytest

from swarm_runner.errors import RefusedError
from swarm_runner.model.health import JobRun
from swarm_runner.model.pool import CapacityClass, Pool
from swarm_runner.policy.health import black_holes
from swarm_runner.provisioner import Provisioner
from swarm_runner.provisioner.health import NODE_LIMIT, Health
from swarm_runner.testing.swarm import FakeSwarm

POOL = Pool(name="galaxy")
# FakeSwarm's tasks are made at the beginning of 2026.
BEGIN_S = 1767225600.0
_numbers = count()


def runs(task: str, kinds: str, *, well: bool, runtime_s: float = 1) -> list[JobRun]:
    """One run for each letter of `kinds`, one after another."""
    return [
        JobRun(
            job=f"{(number := next(_numbers))}.0",
            task=task,
            kind=kind,
            ended_s=float(number),
            runtime_s=runtime_s,
            well=well,
            failed=not well,
        )
        for kind in kinds
    ]


def test_an_executor_that_fails_what_others_run_well() -> None:
    found = black_holes([*runs("good", "abc" * 4, well=True), *runs("hole", "abcabc", well=False)])
    assert list(found) == ["hole"]
    assert found["hole"].startswith(
        "its last 6 jobs failed, most within 30 s of their start; their kinds"
    )


@pytest.mark.parametrize(
    "seen",
    [
        # A tool that fails everywhere.
        [*runs("one", "a" * 9, well=False), *runs("two", "a" * 9, well=False)],
        # A batch of bad inputs that met one executor.
        [*runs("good", "a" * 20, well=True), *runs("one", "a" * 20, well=False)],
        # Failures, but of jobs that ran for a while.
        [*runs("good", "abc" * 9, well=True), *runs("one", "abc", well=False, runtime_s=60)],
        # Two in a row are no row.
        [*runs("good", "ab" * 99, well=True), *runs("one", "ab", well=False)],
        # It works again.
        [
            *runs("good", "abc" * 9, well=True),
            *runs("one", "abc" * 3, well=False),
            *runs("one", "a", well=True),
        ],
        # Nobody else ran anything.
        runs("one", "abcdef" * 3, well=False),
        # Tools that fail elsewhere too, each now and then.
        [
            *runs("good", "abc" * 2, well=True),
            *runs("good", "abc" * 2, well=False),
            *runs("one", "abcabc", well=False),
            *runs("good", "abc", well=True),
        ],
    ],
)
def test_a_bad_tool_is_no_bad_executor(seen: list[JobRun]) -> None:
    assert black_holes(seen) == {}


def test_now_and_then_a_failure_takes_its_time() -> None:
    seen = [*runs("good", "abc" * 4, well=True), *runs("hole", "abcab", well=False)]
    assert list(black_holes([*seen, *runs("hole", "c", well=False, runtime_s=99)])) == ["hole"]


def test_two_black_holes_do_not_excuse_each_other() -> None:
    seen = [*runs("good", "abc" * 9, well=True)]
    seen += [*runs("one", "abcabc", well=False), *runs("two", "abcabc", well=False)]
    assert set(black_holes(seen)) == {"one", "two"}


class Bench:
    """A pool that is up on a fake Swarm, its health, and a clock."""

    def __init__(self, directory: Path, pool: Pool = POOL) -> None:
        self.now = BEGIN_S
        self.swarm = FakeSwarm()
        self.said: list[str] = []
        token = directory / "token"
        self.provisioner = Provisioner(
            pool, self.swarm, self.swarm, token, self.said.append, look_s=0.001
        )
        self.provisioner.up()
        self.health = Health(pool, self.swarm, self.swarm, clock=lambda: self.now)

    def executors(self, capacity_class: str = "normal") -> list[str]:
        status = self.provisioner.status()
        return [e.task for e in status.executors if e.capacity_class == capacity_class]

    def round(self) -> list[tuple[str, str]]:
        found = self.health.round(self.provisioner.status())
        return [(mending.task, mending.done) for mending in found]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_broken_slot_is_replaced_after_a_grace(bench: Bench) -> None:
    sick = bench.executors()[0]
    bench.swarm.broken[sick] = "no disk"
    assert bench.round() == []
    bench.now += 61
    assert bench.round() == [(sick, "told to go")]
    assert bench.round() == []
    status = bench.provisioner.scale({"normal": 2})
    assert sick not in {e.task for e in status.executors}
    assert status.settled


def test_switched_off_virtual_machines_are_replaced_and_a_missing_kvm_is_not(
    tmp_path: Path,
) -> None:
    machines = CapacityClass(memory_mb=512, virtual_machines=1, emulate=True)
    bench = Bench(tmp_path, Pool(name="galaxy", classes={"vm": machines}))
    [sick] = bench.executors("vm")
    bench.swarm.switched_off.add(sick)
    status = bench.provisioner.status()
    [line] = status.executors
    without = line.model_copy(update={"virtualization": "none"})
    for _ in range(2):
        assert bench.health.round(status.model_copy(update={"executors": (without,)})) == []
        bench.now += 61
    assert bench.round() == []
    bench.now += 61
    assert bench.round() == [(sick, "told to go")]


def test_what_gets_well_stays(bench: Bench) -> None:
    sick = bench.executors()[0]
    bench.swarm.broken[sick] = "no disk"
    bench.round()
    bench.now += 50
    bench.swarm.broken.clear()
    bench.round()
    bench.swarm.broken[sick] = "no disk"
    bench.now += 50
    assert bench.round() == []


def test_a_busy_one_finishes_first(bench: Bench) -> None:
    sick = bench.executors()[0]
    bench.swarm.broken[sick] = "no disk"
    bench.swarm.busy.add(sick)
    bench.round()
    bench.now += 61
    assert bench.round() == [(sick, "told to go")]
    line = next(e for e in bench.provisioner.status().executors if e.task == sick)
    assert (line.state, line.jobs) == ("Retiring", ("1.0",))
    assert sick in bench.executors()
    bench.swarm.busy.clear()
    for _ in range(3):
        left = bench.executors()
    assert sick not in left


def test_one_after_another_and_a_few_on_a_node(bench: Bench) -> None:
    bench.provisioner.scale({"normal": 5})
    for task in bench.executors():
        bench.swarm.broken[task] = "no disk"
    bench.round()
    done: list[str] = []
    for _ in range(NODE_LIMIT + 2):
        bench.now += 61
        done += [done for _, done in bench.round() if done == "told to go"]
    assert len(done) == NODE_LIMIT
    last = bench.health.round(bench.provisioner.status())
    assert {mending.done for mending in last} == {"waits"}
    assert "look at the node and its engine" in last[0].trouble
    bench.now += 3600
    assert "told to go" in {done for _, done in bench.round()}


def test_several_at_once_keep_to_the_rate(bench: Bench) -> None:
    bench.provisioner.scale({"normal": 5})
    both = [bench.health, Health(POOL, bench.swarm, bench.swarm, clock=lambda: bench.now)]
    bench.swarm.broken = dict.fromkeys(bench.executors(), "no disk")
    bench.swarm.busy = set(bench.executors())
    told: list[float] = []
    for _ in range(50):
        for health in both:
            found = health.round(bench.provisioner.status())
            told += [bench.now for mending in found if mending.done == "told to go"]
        bench.now += 6
    assert len(told) == NODE_LIMIT
    assert all(later - sooner >= 60 for sooner, later in pairwise(told))


def test_one_that_begins_anew_keeps_to_the_rate(bench: Bench) -> None:
    one, other = bench.executors()
    bench.swarm.broken = dict.fromkeys((one, other), "no disk")
    bench.swarm.busy = {one}

    def fresh() -> list[tuple[str, str]]:
        health = Health(POOL, bench.swarm, bench.swarm, grace_s=0, clock=lambda: bench.now)
        found = health.round(bench.provisioner.status())
        return [(mending.task, mending.done) for mending in found]

    assert fresh() == [(one, "told to go"), (other, "waits")]
    assert fresh() == [(other, "waits")]  # one retires
    bench.swarm.busy.clear()
    for _ in range(3):
        bench.provisioner.status()
    assert one not in bench.executors()
    assert fresh() == [(other, "waits")]  # it went a moment ago
    bench.now += 70
    assert fresh() == [(other, "told to go")]


def test_a_silent_one_among_others_is_replaced(bench: Bench) -> None:
    silent, heard = bench.executors()
    bench.swarm.silent = {silent, heard}
    for _ in range(3):
        assert bench.round() == []
        bench.now += 100
    bench.swarm.silent = {silent}  # it was the collector, and the others are still to come
    assert bench.round() == []
    bench.now += 179
    assert bench.round() == []
    bench.now += 2
    assert bench.round() == [(silent, "told to go")]


def test_what_cannot_be_told_to_go_is_tried_again_after_a_pause(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    sick = bench.executors()[0]
    bench.swarm.broken[sick] = "no disk"
    tried: list[str] = []

    def refuse(service: str, _command: list[str]) -> bytes:
        tried.append(service)
        raise RefusedError("condor_off: failed to find daemons")

    monkeypatch.setattr(bench.swarm, "run_in", refuse)
    bench.round()
    for later_s in (61, 2, 2, 61):
        bench.now += later_s
        assert bench.round() == [(sick, "failed")]
    assert len(tried) == 2


def test_a_black_hole_is_replaced_at_once(bench: Bench) -> None:
    good, hole = bench.executors()
    seen = [*runs(good, "abc" * 4, well=True), *runs(hole, "abcabc", well=False)]
    bench.swarm.job_runs = [
        run.model_copy(update={"ended_s": BEGIN_S + n}) for n, run in enumerate(seen)
    ]
    assert bench.round() == [(hole, "told to go")]


def test_a_silent_pool_is_left_alone(bench: Bench) -> None:
    sick = bench.executors()[0]
    bench.swarm.broken[sick] = "no disk"
    bench.round()
    bench.now += 61
    status = bench.provisioner.status().model_copy(update={"trouble": ("no collector",)})
    assert bench.health.round(status) == []
    bench.now += 61
    bench.swarm.let_in = False
    assert bench.round() == []
    assert not bench.swarm.retiring


def test_a_dry_run_tells_nobody(bench: Bench) -> None:
    sick = bench.executors()[0]
    bench.swarm.broken[sick] = "no disk"
    found, _ = bench.provisioner.mend(act=False)
    assert [(mending.task, mending.done) for mending in found] == [(sick, "shown")]
    assert not bench.swarm.retiring


def test_mend_replaces_and_waits(bench: Bench) -> None:
    sick = bench.executors("big")[0]
    bench.swarm.broken[sick] = "no disk"
    found, status = bench.provisioner.mend()
    assert [mending.done for mending in found] == ["told to go"]
    assert status.settled
    assert sick not in {e.task for e in status.executors}
    assert any("broken slot: no disk; replacing it" in said for said in bench.said)


def test_a_black_hole_that_was_told_to_go_is_shown_with_why(bench: Bench) -> None:
    hole, good = bench.executors()
    now = time.time()
    bench.swarm.job_runs = [
        run.model_copy(update={"ended_s": now - 60 + number})
        for number, run in enumerate(
            [*runs(good, "abc" * 4, well=True), *runs(hole, "abcabc", well=False)]
        )
    ]
    bench.swarm.busy.add(hole)
    bench.swarm.retiring.add(hole)
    [line] = [line for line in bench.provisioner.status().executors if line.task == hole]
    assert (line.state, line.jobs) == ("Retiring", ("1.0",))
    assert line.trouble.startswith("its last 6 jobs failed")
    bench.swarm.job_runs = []
    assert not any(line.trouble for line in bench.provisioner.status().executors)


def test_the_manager_elsewhere_is_said(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    sick = bench.executors()[0]
    bench.swarm.broken[sick] = "no disk"
    bench.round()
    bench.now += 61
    monkeypatch.setattr(bench.swarm, "run_in", lambda _service, _command: None)
    [mending] = bench.health.round(bench.provisioner.status())
    assert mending.done == "failed"
    assert "another node" in mending.trouble
