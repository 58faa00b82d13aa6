"""Pools with several managers, on a fake Swarm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from swarm_runner.cli.pool_table import pool_table
from swarm_runner.errors import InvalidInputError, PreconditionError
from swarm_runner.model.pool import Pool
from swarm_runner.model.pool_status import TaskState
from swarm_runner.provisioner.managers import check_manager_is_here
from swarm_runner.provisioner.preconditions import PermanentError
from swarm_runner.swarm.compose import compose
from swarm_runner.swarm.specs import NODE_LABEL, Stack
from swarm_runner.testing.swarm import FakeSwarm
from tests.unit.provisioner.test_provisioner import Harness

SETTINGS: dict[str, Any] = {
    "name": "galaxy",
    "image": "registry/pool:1",
    "managers": 3,
    "hosts": ["192.0.2.1", "swarm-2.example.org", "swarm-3"],
    "spool": "/srv/queue",
}
SERVICES = ["galaxy_htcondor", "galaxy_htcondor-manager-2", "galaxy_htcondor-manager-3"]


@pytest.fixture
def harness(tmp_path: Path) -> Harness:
    swarm = FakeSwarm()
    swarm.node_count = 3
    return Harness(tmp_path, swarm, Pool.model_validate(SETTINGS))


def task(number: int, state: str, node: str) -> TaskState:
    return TaskState(
        id=f"task{number}", service=SERVICES[number], state=state, desired="running", node=node
    )


@pytest.mark.parametrize(("state", "node"), [("pending", ""), ("preparing", "swarm-1")])
def test_a_manager_that_may_still_start_here_is_waited_for(state: str, node: str) -> None:
    elsewhere = task(1, "running", "swarm-2")
    check_manager_is_here([task(0, state, node), elsewhere], "swarm-1")
    with pytest.raises(PermanentError, match=r"runs on swarm-2, .* engine of\s+swarm-1"):
        check_manager_is_here([task(0, state, "swarm-3"), elsewhere], "swarm-1")


@pytest.mark.parametrize("state", ["failed", "shutdown"])
def test_a_manager_that_has_stopped_here_is_not_waited_for(state: str) -> None:
    with pytest.raises(PermanentError, match="Select the engine of swarm-2"):
        check_manager_is_here([task(0, state, "swarm-1"), task(1, "running", "swarm-2")], "swarm-1")


def changed(**changes: Any) -> Pool:
    return Pool.model_validate(SETTINGS | changes)


def test_each_manager_has_its_own_place(harness: Harness) -> None:
    status = harness.provisioner.up()
    assert [(task.service, task.node) for task in status.managers] == [
        (SERVICES[0], "swarm-1"),
        (SERVICES[1], "swarm-2"),
        (SERVICES[2], "swarm-3"),
    ]
    assert status.converged
    services = harness.swarm.services("galaxy")
    environments = [services[name].environment for name in SERVICES]
    assert [e["SWARM_RUNNER_HOST"] for e in environments] == SETTINGS["hosts"]
    assert [e["SWARM_RUNNER_MANAGER"] for e in environments] == [
        "galaxy-manager",
        "galaxy-manager-2",
        "galaxy-manager-3",
    ]
    executor = services["galaxy_htcondor-executor"]
    assert executor.environment["SWARM_RUNNER_COLLECTORS"] == (
        "galaxy-manager:9618,galaxy-manager-2:9618,galaxy-manager-3:9618"
    )


def test_a_second_up_changes_nothing_on_another_engine(harness: Harness) -> None:
    before = {n: s.version for n, s in harness.provisioner.up() and _services(harness)}
    harness.swarm.engine_name = "swarm-2"
    label = {s.labels[NODE_LABEL] for _, s in _services(harness)}
    harness.swarm.engine_name = "swarm-1"
    harness.provisioner.up()
    assert {n: s.version for n, s in _services(harness)} == before
    assert label == {"shared"}


def _services(harness: Harness) -> Any:
    return harness.swarm.services("galaxy").items()


def test_status_says_which_manager_has_the_queue(harness: Harness) -> None:
    status = harness.provisioner.up()
    holder = status.managers[1]
    harness.swarm.schedd = harness.swarm.schedd.model_copy(update={"task": holder.id})
    status = harness.provisioner.status()
    assert status.manager == holder
    pool = harness.provisioner.pool
    lines = [str(part) for part in pool_table(pool, status) if "htcondor" in str(part)]
    assert "galaxy_htcondor-manager-2  manager, has the queue" in lines
    assert "galaxy_htcondor-manager-3  manager, waits for the queue" in lines
    assert status.losses["queue, history, token list"] == "another of 3 managers continues"
    assert "autoscaler" not in status.losses


def test_status_says_where_the_autoscaler_is_and_that_it_stays_there(harness: Harness) -> None:
    losses = harness.provisioner.up(autoscale=True).losses
    assert losses["autoscaler"].startswith(
        "on swarm-1, and does not move by itself, as its image is"
    )


def test_an_autoscaler_whose_image_is_in_a_registry_moves(tmp_path: Path) -> None:
    swarm = FakeSwarm()
    swarm.node_count = 3
    pool = changed(autoscaler_image="registry/autoscaler:1")
    harness = Harness(tmp_path, swarm, pool)
    losses = harness.provisioner.up(autoscale=True).losses
    assert losses["autoscaler"] == "on swarm-1; Swarm starts it on another manager node"
    stack = Stack(pool=pool, image="registry/pool:1", node_id="n1")
    spec = stack.autoscaler("registry/autoscaler:1", "n1")
    assert swarm.services("galaxy")[pool.autoscaler].image == spec.image == pool.autoscaler_image
    assert (spec.node_id, spec.needs_swarm_manager) == (None, True)


def test_a_lost_manager_is_a_warning(harness: Harness) -> None:
    lost = harness.provisioner.up().managers[0]
    harness.swarm.mark_node_down(lost.id)
    status = harness.provisioner.status(tokens=True)
    assert status.problems == ()
    assert "the node swarm-1 of a manager is down" in status.warnings
    assert status.manager is not None
    assert status.manager.id != lost.id


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        ("unlocked", "the volume of /srv/queue does not lock: swarm-2 got the lock"),
        ("separate", "its node has another directory there"),
    ],
)
def test_a_spool_that_is_not_one_is_found(
    harness: Harness, problem: Any, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swarm_runner.provisioner.managers.SPOOL_TIMEOUT_S", 0.1)
    harness.swarm.spool_problem = problem
    with pytest.raises(PreconditionError, match="Removed the managers again") as caught:
        harness.provisioner.up()
    assert expected in f"{caught.value} {harness.messages}"
    assert harness.swarm.services("galaxy") == {}


def test_a_running_pool_stays_when_its_spool_is_found_bad(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swarm_runner.provisioner.managers.SPOOL_TIMEOUT_S", 0.1)
    harness.provisioner.up()
    harness.swarm.spool_problem = "unlocked"
    with pytest.raises(PreconditionError, match="does not lock"):
        harness.provisioner.up()
    assert set(SERVICES) <= set(harness.swarm.services("galaxy"))


def test_hosts_are_nodes_of_the_swarm(harness: Harness) -> None:
    pool = changed(hosts=["192.0.2.1", "swarm-1", "elsewhere"])
    with pytest.raises(InvalidInputError) as caught:
        harness.provisioner_for(pool).up()
    assert "pool.hosts[1]: swarm-1 is on the same node as another manager" in str(caught.value)
    assert "pool.hosts[2]: elsewhere is neither the host name nor the address" in str(caught.value)
    assert harness.swarm.services("galaxy") == {}


def test_a_dropped_manager_is_removed(harness: Harness) -> None:
    harness.provisioner.up()
    harness.provisioner_for(changed(managers=2, hosts=SETTINGS["hosts"][:2])).up()
    assert SERVICES[2] not in harness.swarm.services("galaxy")


def test_an_existing_queue_does_not_move_by_itself(harness: Harness) -> None:
    one = Pool(name="galaxy", image="registry/pool:1", host="192.0.2.1")
    harness.provisioner_for(one).up()
    with pytest.raises(PreconditionError, match="pool restore FILE"):
        harness.provisioner.up()


def test_down_removes_the_queue_from_the_spool(harness: Harness) -> None:
    harness.provisioner.up()
    harness.swarm.unreachable_nodes = ["swarm-1"]
    harness.provisioner.down()
    assert harness.swarm.cleared == [("/srv/queue", "node-2")]
    assert harness.swarm.services("galaxy") == {}


def test_down_waits_until_no_manager_runs(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that has just come back still runs one that Swarm is stopping."""
    stopping = harness.provisioner.up().managers[1]
    harness.swarm.lingering.add(stopping.id)

    def stop_after_message() -> list[TaskState]:
        if any(f"{stopping.service} on {stopping.node} to stop" in m for m in harness.messages):
            assert harness.swarm.cleared == []
            harness.swarm.lingering.clear()
        return tasks("galaxy")

    tasks = harness.swarm.tasks
    monkeypatch.setattr(harness.swarm, "tasks", lambda _pool: stop_after_message())
    harness.provisioner.down()
    assert not harness.swarm.lingering
    assert harness.swarm.cleared == [("/srv/queue", "node-1")]


def test_down_says_which_node_did_not_answer(harness: Harness) -> None:
    lost = harness.provisioner.up().managers[0]
    harness.swarm.mark_node_down(lost.id)
    harness.provisioner.down()
    assert harness.swarm.cleared == [("/srv/queue", "node-2")]
    [message] = [m for m in harness.messages if "did not answer" in m]
    assert message.startswith("swarm-1 did not answer: a manager that still runs there ends when")


def test_down_says_why_the_spool_has_files(harness: Harness) -> None:
    harness.provisioner.up()
    harness.swarm.unreachable_nodes = ["swarm-1", "swarm-2", "swarm-3"]
    harness.provisioner.down()
    [message] = [m for m in harness.messages if "could not remove the queue" in m]
    assert "swarm-3 did not do it in time. Remove the files in that directory" in message


def test_down_works_without_a_node_that_left_the_swarm(harness: Harness) -> None:
    harness.provisioner.up()
    harness.swarm.node_count = 2
    harness.provisioner.down()
    assert harness.swarm.cleared == [("/srv/queue", "node-1")]


def test_an_upgrade_replaces_the_manager_with_the_queue_last(harness: Harness) -> None:
    status = harness.provisioner.up()
    update = {"task": status.managers[0].id}
    harness.swarm.schedd = harness.swarm.schedd.model_copy(update=update)
    harness.provisioner.upgrade("registry/pool:2")
    upgraded = [m.split()[1].rstrip(",") for m in harness.messages if m.startswith("upgrading")]
    assert upgraded[-3:] == [SERVICES[1], SERVICES[2], SERVICES[0]]


def test_a_compose_file_names_the_node_of_each_manager() -> None:
    pool = changed(hosts=["swarm-1", "swarm-2", "swarm-3"])
    document = compose(Stack(pool=pool, image="registry/pool:1", node_id="unused"), "unused")
    managers = [document["services"][name.removeprefix("galaxy_")] for name in SERVICES]
    assert [m["deploy"]["placement"]["constraints"] for m in managers] == [
        [f"node.hostname == swarm-{number}"] for number in (1, 2, 3)
    ]
    assert all("/srv/queue" in {v["source"] for v in m["volumes"]} for m in managers)
    assert list(document["volumes"]) == ["htcondor-scratch"]


def test_a_manager_moves_from_a_lost_node_to_another_one(harness: Harness) -> None:
    lost = harness.provisioner.up().managers[0]
    harness.swarm.node_count = 4
    harness.swarm.mark_node_down(lost.id)
    status = harness.provisioner_for(changed(hosts=["swarm-4", *SETTINGS["hosts"][1:]])).up()
    running = {t.service: t.node for t in status.managers if not (t.stopping or t.lost)}
    assert running == dict(zip(SERVICES, ["swarm-4", "swarm-2", "swarm-3"], strict=True))
    assert f"moving {SERVICES[0]} to swarm-4" in harness.messages


def test_up_does_not_wait_for_a_manager_on_a_lost_node(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swarm_runner.provisioner.managers.SPOOL_TIMEOUT_S", 0.1)
    lost = harness.provisioner.up().managers[2]
    harness.swarm.mark_node_down(lost.id)
    harness.swarm.unschedulable[lost.service] = "no suitable node"
    assert harness.provisioner.up().managers
