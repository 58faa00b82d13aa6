"""Commands outlive an election of Swarm's leader, and wait for nothing but what they are about."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from swarm_runner.errors import OutOfReachError, RefusedError
from swarm_runner.model.pool import Pool
from swarm_runner.model.stack import ServiceWish
from swarm_runner.provisioner import Provisioner
from swarm_runner.provisioner.waiting import Waiting
from swarm_runner.testing.swarm import FakeSwarm

POOL = Pool(name="galaxy")
MANAGER = "galaxy_htcondor"
NORMAL, BIG = f"{MANAGER}-executor", f"{MANAGER}-executor-big"
AUTOSCALER = f"{MANAGER}-autoscaler"


class Leaderless(FakeSwarm):
    """Now and then some questions meet an election; those to the engine alone do not."""

    elections = False

    def __init__(self) -> None:
        super().__init__()
        self._asked = itertools.count()

    def answer(self) -> None:
        """See FakeSwarm."""
        super().answer()
        if self.elections and next(self._asked) % 23 < 3:
            raise OutOfReachError("the Swarm has no leader (a fake one)")


class Bench:
    def __init__(self, directory: Path, swarm: FakeSwarm) -> None:
        self.swarm = swarm
        self.said: list[str] = []
        self._token = directory / "token"
        self.provisioner = self.of(POOL)
        self.provisioner.up()
        self.said.clear()

    def of(self, pool: Pool) -> Provisioner:
        return Provisioner(
            pool, self.swarm, self.swarm, self._token, self.said.append, look_s=0.001
        )


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, FakeSwarm())


@pytest.fixture
def elections(tmp_path: Path) -> Iterator[Bench]:
    swarm = Leaderless()
    bench = Bench(tmp_path, swarm)
    swarm.elections = True
    yield bench
    swarm.elections = False
    assert any("waiting: the Swarm has no leader" in said for said in bench.said)


def test_scaling_outlives_elections(elections: Bench) -> None:
    elections.provisioner.scale({"normal": 5, "big": 2})


def test_an_upgrade_outlives_elections(elections: Bench) -> None:
    elections.provisioner.upgrade("registry/pool:2")
    elections.swarm.elections = False  # type: ignore[attr-defined]
    services = elections.swarm.services("galaxy").values()
    assert {service.image for service in services} == {"registry/pool:2"}
    assert not any(service.updating for service in services)


def test_a_rollback_outlives_elections(elections: Bench) -> None:
    elections.swarm.failing["registry/broken:1"] = "task: non-zero exit (7)"
    with pytest.raises(RefusedError, match="rolled back"):
        elections.provisioner.upgrade("registry/broken:1")
    elections.swarm.elections = False  # type: ignore[attr-defined]
    images = {service.image for service in elections.swarm.services("galaxy").values()}
    assert images == {"swarm-runner-pool:fake"}


def test_taking_down_outlives_elections(elections: Bench) -> None:
    elections.swarm.busy.add("task00000002")
    drained = iter([False] * 9)

    def unfinished(_real: Callable[[], int] = elections.swarm.unfinished) -> int:
        if next(drained, True):
            elections.swarm.busy.clear()
        return _real()

    elections.swarm.unfinished = unfinished  # type: ignore[method-assign]
    elections.provisioner.down(drain=True)


def test_who_stays_away_is_told_with_its_own_error() -> None:
    said: list[str] = []

    def look() -> bool:
        raise OutOfReachError("nobody answers")

    with pytest.raises(OutOfReachError, match="nobody answers"):
        Waiting(said.append, 0.001, away_s=0.01).until(look, bool, None)
    with pytest.raises(OutOfReachError, match="nobody answers"):
        Waiting(said.append, 0.001).until(look, bool, 0.01)
    assert said == ["waiting: nobody answers"] * 2


def test_scale_waits_for_the_named_classes_alone(bench: Bench) -> None:
    bench.swarm.full[BIG] = "no suitable node (insufficient resources on 1 node)"
    bench.swarm.scale_service(BIG, 3)
    assert bench.provisioner.scale({"normal": 4}, limit_s=5).ready("normal") == 4
    bench.swarm.remove_services([BIG])
    assert bench.provisioner.scale({"normal": 3}, limit_s=5).ready("normal") == 3


def test_a_named_class_without_its_service_ends_at_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    scale = bench.swarm.scale_service

    def losing(name: str, replicas: int, version: int | None = None) -> None:
        scale(name, replicas, version)
        bench.swarm.remove_services([name])

    with monkeypatch.context() as patch:
        patch.setattr(bench.swarm, "scale_service", losing)
        with pytest.raises(RefusedError, match=f"{BIG} is missing; `swarm-runner pool up` makes"):
            bench.provisioner.scale({"big": 2})
    before = bench.provisioner.status().replicas
    with pytest.raises(RefusedError, match=f"{BIG} is missing; `swarm-runner pool up` makes it"):
        bench.provisioner.scale({"normal": 4, "big": 2})
    assert bench.provisioner.status().replicas == before


def test_an_upgrade_waits_for_what_it_changes_alone(bench: Bench) -> None:
    bench.swarm.full[NORMAL] = "no suitable node (insufficient resources on 1 node)"
    bench.swarm.scale_service(NORMAL, 3)
    shape = POOL.classes["big"].model_copy(update={"memory_mb": 4096})
    changed = POOL.model_copy(update={"classes": dict(POOL.classes) | {"big": shape}})
    assert bench.of(changed).upgrade(limit_s=5).ready("big") == 1
    bench.of(changed).upgrade(limit_s=5)


def test_mend_waits_for_the_classes_that_it_mends(bench: Bench) -> None:
    bench.swarm.full[BIG] = "no suitable node (insufficient resources on 1 node)"
    bench.swarm.scale_service(BIG, 3)
    sick = bench.provisioner.status().executors[0].task
    bench.swarm.broken[sick] = "no disk"
    found, status = bench.provisioner.mend(limit_s=5)
    assert [mending.task for mending in found] == [sick]
    assert status.ready("normal") == 2
    bench.swarm.remove_services([BIG])
    with pytest.raises(RefusedError, match=f"{BIG} is missing"):
        bench.provisioner.mend()


@pytest.mark.parametrize("commands", ["up", "upgrade"])
def test_an_autoscaler_that_does_not_run_stands_in_no_ones_way(bench: Bench, commands: str) -> None:
    bench.provisioner.up(autoscale=True)
    bench.swarm.full[AUTOSCALER] = "no suitable node (scheduling constraints not satisfied)"
    [task] = [t for t in bench.swarm.tasks("galaxy") if t.service == AUTOSCALER]
    bench.swarm.lose_node_of(task.id)
    pool = POOL.model_copy(update={"image": "registry/pool:2"})
    status = getattr(bench.of(pool), commands)(limit_s=5)
    assert "the autoscaler is not running" in "; ".join(status.trouble)
    assert bench.provisioner.scale({"normal": 3}, limit_s=5).ready("normal") == 3


def test_another_manager_takes_the_autoscaler_of_a_node_that_is_gone(bench: Bench) -> None:
    bench.provisioner.up(autoscale=True)
    bench.swarm.full[AUTOSCALER] = "no suitable node (scheduling constraints not satisfied)"
    [task] = [t for t in bench.swarm.tasks("galaxy") if t.service == AUTOSCALER]
    bench.swarm.lose_node_of(task.id)
    bench.swarm.name = "swarm-2"
    bench.provisioner.up(autoscale=True, limit_s=5)
    assert _wish(bench.swarm, AUTOSCALER).node_id == "node-2"
    assert _wish(bench.swarm, MANAGER).node_id == "node-1"


@pytest.mark.parametrize("asked", ["swarm-1", "swarm-2"])
def test_a_manager_removed_by_hand_comes_back_where_its_queue_is(bench: Bench, asked: str) -> None:
    bench.swarm.remove_services([MANAGER])
    bench.swarm.name = asked
    assert bench.provisioner.up(limit_s=5).settled
    assert _wish(bench.swarm, MANAGER).node_id == "node-1"
    manager = bench.provisioner.status().manager
    assert manager is not None
    assert manager.node == "swarm-1"


def _wish(swarm: FakeSwarm, service: str) -> ServiceWish:
    wish = swarm.service_spec(service)["wish"]
    assert isinstance(wish, ServiceWish)
    return wish
