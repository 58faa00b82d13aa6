"""The pool's network: a free subnet of the configured size, and what is said when it is full."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from swarm_runner.errors import PreconditionError
from swarm_runner.model.pool import CapacityClass, Network, Pool
from swarm_runner.model.pool_status import AddressSpace, TaskState
from swarm_runner.provisioner.subnets import (
    ADDRESS_TIMEOUT_S,
    address_problem,
    capacity,
    choose_subnet,
    enlarge,
    waiting_for_address,
)
from tests.unit.provisioner.test_provisioner import Harness

SPACE = AddressSpace(
    pools=("10.0.0.0/8",), used=(("ingress", "10.0.0.0/24"), ("none", ""), ("six", "fd00::/64"))
)


def test_the_default_has_addresses_for_a_thousand_executors() -> None:
    subnet = choose_subnet(Network(), SPACE)
    assert str(subnet) == "10.255.248.0/21"
    assert (capacity(str(subnet)) or 0) > 2 * 1000


GROWING = Pool(
    name="galaxy",
    classes={
        "normal": CapacityClass(memory_mb=64, max_replicas=3_000),
        "big": CapacityClass(memory_mb=128, max_replicas=1_000),
    },
)


def test_a_new_network_has_addresses_for_all_executors(tmp_path: Path) -> None:
    harness = Harness(tmp_path, pool=GROWING)
    harness.provisioner.up()
    assert harness.swarm.network_subnet("galaxy_htcondor").endswith("/20")
    assert not any("addresses" in message for message in harness.messages)


@pytest.mark.parametrize("network", [Network(prefix=24), Network(subnet="10.9.0.0/24")])
def test_a_configured_size_stays_and_is_warned_of(network: Network, tmp_path: Path) -> None:
    harness = Harness(tmp_path, pool=GROWING.model_copy(update={"network": network}))
    harness.provisioner.up()
    assert harness.swarm.network_subnet("galaxy_htcondor").endswith("/24")
    (warning,) = (message for message in harness.messages if "253 addresses" in message)
    assert "needs 4,017" in warning
    assert "Set pool.network.prefix to 20" in warning


@pytest.mark.parametrize("prefix", range(14, 22))
def test_the_prefix_is_the_longest_that_suffices(prefix: int) -> None:
    available = capacity(f"10.0.0.0/{prefix}") or 0
    assert enlarge(Network(), available).prefix == prefix
    assert enlarge(Network(), available + 1).prefix == prefix - 1


def test_a_subnet_in_use_is_passed_over() -> None:
    used = (*SPACE.used, ("other", "10.255.250.0/24"), ("lan", "10.255.240.0/22"))
    assert str(choose_subnet(Network(), SPACE.model_copy(update={"used": used}))) == (
        "10.255.232.0/21"
    )


def test_a_configured_subnet_is_used_or_refused() -> None:
    assert str(choose_subnet(Network(subnet="172.30.0.0/20"), SPACE)) == "172.30.0.0/20"
    with pytest.raises(PreconditionError, match=r"overlaps with 10\.0\.0\.0/24 of network ingress"):
        choose_subnet(Network(subnet="10.0.0.0/20"), SPACE)


def test_no_free_subnet() -> None:
    small = AddressSpace(pools=("10.20.0.0/24",))
    with pytest.raises(PreconditionError, match=r"10\.20\.0\.0/24\) have no free subnet"):
        choose_subnet(Network(), small)
    assert str(choose_subnet(Network(prefix=25), small)) == "10.20.0.128/25"


@pytest.mark.parametrize("subnet", ["10.0.0.1/21", "fd00::/64", "x", "10.0.0.0", "10.0.0.0/8", ""])
def test_what_is_not_a_subnet(subnet: str) -> None:
    with pytest.raises(ValidationError, match=r"such as 10\.200\.0\.0/21"):
        Network(subnet=subnet)


def test_subnet_and_prefix_exclude_each_other() -> None:
    with pytest.raises(ValidationError, match="does not apply with subnet"):
        Pool(network={"subnet": "10.9.0.0/24", "prefix": 24})


@pytest.fixture
def full(tmp_path: Path) -> Harness:
    """A pool of eleven executors whose network has thirteen addresses: two are missing."""
    pool = Pool(
        name="galaxy",
        network=Network(prefix=28),
        classes={"normal": CapacityClass(memory_mb=64, replicas=11)},
    )
    harness = Harness(tmp_path, pool=pool)
    harness.provisioner.up()
    with pytest.raises(PreconditionError):
        harness.provisioner.scale({"normal": 13}, timeout_s=0.2)
    return harness


def test_a_full_network_is_a_problem_of_the_pool(full: Harness) -> None:
    status = full.provisioner.status()
    assert sorted(e.task_state for e in status.executors) == ["new"] * 2 + ["running"] * 11
    assert status.problems[0].startswith(
        "2 tasks cannot start: network galaxy_htcondor (10.255.255.240/28) has 13 addresses, and "
        "all are in use"
    )


def test_tasks_start_when_addresses_are_free_again(full: Harness) -> None:
    full.provisioner.scale({"normal": 4}, timeout_s=5)
    assert full.provisioner.status().problems == ()


def test_a_network_without_a_subnet_is_not_called_full() -> None:
    task = TaskState(id="t", service="s", state="new", desired="running")
    assert waiting_for_address([task], {"t": ADDRESS_TIMEOUT_S}) == []
    assert waiting_for_address([task], {"t": ADDRESS_TIMEOUT_S + 1}) == [task]
    message = address_problem([task], [task], [], "n", "", virtual_addresses=False)
    assert "which has no subnet" in message
    assert "The log of the Docker engine" in message


def test_an_existing_pool_keeps_its_network(tmp_path: Path) -> None:
    harness = Harness(tmp_path)
    harness.provisioner.up()
    subnet = harness.swarm.network_subnet("galaxy_htcondor")
    changed = Pool(name="galaxy", network=Network(subnet="10.9.0.0/22"))
    harness.provisioner_for(changed).up()
    assert harness.swarm.network_subnet("galaxy_htcondor") == subnet
    assert any(f"keeps its subnet {subnet}" in message for message in harness.messages)
