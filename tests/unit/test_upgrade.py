from __future__ import annotations

from pathlib import Path

import pytest

from swarm_runner.errors import OutOfReachError, RefusedError
from swarm_runner.model.pool import CapacityClass, JobUser, Pool
from swarm_runner.model.status import TaskState
from swarm_runner.policy.status import join
from swarm_runner.provisioner import Provisioner
from swarm_runner.testing.swarm import FakeSwarm

POOL = Pool(name="galaxy")
MANAGER = "galaxy_htcondor"
NORMAL, BIG = f"{MANAGER}-executor", f"{MANAGER}-executor-big"


class Bench:
    """A pool that is up on a fake Swarm, and what was said of it."""

    def __init__(self, directory: Path) -> None:
        self.swarm = FakeSwarm()
        self.said: list[str] = []
        self._token = directory / "token"
        self.provisioner = self.of(POOL)
        self.provisioner.up()
        self.said.clear()

    def of(self, pool: Pool) -> Provisioner:
        return Provisioner(
            pool, self.swarm, self.swarm, self._token, self.said.append, look_s=0.001, patience_s=0
        )

    def images(self) -> dict[str, str]:
        return {name: state.image for name, state in self.swarm.services("galaxy").items()}

    def tasks(self, service: str) -> set[str]:
        found = self.swarm.tasks("galaxy")
        return {t.id for t in found if t.service == service and not (t.going or t.gone)}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_every_service_is_upgraded_the_manager_last(bench: Bench) -> None:
    before = {name: bench.tasks(name) for name in (MANAGER, NORMAL, BIG)}
    status = bench.provisioner.upgrade("registry/pool:2")
    assert status.settled
    assert set(bench.images().values()) == {"registry/pool:2"}
    assert [said.split()[1].rstrip(",") for said in bench.said if said.startswith("upgrading")] == [
        NORMAL,
        BIG,
        MANAGER,
    ]
    for name, tasks in before.items():
        assert not tasks & bench.tasks(name)


def test_executors_are_replaced_one_after_another(bench: Bench) -> None:
    bench.provisioner.scale({"normal": 5})
    tasks, starting = bench.swarm.tasks, []

    def counting(pool: str) -> list[TaskState]:
        found = tasks(pool)
        starting.append(sum(task.state == "starting" for task in found))
        return found

    bench.swarm.tasks = counting  # type: ignore[method-assign]
    bench.provisioner.upgrade("registry/pool:2")
    assert max(starting) == 1


def test_an_upgrade_keeps_a_scaling(bench: Bench) -> None:
    bench.provisioner.scale({"normal": 4, "big": 0})
    status = bench.provisioner.upgrade("registry/pool:2")
    assert status.replicas == {"normal": 4, "big": 0}
    assert bench.images()[BIG] == "registry/pool:2"


def test_nothing_differs(bench: Bench) -> None:
    before = bench.provisioner.status()
    assert bench.provisioner.upgrade() == before
    assert bench.said[-1].startswith("nothing differs")


@pytest.mark.parametrize("way", ["up", "upgrade"])
def test_both_roll_out_a_changed_configuration(bench: Bench, way: str) -> None:
    classes = dict(POOL.classes) | {"big": CapacityClass(memory_mb=4096)}
    kept = bench.tasks(NORMAL)
    status = getattr(bench.of(POOL.model_copy(update={"classes": classes})), way)()
    assert [e.memory_mb for e in status.executors if e.capacity_class == "big"] == [4096]
    assert bench.tasks(NORMAL) == kept


def test_a_busy_executor_is_named_with_its_job(bench: Bench) -> None:
    busy = sorted(bench.tasks(NORMAL))[0]
    bench.swarm.busy.add(busy)
    with pytest.raises(RefusedError, match=r"1 leaving, until job 1\.0 ends"):
        bench.provisioner.upgrade("registry/pool:2", limit_s=0.3)
    assert any(f"{busy} on swarm-1 stays until job 1.0 ends" in said for said in bench.said)
    assert busy in {e.task for e in bench.provisioner.status().executors}
    bench.swarm.busy.clear()
    assert bench.provisioner.upgrade("registry/pool:2").settled


def test_an_upgrade_names_the_job_that_will_be_vacated_and_when(bench: Bench) -> None:
    busy = sorted(bench.tasks(NORMAL))[0]
    bench.swarm.busy.add(busy)
    bench.swarm.vacated_at[busy] = 1767312000.0
    with pytest.raises(RefusedError, match="2026-01-02"):
        bench.provisioner.upgrade("registry/pool:2", limit_s=0.3)
    told = f"{busy} on swarm-1 stays until job 1.0 ends (vacated at 2026-01-02 00:00:00 UTC"
    assert any(told in said for said in bench.said)


def test_an_image_that_does_not_start_is_taken_back(bench: Bench) -> None:
    bench.provisioner.scale({"normal": 3})
    before = bench.images()
    tasks = bench.tasks(NORMAL)
    bench.swarm.failing["registry/broken:1"] = "task: non-zero exit (7)"
    with pytest.raises(RefusedError, match=r"rolled back: .*non-zero exit \(7\).*as before"):
        bench.provisioner.upgrade("registry/broken:1")
    assert bench.images() == before
    status = bench.provisioner.status()
    assert (status.ready("normal"), status.replicas["normal"]) == (3, 3)
    assert len(tasks & bench.tasks(NORMAL)) == 2  # one executor paid for the attempt
    assert bench.provisioner.upgrade("registry/pool:2").settled


def test_a_rollback_keeps_a_scaling_made_meanwhile(bench: Bench) -> None:
    bench.swarm.failing["registry/broken:1"] = "no such file"
    update = bench.swarm.update_service

    def scaling_too(wish: object, pace_s: int = 0) -> None:
        update(wish, pace_s)  # type: ignore[arg-type]
        bench.swarm.scale_service(NORMAL, 4)

    bench.swarm.update_service = scaling_too  # type: ignore[method-assign]
    with pytest.raises(RefusedError, match="rolled back"):
        bench.provisioner.upgrade("registry/broken:1")
    assert bench.provisioner.status().replicas["normal"] == 4


def test_an_executor_that_advertises_nothing_is_taken_back(bench: Bench) -> None:
    before = bench.images()
    bench.swarm.silent.add("registry/mute:1")
    with pytest.raises(RefusedError, match="runs, but no slot of it is advertised"):
        bench.provisioner.upgrade("registry/mute:1")
    assert bench.images() == before


def test_a_manager_that_does_not_start_is_taken_back(bench: Bench) -> None:
    before = bench.images()
    bench.provisioner.scale({"normal": 0, "big": 0})  # no executor to try the image on
    bench.swarm.failing["registry/broken:1"] = "task: non-zero exit (7)"
    with pytest.raises(RefusedError, match=f"{MANAGER} was rolled back"):
        bench.provisioner.upgrade("registry/broken:1")
    assert bench.images()[MANAGER] == before[MANAGER]


def test_an_image_that_cannot_be_had_changes_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(_wanted: object, _progress: object, **_more: bool) -> str:
        raise RefusedError("pulling registry/absent:1: manifest unknown")

    before = bench.provisioner.status()
    monkeypatch.setattr(bench.swarm, "pool_image", absent)
    with pytest.raises(RefusedError, match="manifest unknown"):
        bench.provisioner.upgrade("registry/absent:1")
    assert bench.provisioner.status() == before


def test_what_running_jobs_rely_on_stays(bench: Bench) -> None:
    other = POOL.model_copy(update={"port": 9700, "user": JobUser(uid=1001)})
    for way in (bench.of(other).up, bench.of(other).upgrade):
        with pytest.raises(RefusedError, match=r"port was 9618 .* uid was 1000.*--drain"):
            way()


def test_half_a_pool_is_mended_first(bench: Bench) -> None:
    bench.swarm.remove_services([BIG])
    with pytest.raises(RefusedError, match=f"{BIG} is missing; `swarm-runner pool up`"):
        bench.provisioner.upgrade("registry/pool:2")
    assert "registry/pool:2" not in bench.images().values()


def test_an_upgrade_that_was_left_halfway_is_taken_up(bench: Bench) -> None:
    busy = sorted(bench.tasks(NORMAL))[0]
    bench.swarm.busy.add(busy)
    with pytest.raises(RefusedError, match="after 0 s still"):
        bench.provisioner.upgrade("registry/pool:2", limit_s=0.0)
    bench.swarm.busy.clear()
    assert bench.provisioner.upgrade("registry/pool:2").settled
    assert set(bench.images().values()) == {"registry/pool:2"}


def test_an_engine_that_does_not_answer(bench: Bench) -> None:
    bench.swarm.reachable = False
    with pytest.raises(OutOfReachError):
        bench.provisioner.upgrade("registry/pool:2")


def test_the_manager_is_replaced_when_it_is_clear_where_jobs_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    astray = iter([{"7.0"}, {"7.0"}])
    monkeypatch.setattr(bench.swarm, "running", lambda: next(astray, set()))
    bench.provisioner.upgrade("registry/pool:2")
    told = bench.said.index("waiting until it is clear where 7.0 run")
    assert told < bench.said.index(f"upgrading {MANAGER}, one task after another")
    assert next(astray, None) is None


def test_an_executor_that_swarm_forgot_is_shown(bench: Bench) -> None:
    services = bench.swarm.services("galaxy")
    slot = bench.swarm.slots()[0].model_copy(
        update={"task": "forgotten", "activity": "Retiring", "job": "7.0", "state": "Claimed"}
    )
    status = join(POOL, services, bench.swarm.tasks("galaxy"), [*bench.swarm.slots(), slot])
    [line] = [line for line in status.executors if line.task == "forgotten"]
    assert (line.state, line.jobs, line.capacity_class) == ("Retiring", ("7.0",), "normal")
    assert status.unsettled() == ["normal: 1 leaving, until job 7.0 ends"]
