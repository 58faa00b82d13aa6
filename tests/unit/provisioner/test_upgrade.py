from __future__ import annotations

from pathlib import Path

import pytest

from swarm_runner.errors import PreconditionError, UnreachableError
from swarm_runner.model.pool import CapacityClass, JobUser, Pool
from swarm_runner.model.pool_status import TaskState
from swarm_runner.provisioner import Provisioner
from swarm_runner.provisioner.inspector import build_pool_status
from swarm_runner.testing.swarm import FakeSwarm

POOL = Pool(name="galaxy")
MANAGER_SERVICE = "galaxy_htcondor"
NORMAL, BIG = f"{MANAGER_SERVICE}-executor", f"{MANAGER_SERVICE}-executor-big"


class Harness:
    """A running pool on a fake Swarm, and the messages of its provisioner."""

    def __init__(self, directory: Path) -> None:
        self.swarm = FakeSwarm()
        self.messages: list[str] = []
        self._token = directory / "token"
        self.provisioner = self.provisioner_for(POOL)
        self.provisioner.up()
        self.messages.clear()

    def provisioner_for(self, pool: Pool) -> Provisioner:
        return Provisioner(
            pool,
            self.swarm,
            self.swarm,
            self._token,
            self.messages.append,
            poll_interval_s=0.001,
            readiness_timeout_s=0,
        )

    def images(self) -> dict[str, str]:
        return {name: state.image for name, state in self.swarm.services("galaxy").items()}

    def tasks(self, service: str) -> set[str]:
        found = self.swarm.tasks("galaxy")
        return {t.id for t in found if t.service == service and not (t.stopping or t.stopped)}


@pytest.fixture
def harness(tmp_path: Path) -> Harness:
    return Harness(tmp_path)


def test_every_service_is_upgraded_the_manager_last(harness: Harness) -> None:
    before = {name: harness.tasks(name) for name in (MANAGER_SERVICE, NORMAL, BIG)}
    status = harness.provisioner.upgrade("registry/pool:2")
    assert status.converged
    assert set(harness.images().values()) == {"registry/pool:2"}
    assert [m.split()[1].rstrip(",") for m in harness.messages if m.startswith("upgrading")] == [
        NORMAL,
        BIG,
        MANAGER_SERVICE,
    ]
    for name, tasks in before.items():
        assert not tasks & harness.tasks(name)


def test_executors_are_replaced_one_after_another(harness: Harness) -> None:
    harness.provisioner.scale({"normal": 5})
    tasks, starting = harness.swarm.tasks, []

    def counting(pool: str) -> list[TaskState]:
        found = tasks(pool)
        starting.append(sum(task.state == "starting" for task in found))
        return found

    harness.swarm.tasks = counting  # type: ignore[method-assign]
    harness.provisioner.upgrade("registry/pool:2")
    assert max(starting) == 1


def test_an_upgrade_keeps_a_scaling(harness: Harness) -> None:
    harness.provisioner.scale({"normal": 4, "big": 0})
    status = harness.provisioner.upgrade("registry/pool:2")
    assert status.replicas == {"normal": 4, "big": 0}
    assert harness.images()[BIG] == "registry/pool:2"


def test_nothing_differs(harness: Harness) -> None:
    before = harness.provisioner.status()
    assert harness.provisioner.upgrade() == before
    assert harness.messages[-1].startswith("no changes")


@pytest.mark.parametrize("command", ["up", "upgrade"])
def test_both_roll_out_a_changed_configuration(harness: Harness, command: str) -> None:
    classes = dict(POOL.classes) | {"big": CapacityClass(memory_mb=4096)}
    tasks = harness.tasks(NORMAL)
    provisioner = harness.provisioner_for(POOL.model_copy(update={"classes": classes}))
    status = getattr(provisioner, command)()
    assert [e.memory_mb for e in status.executors if e.capacity_class == "big"] == [4096]
    assert harness.tasks(NORMAL) == tasks


def test_a_busy_executor_is_named_with_its_job(harness: Harness) -> None:
    busy = sorted(harness.tasks(NORMAL))[0]
    harness.swarm.busy_tasks.add(busy)
    with pytest.raises(PreconditionError, match=r"1 draining, until job 1\.0 ends"):
        harness.provisioner.upgrade("registry/pool:2", timeout_s=0.3)
    assert any(f"{busy} on swarm-1 drains until job 1.0 ends" in m for m in harness.messages)
    assert busy in {e.task for e in harness.provisioner.status().executors}
    harness.swarm.busy_tasks.clear()
    assert harness.provisioner.upgrade("registry/pool:2").converged


def test_an_upgrade_names_the_job_that_will_be_vacated_and_when(harness: Harness) -> None:
    busy = sorted(harness.tasks(NORMAL))[0]
    harness.swarm.busy_tasks.add(busy)
    harness.swarm.vacated_at[busy] = 1767312000.0
    with pytest.raises(PreconditionError, match="2026-01-02"):
        harness.provisioner.upgrade("registry/pool:2", timeout_s=0.3)
    expected = f"{busy} on swarm-1 drains until job 1.0 ends (vacated at 2026-01-02 00:00:00 UTC"
    assert any(expected in message for message in harness.messages)


def test_an_image_that_does_not_start_is_rolled_back(harness: Harness) -> None:
    harness.provisioner.scale({"normal": 3})
    before = harness.images()
    tasks = harness.tasks(NORMAL)
    harness.swarm.start_errors["registry/broken:1"] = "task: non-zero exit (7)"
    with pytest.raises(PreconditionError, match=r"rolled back: .*non-zero exit \(7\).*works again"):
        harness.provisioner.upgrade("registry/broken:1")
    assert harness.images() == before
    status = harness.provisioner.status()
    assert (status.ready("normal"), status.replicas["normal"]) == (3, 3)
    assert len(tasks & harness.tasks(NORMAL)) == 2  # the canary replaced one executor
    assert harness.provisioner.upgrade("registry/pool:2").converged


def test_updates_and_rollbacks_are_logged_with_their_reason(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "swarm_runner")
    harness.provisioner.scale({"normal": 3})
    harness.swarm.start_errors["registry/broken:1"] = "task: non-zero exit (7)"
    with pytest.raises(PreconditionError, match="rolled back"):
        harness.provisioner.upgrade("registry/broken:1")
    records = [(r.levelname, r.getMessage()) for r in caplog.records]
    assert ("INFO", f"Service scaled service={NORMAL} replicas=3 reason=requested") in records
    assert any(
        level == "INFO" and message.startswith(f"Service updated service={NORMAL} reason=")
        for level, message in records
    )
    assert any(
        level == "ERROR"
        and message.startswith(f"Rolling back service service={NORMAL} reason=")
        and "non-zero exit (7)" in message
        for level, message in records
    )


def test_a_rollback_keeps_a_scaling_made_meanwhile(harness: Harness) -> None:
    harness.swarm.start_errors["registry/broken:1"] = "no such file"
    update = harness.swarm.update_service

    def scaling_too(spec: object, update_delay_s: int = 0) -> None:
        update(spec, update_delay_s)  # type: ignore[arg-type]
        harness.swarm.scale_service(NORMAL, 4)

    harness.swarm.update_service = scaling_too  # type: ignore[method-assign]
    with pytest.raises(PreconditionError, match="rolled back"):
        harness.provisioner.upgrade("registry/broken:1")
    assert harness.provisioner.status().replicas["normal"] == 4


def test_an_executor_that_advertises_nothing_is_rolled_back(harness: Harness) -> None:
    before = harness.images()
    harness.swarm.unresponsive.add("registry/unresponsive:1")
    with pytest.raises(
        PreconditionError, match="is running, but the collector knows no slot of it"
    ):
        harness.provisioner.upgrade("registry/unresponsive:1")
    assert harness.images() == before


def test_a_manager_that_does_not_start_is_rolled_back(harness: Harness) -> None:
    before = harness.images()
    harness.provisioner.scale({"normal": 0, "big": 0})  # there is no executor as a canary
    harness.swarm.start_errors["registry/broken:1"] = "task: non-zero exit (7)"
    with pytest.raises(PreconditionError, match=f"{MANAGER_SERVICE} was rolled back"):
        harness.provisioner.upgrade("registry/broken:1")
    assert harness.images()[MANAGER_SERVICE] == before[MANAGER_SERVICE]


def test_an_image_that_is_not_available_changes_nothing(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(_image: object, _progress: object, **_kwargs: bool) -> str:
        raise PreconditionError("pulling registry/absent:1: manifest unknown")

    before = harness.provisioner.status()
    monkeypatch.setattr(harness.swarm, "pool_image", absent)
    with pytest.raises(PreconditionError, match="manifest unknown"):
        harness.provisioner.upgrade("registry/absent:1")
    assert harness.provisioner.status() == before


def test_what_running_jobs_rely_on_stays(harness: Harness) -> None:
    other = POOL.model_copy(update={"port": 9700, "user": JobUser(uid=1001)})
    for command in (harness.provisioner_for(other).up, harness.provisioner_for(other).upgrade):
        with pytest.raises(PreconditionError, match=r"port was 9618 .* uid was 1000.*--drain"):
            command()


def test_an_incomplete_pool_is_not_upgraded(harness: Harness) -> None:
    harness.swarm.remove_services([BIG])
    with pytest.raises(PreconditionError, match=f"{BIG} is missing; run `swarm-runner pool up`"):
        harness.provisioner.upgrade("registry/pool:2")
    assert "registry/pool:2" not in harness.images().values()


def test_an_interrupted_upgrade_is_continued(harness: Harness) -> None:
    busy = sorted(harness.tasks(NORMAL))[0]
    harness.swarm.busy_tasks.add(busy)
    with pytest.raises(PreconditionError, match="timed out after 0 s"):
        harness.provisioner.upgrade("registry/pool:2", timeout_s=0.0)
    harness.swarm.busy_tasks.clear()
    assert harness.provisioner.upgrade("registry/pool:2").converged
    assert set(harness.images().values()) == {"registry/pool:2"}


def test_an_engine_that_does_not_answer(harness: Harness) -> None:
    harness.swarm.reachable = False
    with pytest.raises(UnreachableError):
        harness.provisioner.upgrade("registry/pool:2")


def test_the_manager_is_replaced_when_it_is_clear_where_jobs_run(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    running_ids = iter([{"7.0"}, {"7.0"}])
    monkeypatch.setattr(harness.swarm, "running_ids", lambda: next(running_ids, set()))
    harness.provisioner.upgrade("registry/pool:2")
    waiting = harness.messages.index("waiting for the slots of running jobs: 7.0")
    upgrade = f"upgrading {MANAGER_SERVICE}, one task after the other"
    assert waiting < harness.messages.index(upgrade)
    assert next(running_ids, None) is None


def test_an_executor_that_swarm_dropped_is_shown(harness: Harness) -> None:
    services = harness.swarm.services("galaxy")
    slot = harness.swarm.slots()[0].model_copy(
        update={"task": "untracked", "activity": "Retiring", "job": "7.0", "state": "Claimed"}
    )
    status = build_pool_status(
        POOL, services, harness.swarm.tasks("galaxy"), [*harness.swarm.slots(), slot]
    )
    [line] = [line for line in status.executors if line.task == "untracked"]
    assert (line.state, line.jobs, line.capacity_class) == ("Retiring", ("7.0",), "normal")
    assert status.pending_changes() == ["normal: 1 draining, until job 7.0 ends"]
