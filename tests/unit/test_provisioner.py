from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest

from swarm_runner.errors import InvalidInputError, OutOfReachError, RefusedError
from swarm_runner.model.pool import CapacityClass, Network, Pool
from swarm_runner.model.queue import WaitingJobs
from swarm_runner.model.stack import POOL_LABEL, Stack
from swarm_runner.plugin_manager import plugin_manager
from swarm_runner.provisioner import Autoscaler, Provisioner
from swarm_runner.testing.swarm import FakeSwarm

POOL = Pool(name="galaxy")
VACATED_AT = 1767312000.0
VACATED = "(vacated at 2026-01-02 00:00:00 UTC at the latest)"


class Bench:
    """A provisioner on a fake Swarm, and what it said."""

    def __init__(self, directory: Path, swarm: FakeSwarm | None = None, pool: Pool = POOL) -> None:
        self.swarm = swarm or FakeSwarm()
        self.token = directory / "tokens.d" / pool.name
        self.said: list[str] = []
        self.provisioner = self.of(pool)

    def of(self, pool: Pool) -> Provisioner:
        return Provisioner(pool, self.swarm, self.swarm, self.token, self.said.append, look_s=0.001)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_up_makes_the_slides_pool(bench: Bench) -> None:
    status = bench.provisioner.up()
    assert [(e.service, e.memory_mb) for e in status.executors] == [
        ("galaxy_htcondor-executor", 1024),
        ("galaxy_htcondor-executor", 1024),
        ("galaxy_htcondor-executor-big", 2048),
    ]
    assert set(bench.swarm.services("galaxy")) == {
        "galaxy_htcondor",
        "galaxy_htcondor-executor",
        "galaxy_htcondor-executor-big",
    }
    assert status.settled


def test_executors_are_given_their_gpus(tmp_path: Path) -> None:
    shape = CapacityClass(memory_mb=64, gpus=2, replicas=1)
    bench = Bench(tmp_path, pool=Pool(name="galaxy", classes={"gpu": shape}))
    bench.provisioner.up()
    [slot] = bench.swarm.slots()
    assert (slot.gpus, slot.total_gpus) == (2, 2)
    # Other GPUs are another service.
    fewer = bench.of(Pool(name="galaxy", classes={"gpu": shape.model_copy(update={"gpus": 1})}))
    fewer.up()
    [slot] = bench.swarm.slots()
    assert slot.total_gpus == 1


def test_up_gives_each_party_the_rights_it_needs(bench: Bench) -> None:
    bench.provisioner.up()
    executor, client = map(list, bench.swarm.tokens_made)
    # Whether the manager has written its configuration or not.
    assert "_CONDOR_TRUST_DOMAIN=galaxy" in executor
    assert "_CONDOR_TRUST_DOMAIN=galaxy" in client
    assert _asked(client) == ["swarm-runner@galaxy", "READ", "WRITE"]
    assert _asked(executor) == ["executor@galaxy", "ADVERTISE_STARTD", "ADVERTISE_MASTER", "READ"]
    assert stat.S_IMODE(bench.token.stat().st_mode) == 0o600
    assert stat.S_IMODE(bench.token.parent.stat().st_mode) == 0o700


def _asked(command: list[str]) -> list[str]:
    """The identity and the rights."""
    options = command[command.index("-identity") :]
    return [word for word in options if word not in ("-identity", "-authz")]


def test_a_second_up_changes_nothing(bench: Bench) -> None:
    before = bench.provisioner.up()
    bench.said.clear()
    after = bench.provisioner.up()
    assert after == before
    assert bench.said == ["taking the image"]


def test_up_keeps_a_scaling_and_changes_what_differs(bench: Bench) -> None:
    bench.provisioner.up()
    bench.provisioner.scale({"normal": 4})
    classes = dict(POOL.classes) | {"big": CapacityClass(memory_mb=4096)}
    status = bench.of(POOL.model_copy(update={"classes": classes})).up()
    assert status.replicas == {"normal": 4, "big": 1}
    assert [e.memory_mb for e in status.executors if e.capacity_class == "big"] == [4096]
    rolled = [said for said in bench.said if said.startswith("upgrading")]
    assert rolled == ["upgrading galaxy_htcondor-executor-big, one task after another"]


def test_up_removes_a_class_that_is_gone(bench: Bench) -> None:
    bench.provisioner.up()
    small = POOL.model_copy(update={"classes": {"normal": POOL.classes["normal"]}})
    bench.of(small).up()
    assert "galaxy_htcondor-executor-big" not in bench.swarm.services("galaxy")


def test_up_heals_what_was_removed_by_hand(bench: Bench) -> None:
    bench.provisioner.up()
    bench.swarm.remove_services(["galaxy_htcondor-executor"])
    broken = bench.provisioner.status()
    assert "service galaxy_htcondor-executor is missing" in broken.trouble
    assert bench.provisioner.up().settled


def test_up_needs_leave_to_make_a_swarm(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakeSwarm(in_swarm=False))
    with pytest.raises(OutOfReachError, match="--init"):
        bench.provisioner.up()
    assert not bench.swarm.in_swarm
    assert bench.provisioner.up(initialise=True).settled


def test_a_worker_is_no_place_to_command(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakeSwarm(manager=False))
    for command in (bench.provisioner.up, bench.provisioner.status):
        with pytest.raises(OutOfReachError, match="Swarm worker"):
            command()


def test_a_remote_pool_is_not_on_this_machine(bench: Bench) -> None:
    bench.swarm.host = "swarm-1.example.org"
    with pytest.raises(InvalidInputError, match=r"pool.host: is 127.0.0.1"):
        bench.provisioner.up()
    assert not bench.swarm.services("galaxy")
    assert bench.of(POOL.model_copy(update={"host": "swarm-1.example.org"})).up().settled


def test_an_image_that_one_node_has_is_not_for_three(bench: Bench) -> None:
    bench.swarm.nodes = 3
    with pytest.raises(RefusedError, match="docker push REGISTRY/swarm-runner-pool:fake"):
        bench.provisioner.up()
    assert not bench.swarm.services("galaxy")
    assert bench.of(POOL.model_copy(update={"image": "registry:5000/pool:1"})).up().settled


def test_a_network_that_does_not_work_says_what_to_choose(bench: Bench) -> None:
    bench.swarm.nameless = True
    network = Network(endpoint_mode="vip", publish="ingress")
    with pytest.raises(RefusedError, match=r"No route to host.* IP_VS .*endpoint_mode: dnsrr"):
        bench.of(POOL.model_copy(update={"network": network})).up(limit_s=0.05)
    bench.swarm.nameless, bench.swarm.let_in = False, False
    with pytest.raises(RefusedError, match=r"Does 127.0.0.1 lead to the manager's node"):
        bench.provisioner.up(limit_s=0.05)


ADOPTED = POOL.model_copy(
    update={"services": {"manager": "mine_m", "normal": "mine_n", "big": "mine_b"}}
)


def deployed(bench: Bench) -> Bench:
    """Services as `docker stack deploy` makes them, of a pool whose tokens are there."""
    bench.swarm.create_secret("galaxy_htcondor-signing-key", b"k", {POOL_LABEL: "galaxy"})
    bench.swarm.create_secret("galaxy_htcondor-executor-token", b"t", {POOL_LABEL: "galaxy"})
    stack = Stack(pool=ADOPTED, image="registry:5000/pool:1", node_id="node-1")
    for wish in (stack.manager(), *stack.executors().values()):
        bench.swarm.deploy(wish)
    return bench


def test_a_stack_of_somebody_else_is_entered_scaled_and_left_alone(bench: Bench) -> None:
    provisioner = deployed(bench).of(ADOPTED)
    before = bench.swarm.services("galaxy")
    assert provisioner.up().settled
    assert bench.token.read_bytes() == b"a.fake.token\n"
    assert bench.swarm.services("galaxy") == before
    assert provisioner.scale({"normal": 3}).ready("normal") == 3
    with pytest.raises(RefusedError, match="mine_m was not made by `pool up`"):
        provisioner.down(force=True)
    assert set(bench.swarm.services("galaxy")) == set(before)


def test_a_stack_of_somebody_else_is_sized_and_mended(bench: Bench) -> None:
    provisioner = deployed(bench).of(ADOPTED)
    sick = provisioner.up().executors[0].task
    bench.swarm.queue.append(
        WaitingJobs(
            capacity_class="big",
            count=3,
            cpus=1,
            memory_mb=2048,
            first_cluster=1,
            last_cluster=1,
        )
    )
    bench.swarm.broken[sick] = "no disk"
    found, status = provisioner.mend(limit_s=5)
    assert [mending.task for mending in found] == [sick]
    assert sick not in {line.task for line in status.executors}
    autoscaler = Autoscaler(ADOPTED, bench.swarm, bench.swarm, plugin_manager(installed=False))
    scalings = {step.capacity_class: step for step in autoscaler.round()}
    assert getattr(scalings["big"], "done", "") == "scaled"
    assert bench.swarm.services("galaxy")["mine_b"].replicas > 1


def test_a_stack_of_somebody_else_must_be_named(bench: Bench) -> None:
    provisioner = deployed(bench).provisioner
    for command in (provisioner.up, provisioner.upgrade, provisioner.down):
        with pytest.raises(RefusedError, match=r"With pool\.services in job_conf"):
            command()
    services = {"manager": "nowhere", "normal": "mine_n", "big": "mine_b"}
    with pytest.raises(RefusedError, match=r"names nowhere, which is not there"):
        bench.of(POOL.model_copy(update={"services": services})).up()


def test_a_token_is_made_where_the_manager_runs(bench: Bench) -> None:
    bench.provisioner.up()
    bench.swarm.tokens_made.clear()
    bench.swarm.name = "swarm-2"
    with pytest.raises(RefusedError, match=r"runs on swarm-1.* is that of swarm-2"):
        bench.provisioner.up()


def test_executors_that_fail_to_start_say_why(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.swarm.failing["galaxy_htcondor-executor-big"] = "task: non-zero exit (1)"
    with pytest.raises(RefusedError, match=r"executor-big fail again .*non-zero exit \(1\)"):
        bench.provisioner.up()


def test_a_token_that_does_not_open_the_pool_is_replaced(bench: Bench) -> None:
    bench.provisioner.up()
    bench.token.write_text("another pool's")
    bench.swarm.let_in = False
    with pytest.raises(RefusedError, match="token"):
        bench.provisioner.up(limit_s=0.05)
    assert bench.token.read_bytes() == b"a.fake.token\n"


def test_a_lost_signing_key_is_told(bench: Bench) -> None:
    bench.provisioner.up()
    bench.swarm.lose_secret("galaxy_htcondor-signing-key")
    with pytest.raises(RefusedError, match="signing-key was removed"):
        bench.provisioner.up()


def test_scale_waits_until_the_executors_are_there_or_gone(bench: Bench) -> None:
    bench.provisioner.up()
    up = bench.provisioner.scale({"normal": 5, "big": 2})
    assert (up.ready("normal"), up.ready("big")) == (5, 2)
    down = bench.provisioner.scale({"normal": 0})
    assert not [e for e in down.executors if e.capacity_class == "normal"]


def test_scale_refuses_all_that_is_wrong_at_once(bench: Bench) -> None:
    bench.provisioner.up()
    with pytest.raises(InvalidInputError) as caught:
        bench.provisioner.scale({"huge": 1, "normal": -1, "big": 99})
    assert [fault.where for fault in caught.value.faults] == ["huge", "normal", "big"]
    assert bench.provisioner.status().replicas == {"normal": 2, "big": 1}


def test_a_busy_executor_is_waited_for_and_named(bench: Bench) -> None:
    status = bench.provisioner.up()
    busy = status.executors[1].task
    bench.swarm.busy.add(busy)
    with pytest.raises(RefusedError, match=r"1 leaving, until job 1\.0 ends"):
        bench.provisioner.scale({"normal": 1}, limit_s=0.2)
    line = next(e for e in bench.provisioner.status().executors if e.task == busy)
    assert (line.state, line.jobs) == ("Retiring", ("1.0",))
    bench.swarm.busy.clear()
    assert bench.provisioner.scale({"normal": 1}).settled


def test_a_scaling_names_the_job_that_will_be_vacated_and_when(bench: Bench) -> None:
    busy = bench.provisioner.up().executors[1].task
    bench.swarm.busy.add(busy)
    bench.swarm.vacated_at[busy] = VACATED_AT
    with pytest.raises(RefusedError, match=re.escape(f"until job 1.0 ends {VACATED}")):
        bench.provisioner.scale({"normal": 1}, limit_s=0.2)
    [line] = [e for e in bench.provisioner.status().executors if e.task == busy]
    assert line.vacated_at == VACATED_AT
    assert any(VACATED in said for said in bench.said)


def test_an_executor_of_a_node_that_is_down_is_no_capacity(bench: Bench) -> None:
    lost = bench.provisioner.up().executors[0].task
    bench.swarm.busy.add(lost)
    bench.swarm.lose_node_of(lost)
    status = bench.provisioner.scale({"normal": 2})  # it waits for the replacement alone
    assert (status.ready("normal"), status.lost("normal"), status.leaving("normal")) == (2, 1, 0)
    [line] = [e for e in status.executors if e.task == lost]
    assert (line.state, line.jobs) == ("Lost", ("1.0",))
    assert "swarm-1 is down" in line.trouble


def test_a_manager_on_a_node_that_is_down_is_told(bench: Bench) -> None:
    manager = bench.provisioner.up().manager
    assert manager is not None
    bench.swarm.lose_node_of(manager.id)
    bench.swarm.let_in = False
    assert "the manager's node swarm-1 is down, and the queue lies there" in (
        bench.provisioner.status().trouble
    )


def test_down_removes_what_up_made(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakeSwarm(in_swarm=False))
    bench.provisioner.up(initialise=True)
    bench.provisioner.down()
    assert not bench.swarm.in_swarm
    assert not bench.token.exists()
    assert not bench.swarm.networks("galaxy") | bench.swarm.secrets("galaxy")
    bench.provisioner.down()  # again is no error


def test_an_image_with_too_old_an_htcondor_is_refused(bench: Bench) -> None:
    bench.swarm.version = "23.9.6"
    with pytest.raises(RefusedError, match=r"HTCondor 23\.9\.6: 25\.2\.1 is the first"):
        bench.provisioner.up()
    assert bench.provisioner.status().outdated == "23.9.6"


def test_down_removes_the_volumes_of_every_node(bench: Bench) -> None:
    bench.swarm.nodes, bench.swarm.unreached = 3, ["swarm-3"]
    image = "registry.example.org/pool:1"
    pool = POOL.model_copy(update={"image": image})
    provisioner = bench.of(pool)
    provisioner.up()
    provisioner.down()
    volumes = ("galaxy_htcondor-spool", "galaxy_htcondor-scratch")
    assert bench.swarm.errands == [("galaxy", image, volumes)]
    assert any("swarm-3 could not be asked: `docker volume rm" in said for said in bench.said)


def test_down_leaves_a_swarm_that_it_did_not_make(bench: Bench) -> None:
    bench.provisioner.up()
    bench.provisioner.down()
    assert bench.swarm.in_swarm
    assert not bench.swarm.services("galaxy")


def test_down_refuses_while_jobs_run(bench: Bench) -> None:
    bench.swarm.busy.add(bench.provisioner.up().executors[0].task)
    with pytest.raises(RefusedError, match="--drain"):
        bench.provisioner.down()
    assert len(bench.swarm.services("galaxy")) == 3
    bench.provisioner.down(force=True)
    assert not bench.swarm.services("galaxy")


def test_status_without_a_pool_says_what_makes_one(bench: Bench) -> None:
    with pytest.raises(RefusedError, match="pool up"):
        bench.provisioner.status()


def test_an_engine_that_does_not_answer(bench: Bench) -> None:
    bench.swarm.reachable = False
    for command in (bench.provisioner.up, bench.provisioner.status, bench.provisioner.down):
        with pytest.raises(OutOfReachError):
            command()


def test_a_class_of_virtual_machines_has_the_image_for_it_and_says_what_they_run_on(
    tmp_path: Path,
) -> None:
    machines = CapacityClass(cpus=2, memory_mb=512, virtual_machines=2, emulate=True)
    pool = Pool(name="galaxy", classes=POOL.classes | {"vm": machines})
    bench = Bench(tmp_path, pool=pool)
    status = bench.provisioner.up()
    assert {service.image for service in bench.swarm.services("galaxy").values()} == {
        "swarm-runner-pool-vm:fake"
    }
    kinds = {line.capacity_class: line.virtualization for line in status.executors}
    assert kinds == {"normal": "", "big": "", "vm": "emulated"}
    [task] = [line.task for line in status.executors if line.capacity_class == "vm"]
    bench.swarm.switched_off.add(task)
    status = bench.provisioner.status()
    [line] = [line for line in status.executors if line.task == task]
    assert not line.ready
    assert line.trouble == (
        "its virtual machines are switched off (HasVM is not true): VMGAHP_ERR_INTERNAL"
    )


def test_without_kvm_and_without_emulation_an_executor_says_what_it_lacks(tmp_path: Path) -> None:
    pool = Pool(name="galaxy", classes={"vm": CapacityClass(memory_mb=512, virtual_machines=1)})
    with pytest.raises(RefusedError, match="no /dev/kvm that works, and its class does not"):
        Bench(tmp_path, pool=pool).provisioner.up(limit_s=0.1)
