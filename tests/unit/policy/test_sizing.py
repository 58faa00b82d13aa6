from __future__ import annotations

import time
from typing import Any

import pytest
from pydantic import ValidationError

from swarm_runner import hookimpl
from swarm_runner.hooks.manager import Hooks
from swarm_runner.model.pool import CapacityClass
from swarm_runner.model.scaling import (
    ClassSnapshot,
    DemandSample,
    ExecutorCounts,
    FreeCapacity,
    IdleJobs,
    ScalingDecision,
    ScalingLimits,
)
from swarm_runner.policy.sizing import swarm_runner_size_class

NORMAL = ScalingLimits(name="normal", cpus=4, memory_mb=4096, max_replicas=20)


def idle(count: int, cpus: int = 1, memory_mb: int = 512, **kwargs: Any) -> IdleJobs:
    return IdleJobs(cpus=cpus, memory_mb=memory_mb, count=count, **kwargs)


def decide(capacity_class: ScalingLimits = NORMAL, **status_fields: Any) -> ScalingDecision:
    status_fields = {"time_s": 1000.0, "replicas": 0} | status_fields
    decision: ScalingDecision = swarm_runner_size_class(
        capacity_class, ClassSnapshot(**status_fields)
    )
    return decision


def test_nothing_to_do_is_zero() -> None:
    assert decide().wanted == 0


def test_requests_are_packed_and_not_counted() -> None:
    decision = decide(idle_jobs=(idle(9),))
    assert decision.wanted == 3
    assert decision.reason == "9 waiting, 0 running on 0; 3 more for 9 of them"


def test_memory_decides_where_it_is_scarcer_than_cpus() -> None:
    assert decide(idle_jobs=(idle(8, memory_mb=2048),)).wanted == 4


def test_memory_is_given_in_steps() -> None:
    small = ScalingLimits(name="small", cpus=8, memory_mb=1024)
    # 129 MB become 256: four fit, not seven.
    assert decide(small, idle_jobs=(idle(8, memory_mb=129),)).wanted == 2


def test_busy_executors_stay_and_their_free_capacity_is_used_first() -> None:
    free_capacity = (FreeCapacity(cpus=2, memory_mb=2048, count=2),)
    fields: dict[str, Any] = {
        "replicas": 3,
        "executors": ExecutorCounts(busy=3),
        "running_jobs": 8,
        "free_capacity": free_capacity,
    }
    assert decide(idle_jobs=(idle(4),), **fields).wanted == 3
    assert decide(idle_jobs=(idle(5),), **fields).wanted == 4


def test_idle_and_starting_executors_are_used_before_new_ones() -> None:
    executors = ExecutorCounts(idle=1, starting=1)
    assert decide(idle_jobs=(idle(8),), replicas=2, executors=executors).wanted == 2
    assert decide(idle_jobs=(idle(12),), replicas=2, executors=executors).wanted == 3


def test_retiring_executors_do_not_count() -> None:
    assert decide(idle_jobs=(idle(4),), executors=ExecutorCounts(retiring=5)).wanted == 1


def test_jobs_that_never_fit_do_not_count_and_are_reported() -> None:
    decision = decide(idle_jobs=(idle(50, cpus=5), idle(7, memory_mb=9000), idle(1)))
    assert decision.wanted == 1
    assert "57 waiting fit no executor of this class" in decision.reason


def test_gpus_and_disk_count() -> None:
    limits = ScalingLimits(name="gpu", cpus=16, memory_mb=65536, disk_mb=1000, gpus=2)
    assert decide(limits, idle_jobs=(idle(6, gpus=1),)).wanted == 3
    assert decide(limits, idle_jobs=(idle(6, disk_mb=500),)).wanted == 3
    assert decide(NORMAL, idle_jobs=(idle(1, gpus=1),)).wanted == 0


def test_virtual_machines_are_counted() -> None:
    limits = ScalingLimits.from_capacity_class(
        "vm", CapacityClass(cpus=8, memory_mb=8192, replicas=0, virtual_machines=2)
    )
    assert decide(limits, idle_jobs=(idle(6),)).wanted == 3
    free_capacity = (FreeCapacity(cpus=7, memory_mb=7000, virtual_machines=1),)
    fields: dict[str, Any] = {
        "replicas": 1,
        "executors": ExecutorCounts(busy=1),
        "free_capacity": free_capacity,
    }
    assert decide(limits, idle_jobs=(idle(3),), running_jobs=1, **fields).wanted == 2


def test_limits_hold_and_are_reported() -> None:
    decision = decide(idle_jobs=(idle(1000),))
    assert decision.wanted == 20
    assert decision.needed == 250
    assert "250 needed, but max_replicas is 20" in decision.reason
    limits = NORMAL.model_copy(update={"min_replicas": 2})
    assert decide(limits).wanted == 2
    assert "min_replicas is 2" in decide(limits).reason


def test_limits_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValidationError, match="above max_replicas"):
        ScalingLimits(name="odd", memory_mb=512, min_replicas=3, max_replicas=2)


def test_shrinking_waits_for_the_cooldown() -> None:
    def history(age_s: float) -> tuple[DemandSample, ...]:
        return (
            DemandSample(time_s=1000 - age_s, executors=5),
            DemandSample(time_s=999, executors=1),
        )

    fields: dict[str, Any] = {"replicas": 8, "executors": ExecutorCounts(idle=8)}
    decision = decide(history=history(29), **fields)
    assert decision.wanted == 5
    assert "kept at 5, needed within the last 30 s" in decision.reason
    assert decide(history=history(31), **fields).wanted == 1
    # Earlier demand prevents shrinking, but does not cause growth.
    assert decide(history=history(1), replicas=2, executors=ExecutorCounts(idle=2)).wanted == 2


def test_growth_does_not_wait() -> None:
    history = (DemandSample(time_s=999, executors=0),)
    assert decide(idle_jobs=(idle(8),), history=history).wanted == 2


def test_no_growth_beyond_what_swarm_can_schedule() -> None:
    executors = ExecutorCounts(busy=2, unschedulable=1)
    fields: dict[str, Any] = {"replicas": 3, "executors": executors, "running_jobs": 8}
    decision = decide(idle_jobs=(idle(40),), **fields)
    assert decision.wanted == 3
    assert "not 12: Swarm finds no node for 1" in decision.reason
    assert decide(**fields).wanted == 2  # an unschedulable one is not needed


def test_one_pending_task_is_enough() -> None:
    executors = ExecutorCounts(busy=2, unschedulable=8)
    recent = (DemandSample(time_s=999, executors=10),)
    decision = decide(idle_jobs=(idle(40),), replicas=10, executors=executors, history=recent)
    assert decision.wanted == 3
    assert decision.reason.endswith(
        "not 12: Swarm finds no node for 8; one pending task is enough to detect free capacity"
    )
    limits = NORMAL.model_copy(update={"min_replicas": 5})
    assert decide(limits, replicas=10, executors=executors).wanted == 5


def test_executors_that_accept_no_jobs_keep_their_replicas() -> None:
    executors = ExecutorCounts(busy=4, unusable=2, unresponsive=1)
    fields: dict[str, Any] = {"replicas": 7, "executors": executors, "running_jobs": 16}
    decision = decide(idle_jobs=(idle(8),), **fields)
    assert decision.wanted == 9
    assert "3 not accepting jobs (1 unresponsive, 2 unusable: broken" in decision.reason
    assert decide(**fields).wanted == 7  # Swarm might stop those that work
    single = ScalingLimits(name="single", memory_mb=512, max_replicas=1)
    decision = decide(
        single, idle_jobs=(idle(1),), replicas=1, executors=ExecutorCounts(unusable=1)
    )
    assert decision.wanted == 1
    assert "2 needed, but max_replicas is 1" in decision.reason


def test_without_demand_unusable_executors_stop_and_unresponsive_ones_stay() -> None:
    assert decide(replicas=3, executors=ExecutorCounts(idle=1, unusable=2)).wanted == 0
    assert decide(replicas=3, executors=ExecutorCounts(idle=1, unresponsive=2)).wanted == 2


def test_if_all_executors_break_growth_is_bounded() -> None:
    def round_of(replicas: int) -> int:
        broken = ExecutorCounts(unusable=replicas)
        return decide(idle_jobs=(idle(8),), replicas=replicas, executors=broken).wanted

    replicas = 2
    for _ in range(5):
        replicas = round_of(replicas)
    assert replicas == 4 - 1


def test_jobs_that_match_nothing_do_not_count() -> None:
    executors = ExecutorCounts(busy=1, idle=2)
    fields: dict[str, Any] = {"replicas": 3, "executors": executors, "running_jobs": 4}
    old, new = idle(40, oldest_wait_s=700), idle(8, memory_mb=600, oldest_wait_s=5)
    decision = decide(idle_jobs=(old, new), idle_for_s=130, **fields)
    assert decision.wanted == 3
    assert "40 waiting do not count: they do not start although an executor" in decision.reason
    # One stays, in case they match later.
    assert decide(idle_jobs=(old,), idle_for_s=130, **fields).wanted == 2
    # On a busy pool executors are idle for moments, however long jobs have waited.
    assert decide(idle_jobs=(old,), idle_for_s=20, **fields).wanted == 11
    slow = {"start_up_s": 100.0, **fields}
    assert decide(idle_jobs=(old,), idle_for_s=130, **slow).wanted == 11


def test_missing_information_changes_nothing() -> None:
    decision = decide(
        replicas=7, missing=("the queue (schedd unreachable)", "slots"), idle_jobs=(idle(100),)
    )
    assert (decision.wanted, decision.frozen) == (7, True)
    assert decision.reason == "kept at 7: data unavailable: the queue (schedd unreachable), slots"


def test_no_executor_for_less_work_than_its_start() -> None:
    # 40 jobs of 1 s on 10 new executors would be 10 s of work: as much as one start.
    decision = decide(idle_jobs=(idle(40),), runtime_s=1.0)
    assert decision.wanted == 1
    assert "not 10: all of them together would have only 10 s of work" in decision.reason
    assert decide(idle_jobs=(idle(40),), runtime_s=60.0).wanted == 10
    assert decide(idle_jobs=(idle(40, runtime_s=60.0),), runtime_s=1.0).wanted == 10


def test_the_next_decision_starts_no_executor_that_the_last_one_did_not() -> None:
    fields: dict[str, Any] = {"idle_jobs": (idle(40, oldest_wait_s=5),), "runtime_s": 1.0}
    assert decide(replicas=1, executors=ExecutorCounts(starting=1), **fields).wanted == 1


def test_one_short_job_is_started_all_the_same() -> None:
    assert decide(idle_jobs=(idle(1),), runtime_s=0.0).wanted == 1


def busy_with_short_jobs(**kwargs: Any) -> dict[str, Any]:
    executors = ExecutorCounts(busy=5)
    return {"replicas": 5, "executors": executors, "running_jobs": 20, "runtime_s": 20.0} | kwargs


def test_no_executor_for_jobs_that_start_sooner_where_others_end() -> None:
    # One of 20 jobs ends each second; ten have ended before a new executor has started.
    decision = decide(idle_jobs=(idle(10),), **busy_with_short_jobs())
    assert decision.wanted == 5
    assert "capacity for 10 is free before a new executor has started" in decision.reason
    assert decide(idle_jobs=(idle(18),), **busy_with_short_jobs()).wanted == 8


def test_capacity_that_new_arrivals_use_does_not_count() -> None:
    assert decide(idle_jobs=(idle(10),), **busy_with_short_jobs(arrivals_per_s=0.8)).wanted == 9


def test_soon_free_capacity_does_not_count_after_a_long_wait() -> None:
    waited = idle(10, oldest_wait_s=31)
    assert decide(idle_jobs=(waited,), **busy_with_short_jobs()).wanted == 8


def test_headroom_while_jobs_keep_arriving() -> None:
    fields: dict[str, Any] = {
        "replicas": 16,
        "executors": ExecutorCounts(busy=16),
        "running_jobs": 64,
        "runtime_s": 100.0,
    }
    assert decide(**fields).wanted == 16
    assert decide(**fields, arrivals_per_s=0.64).wanted == 17


def test_same_in_same_out() -> None:
    fields = busy_with_short_jobs(idle_jobs=(idle(18), idle(3, cpus=2)))
    assert decide(**fields) == decide(**fields)


def test_the_cost_depends_on_requests_not_on_jobs() -> None:
    limits = ScalingLimits(name="large", cpus=16, memory_mb=65536, max_replicas=10_000)

    def seconds(count: int) -> float:
        requests = tuple(
            idle(count, cpus=1 + n % 8, memory_mb=256 + 128 * n, runtime_s=100) for n in range(200)
        )
        started_s = time.process_time()
        decide(limits, idle_jobs=requests, runtime_s=100.0)
        return time.process_time() - started_s

    few_s, many_s = (min(seconds(count) for _ in range(3)) for count in (1, 500))
    assert many_s < 20 * few_s


def test_the_class_of_a_configuration() -> None:
    capacity_class = CapacityClass(cpus=2, memory_mb=2048, replicas=3, max_replicas=9)
    limits = ScalingLimits.from_capacity_class("big", capacity_class)
    assert (limits.min_replicas, limits.max_replicas, limits.cpus) == (3, 9, 2)
    limits = ScalingLimits.from_capacity_class("big", capacity_class, min_replicas=0)
    assert limits.min_replicas == 0
    capacity_class = CapacityClass(memory_mb=2048, replicas=3, min_replicas=1, cooldown_s=7)
    limits = ScalingLimits.from_capacity_class("big", capacity_class)
    assert (limits.min_replicas, limits.cooldown_s) == (1, 7)


class Plugin:
    """A policy with a fixed result."""

    def __init__(self, replicas: int | None) -> None:
        self.replicas = replicas

    @hookimpl
    def swarm_runner_size_class(self, capacity_class: ScalingLimits) -> int | None:
        assert capacity_class.name == "normal"
        return self.replicas


@pytest.mark.parametrize(("replicas", "wanted"), [(5, 5), (500, 20), (None, 1)])
def test_a_plugin_is_asked_first_and_the_limits_hold(replicas: int | None, wanted: int) -> None:
    status = ClassSnapshot(time_s=0, replicas=0, idle_jobs=(idle(4),))
    hooks = Hooks([Plugin(replicas)], installed=False)
    assert hooks.size_class(NORMAL, status).wanted == wanted
