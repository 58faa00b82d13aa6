from __future__ import annotations

from typing import Any

import pytest

from swarm_runner.errors import InvalidInputError
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.pool import CapacityClass, Destination, Pool, Route
from swarm_runner.policy.routing import swarm_runner_route

POOL = Pool(
    name="galaxy",
    classes={
        "normal": CapacityClass(cpus=1, memory_mb=1024),
        "wide": CapacityClass(cpus=16, memory_mb=1024),
        "big": CapacityClass(cpus=2, memory_mb=4096, disk_mb=10_000),
        "gpu": CapacityClass(cpus=4, memory_mb=8192, gpus=1),
    },
)
SIZES = (
    "normal: 1 cpu, 1024 MB memory; wide: 16 cpu, 1024 MB memory; "
    "big: 2 cpu, 4096 MB memory, 10000 MB disk; gpu: 4 cpu, 8192 MB memory, 1 gpu"
)


def make_invocation(resources: dict[str, int] | None = None, **fields: Any) -> Invocation:
    call = {"key": "k7", "image": "debian", "command": ["true"], "resources": resources or {}}
    return Invocation(**(call | fields))


def route(invocation: Invocation, **fields: Any) -> Route:
    return swarm_runner_route(invocation, Destination(pool=POOL, **fields), POOL)


def routing_error(invocation: Invocation, **fields: Any) -> str:
    with pytest.raises(InvalidInputError) as caught:
        route(invocation, **fields)
    assert [fault.location for fault in caught.value.diagnostics] == ["k7"]
    return str(caught.value)


@pytest.mark.parametrize(
    ("resources", "capacity_class"),
    [
        ({}, "normal"),
        ({"memory_mb": 1024}, "normal"),
        ({"memory_mb": 1025}, "big"),
        ({"cpus": 2}, "wide"),
        ({"cpus": 2, "memory_mb": 1025}, "big"),
        ({"cpus": 16}, "wide"),
        ({"disk_mb": 20_000, "memory_mb": 2000}, "gpu"),
        ({"gpus": 1}, "gpu"),
        ({"memory_mb": 8192}, "gpu"),
    ],
)
def test_the_smallest_class_that_fits(resources: dict[str, int], capacity_class: str) -> None:
    chosen = route(make_invocation(resources))
    assert chosen.capacity_class == capacity_class
    assert chosen.candidates == (capacity_class,)
    assert chosen.reason.startswith("the smallest class that fits a request of ")


def test_the_reason_is_in_words() -> None:
    chosen = route(make_invocation({"cpus": 2, "memory_mb": 900, "disk_mb": 5, "gpus": 1}))
    assert chosen.reason == (
        "the smallest class that fits a request of 2 cpu, 900 MB memory, 5 MB disk, 1 gpu"
    )


def test_an_explicit_class_wins_if_it_fits() -> None:
    chosen = route(make_invocation(capacity_class="big"))
    assert (chosen.capacity_class, chosen.reason) == ("big", "requested")
    assert route(make_invocation(), capacity_class="gpu").capacity_class == "gpu"
    assert (
        route(make_invocation(capacity_class="big"), capacity_class="gpu").capacity_class == "big"
    )


def test_an_explicit_class_that_does_not_fit_is_refused_with_its_size() -> None:
    message = routing_error(make_invocation({"memory_mb": 2000}, capacity_class="normal"))
    assert (
        "2000 MB memory, 1024 MB disk does not fit class normal (1 cpu, 1024 MB memory)" in message
    )


def test_an_unknown_class_is_refused_with_those_that_are() -> None:
    message = routing_error(make_invocation(capacity_class="bigg"))
    assert message == (
        f"k7: class 'bigg' does not exist in pool galaxy; did you mean big? The pool has {SIZES}"
    )


@pytest.mark.parametrize(
    "resources",
    [{"cpus": 17}, {"memory_mb": 8193}, {"gpus": 2}, {"cpus": 16, "memory_mb": 1025}],
)
def test_what_fits_no_class_is_refused_with_their_sizes(resources: dict[str, int]) -> None:
    message = routing_error(make_invocation(resources))
    assert message.endswith(f"fits no class of pool galaxy; request less. The pool has {SIZES}")


def test_a_job_that_may_grow_has_the_classes_it_grows_into() -> None:
    chosen = route(make_invocation({"memory_mb": 900, "max_memory_mb": 3000}))
    assert chosen.capacity_class == "normal"
    assert chosen.candidates == ("normal", "wide", "big")
    grown = route(make_invocation({"cpus": 2, "memory_mb": 900, "max_memory_mb": 8000}))
    assert grown.candidates == ("wide", "big", "gpu")
    assert route(make_invocation({"memory_mb": 900, "max_memory_mb": 1000})).candidates == (
        "normal",
    )


def test_an_explicit_class_grows_from_there() -> None:
    chosen = route(make_invocation({"memory_mb": 900, "max_memory_mb": 8000}, capacity_class="big"))
    assert chosen.candidates == ("big", "gpu")


def test_growth_that_fits_no_class_is_refused_at_once() -> None:
    message = routing_error(make_invocation({"memory_mb": 900, "max_memory_mb": 9000}))
    assert "max_memory_mb 9000 fits no class of pool galaxy" in message


VM_POOL = Pool(
    name="galaxy",
    classes={
        "normal": CapacityClass(memory_mb=4096),
        "vm": CapacityClass(cpus=2, memory_mb=512, virtual_machines=2, emulate=True),
        "vm-big": CapacityClass(cpus=4, memory_mb=2048, virtual_machines=1),
    },
)


def vm_invocation(name: str | None = None, **fields: Any) -> Invocation:
    vm = {"memory_mb": 64, "disks": [{"file": "a"}]} | fields
    return make_invocation(image=None, command=None, vm=vm, capacity_class=name)


def routed_class(invocation: Invocation, pool: Pool = VM_POOL, **fields: Any) -> str:
    destination = Destination(pool=pool, **fields)
    return swarm_runner_route(invocation, destination, pool).capacity_class


def test_a_virtual_machine_is_routed_by_its_own_figures_to_a_class_that_has_some() -> None:
    assert routed_class(vm_invocation()) == "vm"
    assert routed_class(vm_invocation(memory_mb=2000, vcpus=2)) == "vm-big"
    assert routed_class(vm_invocation(), capacity_class="normal") == "vm"
    assert routed_class(make_invocation({"memory_mb": 2000})) == "normal"


@pytest.mark.parametrize(
    ("invocation", "says"),
    [
        (
            vm_invocation(memory_mb=4096),
            "fits no class of pool galaxy; request less. The pool has vm: 2 cpu, 512 MB memory, 2",
        ),
        (
            vm_invocation("normal"),
            "class normal runs only containers; for virtual machines the pool has vm:",
        ),
        (
            make_invocation({"memory_mb": 4096}, capacity_class="vm"),
            "class vm runs only virtual machines; for containers the pool has normal:",
        ),
        (make_invocation({"memory_mb": 9000}), "The pool has normal: 1 cpu, 4096 MB memory"),
    ],
)
def test_a_job_of_the_wrong_kind_or_size_is_refused(invocation: Invocation, says: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        routed_class(invocation)
    assert says in str(caught.value)


def test_a_pool_without_virtual_machines_says_how_it_gets_them() -> None:
    assert "set `virtual_machines: 1` in one" in routing_error(vm_invocation())
