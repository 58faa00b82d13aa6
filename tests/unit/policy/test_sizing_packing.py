from __future__ import annotations

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from swarm_runner.model.scaling import IdleJobs, ResourceAmounts, ScalingLimits
from swarm_runner.policy.packing import (
    CapacityTier,
    ResourceVector,
    executor_capacity,
    fit_count,
    pack,
    slot_size,
    subtract,
)

CLASS_LIMITS = ScalingLimits(name="normal", cpus=8, memory_mb=8192, disk_mb=10_000, gpus=2)

requests = st.builds(
    IdleJobs,
    cpus=st.integers(1, 8),
    memory_mb=st.integers(1, 8192),
    disk_mb=st.integers(0, 10_000),
    gpus=st.integers(0, 2),
    count=st.integers(1, 40),
)


def with_slot_sizes(idle_jobs: list[IdleJobs]) -> list[tuple[IdleJobs, ResourceVector]]:
    pairs = [(request, slot_size(request, CLASS_LIMITS)) for request in idle_jobs]
    return [(request, resources) for request, resources in pairs if resources is not None]


def one_by_one(pairs: list[tuple[IdleJobs, ResourceVector]]) -> int:
    """Return the executors that a plain first fit needs, in the given order."""
    bins: list[ResourceVector] = []
    for request, resources in pairs:
        for _ in range(request.count):
            index = next((n for n, free in enumerate(bins) if fit_count(resources, free)), None)
            if index is None:
                index = len(bins)
                bins.append(executor_capacity(CLASS_LIMITS))
            bins[index] = subtract(bins[index], resources)
    return len(bins)


@given(st.lists(requests, max_size=8))
def test_every_job_is_placed_and_no_executor_is_overcommitted(idle_jobs: list[IdleJobs]) -> None:
    pairs = with_slot_sizes(idle_jobs)
    new = pack(pairs, [], CLASS_LIMITS)
    assert new.job_count == sum(request.count for request, _ in pairs)
    minimum = [
        math.ceil(sum(request.count * resources[n] for request, resources in pairs) / total)
        for n, total in enumerate(executor_capacity(CLASS_LIMITS))
        if total
    ]
    assert max(minimum) <= new.used_count <= new.job_count
    # Groups are packed about as well as single jobs: rarely 1.3 times as many, seen once.
    assert new.used_count <= one_by_one(pairs) * 2 + 2


@given(st.lists(requests, max_size=8), st.integers(0, 30))
def test_existing_free_capacity_saves_new_executors(idle_jobs: list[IdleJobs], idle: int) -> None:
    pairs = with_slot_sizes(idle_jobs)
    existing = CapacityTier({executor_capacity(CLASS_LIMITS): idle})
    new = pack(pairs, [existing], CLASS_LIMITS)
    assert existing.job_count + new.job_count == sum(request.count for request, _ in pairs)
    assert existing.used_count <= idle
    assert not new.job_count or existing.used_count == idle
    # First fit, largest first, is not monotonic, but nearly so.
    alone = pack(pairs, [], CLASS_LIMITS)
    assert existing.used_count + new.used_count <= alone.used_count * 2 + 2


@given(st.integers(1, 8192))
def test_the_slot_size_is_the_next_step_or_all_that_fits(memory_mb: int) -> None:
    resources = slot_size(ResourceAmounts(cpus=1, memory_mb=memory_mb), CLASS_LIMITS)
    assert resources is not None
    assert memory_mb <= resources[1] < memory_mb + 128
    assert resources[1] % 128 == 0


def test_an_odd_executor_gives_what_was_asked_where_no_step_fits() -> None:
    odd = ScalingLimits(name="odd", cpus=1, memory_mb=1000)
    assert slot_size(ResourceAmounts(memory_mb=900), odd) == (1, 1000 - 100, 0, 0, 0)
    assert slot_size(ResourceAmounts(memory_mb=1001), odd) is None


def test_in_a_class_with_virtual_machines_every_job_is_one() -> None:
    limits = ScalingLimits(name="vm", cpus=8, memory_mb=8192, virtual_machines=2)
    guest = IdleJobs(memory_mb=256, count=10)
    resources = slot_size(guest, limits)
    assert resources == (1, 256, 0, 0, 1)
    assert pack([(guest, resources)], [], limits).used_count == 5


def test_a_better_fit_of_many_shapes_is_found() -> None:
    halves = [IdleJobs(cpus=cpus, memory_mb=128, count=10) for cpus in (3, 5)]
    assert pack(with_slot_sizes(halves), [], CLASS_LIMITS).used_count == 10


def test_more_jobs_never_need_fewer_executors() -> None:
    counts = [1, 5, 8, 9, 100, 1000]
    needed = [
        pack(
            with_slot_sizes([IdleJobs(cpus=3, memory_mb=500, count=count)]), [], CLASS_LIMITS
        ).used_count
        for count in counts
    ]
    assert needed == [math.ceil(count / 2) for count in counts]
    assert all(before <= after for before, after in pairwise(needed))
