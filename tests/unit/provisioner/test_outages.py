"""Commands survive an election of Swarm's leader, and wait only for what they change."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from swarm_runner.errors import PreconditionError, UnreachableError
from swarm_runner.model.pool import Pool
from swarm_runner.provisioner import Provisioner
from swarm_runner.provisioner.waiter import Waiter
from swarm_runner.swarm.specs import ServiceSpec
from swarm_runner.testing.swarm import FakeSwarm

POOL = Pool(name="galaxy")
MANAGER_SERVICE = "galaxy_htcondor"
NORMAL, BIG = f"{MANAGER_SERVICE}-executor", f"{MANAGER_SERVICE}-executor-big"
AUTOSCALER_SERVICE = f"{MANAGER_SERVICE}-autoscaler"


class LeaderlessSwarm(FakeSwarm):
    """Three of every 23 requests fail because the Swarm elects a leader."""

    elections = False

    def __init__(self) -> None:
        super().__init__()
        self._request_numbers = itertools.count()

    def check_reachable(self) -> None:
        """See FakeSwarm."""
        super().check_reachable()
        if self.elections and next(self._request_numbers) % 23 < 3:
            raise UnreachableError("the Swarm has no leader (a fake one)")


class Harness:
    def __init__(self, directory: Path, swarm: FakeSwarm) -> None:
        self.swarm = swarm
        self.messages: list[str] = []
        self._token = directory / "token"
        self.provisioner = self.provisioner_for(POOL)
        self.provisioner.up()
        self.messages.clear()

    def provisioner_for(self, pool: Pool) -> Provisioner:
        return Provisioner(
            pool, self.swarm, self.swarm, self._token, self.messages.append, poll_interval_s=0.001
        )


@pytest.fixture
def harness(tmp_path: Path) -> Harness:
    return Harness(tmp_path, FakeSwarm())


@pytest.fixture
def elections(tmp_path: Path) -> Iterator[Harness]:
    swarm = LeaderlessSwarm()
    harness = Harness(tmp_path, swarm)
    swarm.elections = True
    yield harness
    swarm.elections = False
    assert any("retrying: the Swarm has no leader" in m for m in harness.messages)


def test_scaling_survives_elections(elections: Harness) -> None:
    elections.provisioner.scale({"normal": 5, "big": 2})


def test_an_upgrade_survives_elections(elections: Harness) -> None:
    elections.provisioner.upgrade("registry/pool:2")
    elections.swarm.elections = False  # type: ignore[attr-defined]
    services = elections.swarm.services("galaxy").values()
    assert {service.image for service in services} == {"registry/pool:2"}
    assert not any(service.updating for service in services)


def test_a_rollback_survives_elections(elections: Harness) -> None:
    elections.swarm.start_errors["registry/broken:1"] = "task: non-zero exit (7)"
    with pytest.raises(PreconditionError, match="rolled back"):
        elections.provisioner.upgrade("registry/broken:1")
    elections.swarm.elections = False  # type: ignore[attr-defined]
    images = {service.image for service in elections.swarm.services("galaxy").values()}
    assert images == {"swarm-runner-pool:fake"}


def test_taking_down_survives_elections(elections: Harness) -> None:
    elections.swarm.busy_tasks.add("task00000002")
    drained = iter([False] * 9)

    def count_unfinished(_real: Callable[[], int] = elections.swarm.count_unfinished) -> int:
        if next(drained, True):
            elections.swarm.busy_tasks.clear()
        return _real()

    elections.swarm.count_unfinished = count_unfinished  # type: ignore[method-assign]
    elections.provisioner.down(drain=True)


def test_a_long_outage_raises_its_own_error() -> None:
    messages: list[str] = []

    def poll() -> bool:
        raise UnreachableError("no answer")

    with pytest.raises(UnreachableError, match="no answer"):
        Waiter(messages.append, 0.001, outage_timeout_s=0.01).poll_until(poll, bool, None)
    with pytest.raises(UnreachableError, match="no answer"):
        Waiter(messages.append, 0.001).poll_until(poll, bool, 0.01)
    assert messages == ["retrying: no answer"] * 2


def test_scale_waits_for_the_named_classes_alone(harness: Harness) -> None:
    harness.swarm.unschedulable[BIG] = "no suitable node (insufficient resources on 1 node)"
    harness.swarm.scale_service(BIG, 3)
    assert harness.provisioner.scale({"normal": 4}, timeout_s=5).ready("normal") == 4
    harness.swarm.remove_services([BIG])
    assert harness.provisioner.scale({"normal": 3}, timeout_s=5).ready("normal") == 3


def test_a_named_class_without_its_service_ends_at_once(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    scale = harness.swarm.scale_service

    def losing(name: str, replicas: int, version: int | None = None) -> None:
        scale(name, replicas, version)
        harness.swarm.remove_services([name])

    with monkeypatch.context() as patch:
        patch.setattr(harness.swarm, "scale_service", losing)
        with pytest.raises(
            PreconditionError, match=f"{BIG} is missing; run `swarm-runner pool up` to create it"
        ):
            harness.provisioner.scale({"big": 2})
    before = harness.provisioner.status().replicas
    with pytest.raises(
        PreconditionError, match=f"{BIG} is missing; run `swarm-runner pool up` to create it"
    ):
        harness.provisioner.scale({"normal": 4, "big": 2})
    assert harness.provisioner.status().replicas == before


def test_an_upgrade_waits_for_what_it_changes_alone(harness: Harness) -> None:
    harness.swarm.unschedulable[NORMAL] = "no suitable node (insufficient resources on 1 node)"
    harness.swarm.scale_service(NORMAL, 3)
    big = POOL.classes["big"].model_copy(update={"memory_mb": 4096})
    changed = POOL.model_copy(update={"classes": dict(POOL.classes) | {"big": big}})
    assert harness.provisioner_for(changed).upgrade(timeout_s=5).ready("big") == 1
    harness.provisioner_for(changed).upgrade(timeout_s=5)


def test_repair_waits_only_for_the_classes_that_it_changes(harness: Harness) -> None:
    harness.swarm.unschedulable[BIG] = "no suitable node (insufficient resources on 1 node)"
    harness.swarm.scale_service(BIG, 3)
    unhealthy = harness.provisioner.status().executors[0].task
    harness.swarm.broken_reasons[unhealthy] = "no disk"
    found, status = harness.provisioner.repair(timeout_s=5)
    assert [replacement.task for replacement in found] == [unhealthy]
    assert status.ready("normal") == 2
    harness.swarm.remove_services([BIG])
    with pytest.raises(PreconditionError, match=f"{BIG} is missing"):
        harness.provisioner.repair()


@pytest.mark.parametrize("command", ["up", "upgrade"])
def test_an_autoscaler_that_does_not_run_blocks_nothing(harness: Harness, command: str) -> None:
    harness.provisioner.up(autoscale=True)
    harness.swarm.unschedulable[AUTOSCALER_SERVICE] = (
        "no suitable node (scheduling constraints not satisfied)"
    )
    [task] = [t for t in harness.swarm.tasks("galaxy") if t.service == AUTOSCALER_SERVICE]
    harness.swarm.mark_node_down(task.id)
    pool = POOL.model_copy(update={"image": "registry/pool:2"})
    status = getattr(harness.provisioner_for(pool), command)(timeout_s=5)
    assert "the autoscaler is not running" in "; ".join(status.problems)
    assert harness.provisioner.scale({"normal": 3}, timeout_s=5).ready("normal") == 3


def test_another_manager_takes_the_autoscaler_of_a_node_that_is_gone(harness: Harness) -> None:
    harness.provisioner.up(autoscale=True)
    harness.swarm.unschedulable[AUTOSCALER_SERVICE] = (
        "no suitable node (scheduling constraints not satisfied)"
    )
    [task] = [t for t in harness.swarm.tasks("galaxy") if t.service == AUTOSCALER_SERVICE]
    harness.swarm.mark_node_down(task.id)
    harness.swarm.engine_name = "swarm-2"
    harness.provisioner.up(autoscale=True, timeout_s=5)
    assert _spec(harness.swarm, AUTOSCALER_SERVICE).node_id == "node-2"
    assert _spec(harness.swarm, MANAGER_SERVICE).node_id == "node-1"


@pytest.mark.parametrize("engine_name", ["swarm-1", "swarm-2"])
def test_a_manager_removed_by_hand_comes_back_where_its_queue_is(
    harness: Harness, engine_name: str
) -> None:
    harness.swarm.remove_services([MANAGER_SERVICE])
    harness.swarm.engine_name = engine_name
    assert harness.provisioner.up(timeout_s=5).converged
    assert _spec(harness.swarm, MANAGER_SERVICE).node_id == "node-1"
    manager = harness.provisioner.status().manager
    assert manager is not None
    assert manager.node == "swarm-1"


def _spec(swarm: FakeSwarm, service: str) -> ServiceSpec:
    spec = swarm.service_spec(service)["spec"]
    assert isinstance(spec, ServiceSpec)
    return spec
