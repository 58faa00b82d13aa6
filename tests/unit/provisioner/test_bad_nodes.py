"""One node of three fails: commands continue on the others, and report it."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarm_runner.errors import PreconditionError
from swarm_runner.model.pool import CapacityClass, Pool
from swarm_runner.model.pool_status import PoolStatus, ServiceState, TaskState
from swarm_runner.provisioner import Provisioner
from swarm_runner.provisioner.preconditions import PermanentError
from swarm_runner.provisioner.rollout import CanaryMonitor, RolloutFailedError
from swarm_runner.provisioner.task_failures import MAX_TASK_FAILURES, TaskFailures
from swarm_runner.swarm.specs import Stack
from swarm_runner.testing.swarm import FakeSwarm

POOL = Pool(
    name="galaxy",
    image="registry/pool:1",
    classes={"normal": CapacityClass(memory_mb=1024, replicas=6)},
)
NORMAL = "galaxy_htcondor-executor"
DISK_FULL = "no space left on device"
FAILS_ON_NODE = (
    f"{NORMAL} does not start on swarm-2: {DISK_FULL}. Its tasks on other nodes are not affected"
)


class Harness:
    def __init__(self, directory: Path) -> None:
        self.swarm = FakeSwarm()
        self.swarm.node_count = 3
        self.messages: list[str] = []
        self.provisioner = Provisioner(
            POOL,
            self.swarm,
            self.swarm,
            directory / "token",
            self.messages.append,
            poll_interval_s=0.001,
        )

    def images(self) -> set[str]:
        return {state.image for state in self.swarm.services("galaxy").values()}

    def nodes(self) -> set[str]:
        return {line.node for line in self.provisioner.status().executors if line.ready}


@pytest.fixture
def harness(tmp_path: Path) -> Harness:
    return Harness(tmp_path)


def test_a_pool_comes_up_beside_a_bad_node_which_is_named(harness: Harness) -> None:
    harness.swarm.start_errors["swarm-2"] = DISK_FULL
    status = harness.provisioner.up()
    assert status.ready("normal") == 6
    assert harness.nodes() == {"swarm-1", "swarm-3"}
    assert FAILS_ON_NODE in harness.messages


def test_a_pool_without_capacity_elsewhere_comes_up_smaller(harness: Harness) -> None:
    harness.swarm.start_errors["swarm-2"], harness.swarm.pinned = DISK_FULL, True
    status = harness.provisioner.up()
    assert (status.ready("normal"), status.replicas["normal"]) == (4, 6)
    assert harness.messages[-1] == FAILS_ON_NODE


def test_a_scaling_that_only_a_bad_node_could_complete_fails(harness: Harness) -> None:
    harness.provisioner.up()
    harness.swarm.start_errors["swarm-2"], harness.swarm.pinned = DISK_FULL, True
    with pytest.raises(PreconditionError, match=rf"8 of 9 executors ready; .*swarm-2: {DISK_FULL}"):
        harness.provisioner.scale({"normal": 9})
    assert harness.provisioner.status().replicas["normal"] == 9
    harness.swarm.pinned = False
    assert harness.provisioner.scale({"normal": 9}).ready("normal") == 9


def test_an_upgrade_goes_on_beside_a_bad_node(harness: Harness) -> None:
    harness.provisioner.up()
    harness.swarm.start_errors["swarm-2"] = DISK_FULL
    status = harness.provisioner.upgrade("registry/pool:2")
    assert status.ready("normal") == 6
    assert harness.images() == {"registry/pool:2"}
    assert harness.nodes() == {"swarm-1", "swarm-3"}
    [message] = [m for m in harness.messages if m.startswith(f"{NORMAL} is upgraded, but")]
    assert "on swarm-2" in message
    assert DISK_FULL in message


def test_an_upgrade_skips_tasks_without_capacity_elsewhere(harness: Harness) -> None:
    harness.provisioner.up()
    harness.swarm.start_errors["swarm-3"], harness.swarm.pinned = DISK_FULL, True
    status = harness.provisioner.upgrade("registry/pool:2")
    assert status.ready("normal") == 4
    assert harness.images() == {"registry/pool:2"}
    assert not [line for line in status.executors if line.ready and line.node == "swarm-3"]
    del harness.swarm.start_errors["swarm-3"]
    assert harness.provisioner.up().ready("normal") == 6


def test_an_upgrade_that_starts_on_a_bad_node_without_an_alternative_names_it(
    harness: Harness,
) -> None:
    harness.provisioner.up()
    harness.swarm.start_errors["swarm-1"], harness.swarm.pinned = DISK_FULL, True
    with pytest.raises(
        PreconditionError, match=r"rolled back: .*Swarm tried no other node.*drain swarm-1"
    ):
        harness.provisioner.upgrade("registry/pool:2", timeout_s=5)


def test_an_image_that_starts_nowhere_is_rolled_back_after_the_first_executor(
    harness: Harness,
) -> None:
    harness.provisioner.up()
    before = {line.task for line in harness.provisioner.status().executors}
    harness.swarm.start_errors["registry/broken:1"] = "task: non-zero exit (7)"
    with pytest.raises(PreconditionError, match=r"rolled back: .*non-zero exit \(7\).*works again"):
        harness.provisioner.upgrade("registry/broken:1")
    assert harness.images() == {"registry/pool:1"}
    after = {line.task for line in harness.provisioner.status().executors}
    assert len(before & after) == 5


def test_an_image_that_works_on_one_node_of_three_is_rolled_back(harness: Harness) -> None:
    harness.provisioner.up()
    harness.swarm.start_errors |= {"swarm-2": DISK_FULL, "swarm-3": DISK_FULL}
    with pytest.raises(PreconditionError, match=r"rolled back: .*on swarm-[23].*on swarm-[23]"):
        harness.provisioner.upgrade("registry/pool:2", timeout_s=10)


def failed(number: int, slot: int, node: str) -> TaskState:
    return TaskState(
        id=f"task{number}",
        service=NORMAL,
        slot=slot,
        node=node,
        state="failed",
        desired="shutdown",
        error=DISK_FULL,
        created_at=f"2026-01-01T00:00:{number:02}Z",
    )


@pytest.mark.parametrize(
    ("node_count", "failed_on", "permanent"),
    [
        (1, ["swarm-1"] * 2, False),
        (1, ["swarm-1"] * 3, True),
        (3, ["swarm-1"] * 5, False),  # Swarm tries another node next
        (3, ["swarm-1"] * 6, True),
        (3, ["swarm-1", "swarm-2", "swarm-1"], True),
    ],
)
def test_when_failures_are_permanent(
    node_count: int, failed_on: list[str], permanent: bool
) -> None:
    failures = TaskFailures([], node_count)
    tasks = [failed(number, 1, node) for number, node in enumerate(failed_on)]
    # Swarm drops failed tasks: each poll sees one of them.
    for task in tasks[:-1]:
        failures.check([task])
    if permanent:
        with pytest.raises(PermanentError, match=DISK_FULL):
            failures.check(tasks[-1:])
    else:
        failures.check(tasks[-1:])


def test_a_node_that_recovered_is_not_named() -> None:
    failures = TaskFailures([], 3)
    failed_task = failed(1, 1, "swarm-1")
    running = failed_task.model_copy(
        update={"id": "later", "state": "running", "error": "", "created_at": "2026-01-02"}
    )
    failures.record([failed_task])
    assert failures.messages([failed_task])
    assert failures.messages([failed_task, running]) == []


@pytest.mark.parametrize(("node_count", "permitted"), [(1, 0), (3, MAX_TASK_FAILURES - 1)])
def test_an_update_that_swarm_paused_without_a_failure_goes_on(
    node_count: int, permitted: int
) -> None:
    """A scale-down or a drain may end the task that Swarm watches."""
    spec = Stack(pool=POOL, image="registry/pool:2", node_id="node-1").executors()["normal"]
    canary = CanaryMonitor(spec, node_count)
    status = PoolStatus(pool="galaxy", manager=None, replicas={"normal": 6}, executors=())

    def pause(number: int) -> ServiceState:
        return ServiceState(
            name=NORMAL,
            image="registry/pool:2",
            replicas=6,
            labels={},
            update="paused",
            update_message=f"early termination of task {number}",
        )

    for number in range(permitted):
        canary.evaluate([], pause(number), status)
        canary.evaluate([], pause(number), status)  # the same pause, seen again
    with pytest.raises(RolloutFailedError, match=f"early termination of task {permitted}"):
        canary.evaluate([], pause(permitted), status)
