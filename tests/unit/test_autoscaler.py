"""The daemon's rounds on a Swarm in memory, by a clock that the test sets."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from swarm_runner.errors import OutOfReachError
from swarm_runner.hookspecs import hookimpl
from swarm_runner.model.demand import Scaling
from swarm_runner.model.health import Mending
from swarm_runner.model.pool import CapacityClass, Pool
from swarm_runner.model.queue import EndedJob, WaitingJobs
from swarm_runner.model.status import PoolStatus
from swarm_runner.plugin_manager import plugin_manager
from swarm_runner.provisioner import Autoscaler, Provisioner
from swarm_runner.provisioner.autoscaler import Step
from swarm_runner.testing.swarm import FakeSwarm

# FakeSwarm's tasks are made at the beginning of 2026.
BEGIN_S = 1767225600.0
NORMAL = "galaxy_htcondor-executor"
POOL = Pool(
    name="galaxy",
    classes={
        "normal": CapacityClass(memory_mb=1024, replicas=0, max_replicas=5),
        "big": CapacityClass(memory_mb=2048, replicas=1, min_replicas=0),
    },
)


class Bench:
    """A pool that is up, and an autoscaler of it."""

    def __init__(self, directory: Path, pool: Pool = POOL) -> None:
        self.now = BEGIN_S
        self.mended: list[Mending] = []
        self.swarm = FakeSwarm()
        token = directory / "token"
        self.pool = pool
        self.provisioner = Provisioner(pool, self.swarm, self.swarm, token, look_s=0.001)
        self.provisioner.up()
        self.autoscaler = self.another()

    def another(self, *plugins: object, act: bool = True) -> Autoscaler:
        manager = plugin_manager(plugins, installed=False)
        return Autoscaler(
            self.pool, self.swarm, self.swarm, manager, act=act, clock=lambda: self.now
        )

    def round(self, of: Autoscaler | None = None, later_s: float = 5) -> dict[str, Scaling]:
        self.now += later_s
        steps = (of or self.autoscaler).round()
        self.mended = [step for step in steps if isinstance(step, Mending)]
        return {step.capacity_class: step for step in steps if isinstance(step, Scaling)}

    def submit(self, count: int, capacity_class: str = "normal", **more: Any) -> None:
        fields = {"cpus": 1, "memory_mb": 100, "first_cluster": 1, "last_cluster": 1} | more
        jobs = WaitingJobs(capacity_class=capacity_class, count=count, **fields)
        self.swarm.queue.append(jobs)

    def run(self) -> None:
        """Every job that waits runs, one on each executor that is there."""
        self.swarm.queue.clear()
        status = self.provisioner.status()
        self.swarm.busy |= {e.task for e in status.executors if e.capacity_class == "normal"}

    def replicas(self) -> dict[str, int]:
        return self.provisioner.status().replicas


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_from_nothing_and_back(bench: Bench) -> None:
    bench.submit(3)
    grown = bench.round()["normal"]
    assert (grown.replicas, grown.wanted, grown.done) == (0, 3, "scaled")
    assert str(grown) == "normal: scaled 0 -> 3 (3 waiting, 0 running on 0; 3 more for 3 of them)"
    assert bench.round()["normal"].executors.starting == 3
    bench.round()
    bench.run()
    assert bench.round()["normal"].executors.busy == 3
    bench.swarm.busy.clear()
    assert bench.round()["normal"].done == "kept"  # the pause
    gone = bench.round(later_s=31)["normal"]
    assert (gone.wanted, gone.done) == (0, "scaled")
    bench.round()
    assert bench.round()["normal"].executors.retiring == 0
    assert bench.replicas() == {"normal": 0, "big": 0}


def test_jobs_are_packed_and_the_limit_holds(bench: Bench) -> None:
    bench.submit(12)
    scaling = bench.round()["normal"]
    assert scaling.wanted == 5
    assert "max_replicas is 5" in scaling.reason


def test_jobs_of_no_class_and_those_that_fit_none_do_not_count(bench: Bench) -> None:
    bench.submit(3, capacity_class="")
    bench.submit(4, capacity_class="huge")
    bench.submit(5, memory_mb=1025)
    scaling = bench.round()["normal"]
    assert (scaling.wanted, scaling.done) == (0, "kept")
    assert "5 waiting fit no executor" in scaling.reason


def test_retiring_executors_do_not_make_it_oscillate(bench: Bench) -> None:
    bench.submit(4)
    for _ in range(3):
        bench.round()
    bench.swarm.queue.clear()
    busy = [e.task for e in bench.provisioner.status().executors if e.capacity_class == "normal"]
    bench.swarm.busy |= set(busy)
    bench.round()
    bench.provisioner._swarm.scale_service(NORMAL, 2)  # by hand
    wanted = [bench.round(later_s=40)["normal"] for _ in range(4)]
    assert [scaling.wanted for scaling in wanted] == [2, 2, 2, 2]
    assert wanted[-1].executors.retiring == 2
    assert wanted[-1].executors.busy == 2


def test_a_dry_run_changes_nothing(bench: Bench) -> None:
    bench.submit(3)
    shown = bench.round(bench.another(act=False))["normal"]
    assert str(shown).startswith("normal: would scale 0 -> 3")
    assert bench.replicas()["normal"] == 0


def test_two_autoscalers_do_no_harm(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    other = bench.another()
    bench.submit(3)
    scale = bench.swarm.scale_service

    def late(name: str, replicas: int, version: int | None = None) -> None:
        # The other one has looked and acted between our look and our act.
        monkeypatch.setattr(bench.swarm, "scale_service", scale)
        assert bench.round(other, 0)["normal"].done == "scaled"
        scale(name, replicas, version)

    monkeypatch.setattr(bench.swarm, "scale_service", late)
    second = bench.round()["normal"]
    assert second.done == "changed"
    assert "somebody changed it" in str(second)
    for _ in range(3):
        assert bench.round()["normal"].done == "kept"
        assert bench.round(other)["normal"].done == "kept"
    assert bench.replicas()["normal"] == 3


def test_one_that_begins_anew_waits_before_it_shrinks(bench: Bench) -> None:
    fresh = bench.another()
    assert bench.round(fresh)["big"].wanted == 1
    assert bench.round(fresh, later_s=29)["big"].wanted == 1
    assert bench.round(fresh)["big"].wanted == 0


def test_no_growth_while_swarm_finds_no_node(bench: Bench) -> None:
    bench.submit(2)
    bench.swarm.full[NORMAL] = "no suitable node (insufficient resources on 1 node)"
    assert bench.round()["normal"].wanted == 2
    bench.submit(2)
    held = bench.round()["normal"]
    assert (held.wanted, held.executors.unplaceable) == (1, 2)
    assert "not 4: Swarm finds no node for 2, and one that waits is enough" in held.reason
    assert [bench.round()["normal"].wanted for _ in range(3)] == [1, 1, 1]
    assert "insufficient resources" in "; ".join(bench.provisioner.status().unsettled())
    bench.swarm.full.clear()
    bench.round()
    assert bench.round()["normal"].wanted == 4


def up(bench: Bench) -> list[str]:
    """Two executors, and jobs for four."""
    bench.submit(2)
    for _ in range(3):
        bench.round()
    bench.submit(2)
    executors = bench.provisioner.status().executors
    return [e.task for e in executors if e.capacity_class == "normal"]


def test_a_collector_that_begins_anew_freezes(bench: Bench) -> None:
    tasks = up(bench)
    bench.swarm.silent = set(tasks)
    frozen = bench.round()["normal"]
    assert (frozen.frozen, frozen.wanted, frozen.done) == (True, 2, "kept")
    assert str(frozen).startswith("normal: frozen at 2 (keeps 2: not known is what 2 executors do")
    assert not bench.round()["big"].frozen  # the class next to it is seen
    bench.swarm.silent.clear()
    assert bench.round()["normal"].wanted == 4


def test_an_executor_that_stays_silent_is_no_capacity_and_is_replaced(bench: Bench) -> None:
    tasks = up(bench)
    bench.swarm.silent = {tasks[0]}
    assert bench.round()["normal"].frozen
    after = bench.round(later_s=200)["normal"]
    assert not after.frozen
    assert (after.executors.idle, after.executors.silent) == (1, 1)
    assert after.wanted == 5  # four, beside the silent one
    assert "1 in place that take no job (1 silent)" in after.reason
    [mending] = bench.mended
    assert (mending.task, mending.done) == (tasks[0], "told to go")
    assert mending.reason == "the collector has not heard of it for 180 s"


def test_a_class_that_is_silent_as_a_whole_stays_frozen(bench: Bench) -> None:
    bench.swarm.silent = set(up(bench))
    bench.swarm.queue.clear()
    for later_s in (5, 200, 200):
        scaling = bench.round(later_s=later_s)["normal"]
        assert (scaling.frozen, scaling.wanted) == (True, 2)
        assert not bench.mended


def test_silence_is_no_reason_to_shrink(bench: Bench) -> None:
    tasks = up(bench)
    bench.swarm.queue.clear()
    bench.swarm.silent = {tasks[0]}
    bench.swarm.busy = {tasks[0]}  # which nobody knows
    wanted = [bench.round(later_s=later_s)["normal"].wanted for later_s in (5, 179, 2, 29, 2)]
    assert wanted == [2, 2, 2, 2, 1]  # the idle one may go, no more
    assert [bench.round(later_s=40)["normal"].wanted for _ in range(3)] == [1, 1, 1]


def test_those_that_are_heard_of_one_after_another_are_not_silent(bench: Bench) -> None:
    tasks = up(bench)
    bench.swarm.silent = set(tasks)
    for _ in range(3):
        assert bench.round(later_s=100)["normal"].frozen
    bench.swarm.silent = {tasks[0]}
    assert bench.round()["normal"].frozen
    assert not bench.mended


def test_after_a_freeze_it_waits_for_a_whole_pause(bench: Bench) -> None:
    up(bench)
    bench.swarm.queue.clear()
    for blinding in ("let_in", "reachable"):
        setattr(bench.swarm, blinding, False)
        for _ in range(12):
            assert bench.round()["normal"].frozen
        setattr(bench.swarm, blinding, True)
        assert bench.round()["normal"].wanted == 2
        assert bench.round(later_s=29)["normal"].wanted == 2
    assert bench.round()["normal"].wanted == 0


def test_one_that_begins_while_the_collector_is_empty_freezes_too(bench: Bench) -> None:
    bench.swarm.silent = set(up(bench))
    assert not bench.round(bench.another())["normal"].frozen  # they may be starting
    bench.now += 120
    assert bench.round(bench.another())["normal"].frozen


def test_a_pool_out_of_reach_freezes_and_comes_back(bench: Bench) -> None:
    up(bench)
    bench.swarm.let_in = False
    frozen = bench.round()
    assert all(scaling.frozen for scaling in frozen.values())
    assert "not known is the slots (the pool does not take the token" in frozen["normal"].reason
    bench.swarm.let_in = True
    assert bench.round()["normal"].wanted == 4


def test_a_swarm_out_of_reach_freezes_and_comes_back(bench: Bench) -> None:
    up(bench)
    bench.swarm.reachable = False
    frozen = bench.round()["normal"]
    assert (frozen.frozen, frozen.replicas) == (True, 2)
    assert str(frozen).startswith("normal: frozen at 2 (the Docker engine does not answer")
    bench.swarm.reachable = True
    assert bench.round()["normal"].wanted == 4


def test_a_scaling_that_fails_is_told_and_tried_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.submit(1)
    scale = bench.swarm.scale_service
    monkeypatch.setattr(
        bench.swarm, "scale_service", lambda *_: scale("galaxy_htcondor-nowhere", 1)
    )
    failed = bench.round()["normal"]
    assert failed.done == "failed"
    assert "not scaled 0 -> 1" in str(failed)
    assert "no such service" in failed.trouble
    monkeypatch.setattr(bench.swarm, "scale_service", scale)
    assert bench.round()["normal"].done == "scaled"


def test_a_service_that_is_gone_freezes_its_class(bench: Bench) -> None:
    bench.swarm.remove_services([NORMAL])
    bench.submit(1, capacity_class="big")
    found = bench.round()
    assert found["normal"].frozen
    assert "is missing" in found["normal"].reason
    assert not found["big"].frozen


def test_a_lost_node_is_no_capacity(bench: Bench) -> None:
    tasks = up(bench)
    bench.swarm.lose_node_of(tasks[0])
    bench.round()
    found = bench.round()["normal"]
    assert found.executors.retiring == 0
    assert found.wanted == 4


class Watcher:
    """A plugin that looks on, and has a policy of its own for one class."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.changes: list[tuple[PoolStatus, PoolStatus]] = []

    @hookimpl
    def swarm_runner_size_class(self, capacity_class: Any, status: Any) -> int | None:
        self.seen.append(status)
        return 2 if capacity_class.name == "big" else None

    @hookimpl
    def swarm_runner_pool_changed(self, before: PoolStatus, after: PoolStatus) -> None:
        self.changes.append((before, after))


def test_a_plugin_decides_and_sees_how_jobs_did(bench: Bench) -> None:
    watcher = Watcher()
    autoscaler = bench.another(watcher)
    bench.submit(10, first_cluster=7, last_cluster=9)
    assert bench.round(autoscaler)["big"].wanted == 2
    bench.swarm.queue.clear()
    bench.submit(7, first_cluster=8, last_cluster=12)
    bench.swarm.past = [
        EndedJob(capacity_class="normal", ended_s=bench.now + 50, runtime_s=30),
        EndedJob(capacity_class="normal", ended_s=bench.now + 40, runtime_s=50),
        EndedJob(capacity_class="normal", ended_s=bench.now - 40),
        EndedJob(capacity_class="big", ended_s=bench.now, runtime_s=1000),
    ]
    bench.round(autoscaler, later_s=100)
    status = next(found for found in reversed(watcher.seen) if found.requests)
    assert status.requests[0].oldest_wait_s == 100  # since it was first seen
    assert status.runtime_s == 40
    # Of 10 two ended and 7 wait: none came. Of 4 more, one every 25 s.
    assert status.arrivals_per_s == 0
    bench.submit(4, memory_mb=200)
    bench.round(autoscaler, later_s=0)
    status = next(found for found in reversed(watcher.seen) if found.requests)
    assert status.arrivals_per_s == pytest.approx(0.03)


def test_a_change_of_the_pool_is_told(bench: Bench) -> None:
    watcher = Watcher()
    autoscaler = bench.another(watcher)
    for _ in range(4):
        bench.round(autoscaler)
    told = len(watcher.changes)
    before, after = watcher.changes[0]
    assert (before.replicas["big"], after.replicas["big"]) == (1, 2)
    bench.swarm.busy |= {e.task for e in bench.provisioner.status().executors}
    bench.round(autoscaler)
    assert len(watcher.changes) == told  # that jobs run is none
    bench.swarm.silent = set(bench.swarm.busy)
    bench.round(autoscaler)
    assert len(watcher.changes) == told + 1


def test_how_long_a_start_takes_is_measured(bench: Bench) -> None:
    watcher = Watcher()
    autoscaler = bench.another(watcher)
    bench.submit(1)
    bench.now = BEGIN_S
    bench.swarm.full[NORMAL] = "no suitable node"
    bench.round(autoscaler, later_s=1)
    bench.round(autoscaler, later_s=1)
    bench.swarm.full.clear()
    bench.round(autoscaler, later_s=10)
    bench.round(autoscaler, later_s=10)
    starts = {found.start_up_s for found in watcher.seen}
    assert 10.0 in starts  # until one is known
    assert any(15 < found < 25 for found in starts)


def test_it_runs_until_it_is_told_to_end(bench: Bench) -> None:
    stop = threading.Event()
    told: list[Step] = []

    def tell(step: Step) -> None:
        told.append(step)
        if len(told) == 4:
            stop.set()

    bench.autoscaler.run(tell, stop, interval_s=0.001)
    assert [step.capacity_class for step in told] == ["normal", "big"] * 2


def test_an_outage_ends_it_at_first_and_freezes_it_later(bench: Bench) -> None:
    stop = threading.Event()
    told: list[Step] = []

    def tell(step: Step) -> None:
        told.append(step)
        bench.swarm.reachable = False
        if len(told) == 4:
            stop.set()

    bench.autoscaler.run(tell, stop, interval_s=0.001)
    assert [isinstance(step, Scaling) and step.frozen for step in told] == [False] * 2 + [True] * 2
    with pytest.raises(OutOfReachError, match="does not answer"):
        bench.autoscaler.run(tell, stop, interval_s=0.001)


def test_an_executor_that_does_not_work_is_replaced(bench: Bench) -> None:
    tasks = up(bench)
    bench.swarm.broken[tasks[0]] = "no scratch directory"
    found = bench.round()["normal"]
    assert found.executors.idle == 1  # the broken one is no capacity
    assert bench.mended == []
    bench.round(later_s=61)
    (mending,) = bench.mended
    assert (mending.task, mending.done) == (tasks[0], "told to go")
    assert tasks[0] in bench.swarm.retiring


def test_the_broken_do_not_count_as_executors(bench: Bench) -> None:
    tasks = up(bench)
    bench.swarm.broken[tasks[0]] = "no scratch directory"
    found = bench.round()["normal"]
    assert (found.wanted, found.executors.useless) == (5, 1)
    bench.swarm.busy.add(tasks[0])
    bench.swarm.retiring.add(tasks[0])  # told to go, and not by Swarm
    found = bench.round()["normal"]
    assert (found.executors.useless, found.executors.retiring) == (1, 0)


def test_jobs_that_match_nothing_do_not_keep_executors(bench: Bench) -> None:
    bench.submit(4)
    for _ in range(3):
        bench.round()
    assert bench.replicas()["normal"] == 4
    for _ in range(30):
        found = bench.round(later_s=30)["normal"]
    assert found.wanted == 1
    assert "4 waiting do not count" in found.reason
    bench.submit(2, memory_mb=200, first_cluster=2, last_cluster=2)
    assert bench.round()["normal"].wanted == 2


def test_a_guest_takes_one_of_its_executors_virtual_machines(tmp_path: Path) -> None:
    shape = CapacityClass(
        cpus=4, memory_mb=1024, replicas=1, min_replicas=0, virtual_machines=1, emulate=True
    )
    bench = Bench(tmp_path, Pool(name="galaxy", classes={"vm": shape}))
    [executor] = bench.provisioner.status().executors
    bench.swarm.busy.add(executor.task)
    assert bench.round()["vm"].wanted == 1
    bench.submit(2, capacity_class="vm")
    assert bench.round()["vm"].wanted == 3


def test_a_dry_run_only_names_the_broken(bench: Bench) -> None:
    tasks = up(bench)
    bench.swarm.broken[tasks[0]] = "no scratch directory"
    looking_on = bench.another(act=False)
    bench.round(looking_on)
    bench.round(looking_on, later_s=61)
    assert [mending.done for mending in bench.mended] == ["shown"]
    assert not bench.swarm.retiring
