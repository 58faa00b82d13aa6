from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest

from swarm_runner.condor.tokens import token_claims
from swarm_runner.errors import InvalidInputError, PreconditionError, UnreachableError
from swarm_runner.hooks.manager import Hooks
from swarm_runner.model.access_token import DEFAULT_LIFETIME_S
from swarm_runner.model.pool import CapacityClass, Network, Pool
from swarm_runner.model.pool_status import SwarmNode
from swarm_runner.model.scaling import IdleJobGroup
from swarm_runner.provisioner import Autoscaler, Provisioner
from swarm_runner.swarm.specs import POOL_LABEL, Stack
from swarm_runner.testing.swarm import FakeSwarm

POOL = Pool(name="galaxy")
VACATED_AT = 1767312000.0
VACATED = "(vacated at 2026-01-02 00:00:00 UTC at the latest)"


class Harness:
    """A provisioner on a fake Swarm, and its messages."""

    def __init__(self, directory: Path, swarm: FakeSwarm | None = None, pool: Pool = POOL) -> None:
        self.swarm = swarm or FakeSwarm()
        self.token = directory / "tokens.d" / pool.name
        self.messages: list[str] = []
        self.provisioner = self.provisioner_for(pool)

    def provisioner_for(self, pool: Pool) -> Provisioner:
        return Provisioner(
            pool, self.swarm, self.swarm, self.token, self.messages.append, poll_interval_s=0.001
        )


@pytest.fixture
def harness(tmp_path: Path) -> Harness:
    return Harness(tmp_path)


def test_up_makes_the_slides_pool(harness: Harness) -> None:
    status = harness.provisioner.up()
    assert [(e.service, e.memory_mb) for e in status.executors] == [
        ("galaxy_htcondor-executor", 1024),
        ("galaxy_htcondor-executor", 1024),
        ("galaxy_htcondor-executor-big", 2048),
    ]
    assert set(harness.swarm.services("galaxy")) == {
        "galaxy_htcondor",
        "galaxy_htcondor-executor",
        "galaxy_htcondor-executor-big",
    }
    assert status.converged


def test_executors_are_given_their_gpus(tmp_path: Path) -> None:
    gpu = CapacityClass(memory_mb=64, gpus=2, replicas=1)
    harness = Harness(tmp_path, pool=Pool(name="galaxy", classes={"gpu": gpu}))
    harness.provisioner.up()
    [slot] = harness.swarm.slots()
    assert (slot.gpus, slot.total_gpus) == (2, 2)
    # Another number of GPUs is another spec.
    fewer = harness.provisioner_for(
        Pool(name="galaxy", classes={"gpu": gpu.model_copy(update={"gpus": 1})})
    )
    fewer.up()
    [slot] = harness.swarm.slots()
    assert slot.total_gpus == 1


def test_up_gives_each_party_the_rights_it_needs(harness: Harness) -> None:
    harness.provisioner.up()
    executor, client = map(list, harness.swarm.token_commands)
    # It does not depend on the manager's configuration file.
    assert "_CONDOR_TRUST_DOMAIN=galaxy" in executor
    assert client == ["create", "swarm-runner", "submit", str(DEFAULT_LIFETIME_S)]
    assert _identity_and_authorizations(executor) == [
        "executor@galaxy",
        "ADVERTISE_STARTD",
        "ADVERTISE_MASTER",
        "READ",
    ]
    assert stat.S_IMODE(harness.token.stat().st_mode) == 0o600
    assert stat.S_IMODE(harness.token.parent.stat().st_mode) == 0o700


def _identity_and_authorizations(command: list[str]) -> list[str]:
    """Return the identity and the authorizations."""
    options = command[command.index("-identity") :]
    return [word for word in options if word not in ("-identity", "-authz")]


def test_a_second_up_changes_nothing(harness: Harness) -> None:
    before = harness.provisioner.up()
    harness.messages.clear()
    after = harness.provisioner.up()
    assert after == before
    assert harness.messages == ["finding the pool image"]


def test_up_keeps_a_scaling_and_changes_what_differs(harness: Harness) -> None:
    harness.provisioner.up()
    harness.provisioner.scale({"normal": 4})
    classes = dict(POOL.classes) | {"big": CapacityClass(memory_mb=4096)}
    status = harness.provisioner_for(POOL.model_copy(update={"classes": classes})).up()
    assert status.replicas == {"normal": 4, "big": 1}
    assert [e.memory_mb for e in status.executors if e.capacity_class == "big"] == [4096]
    upgrades = [message for message in harness.messages if message.startswith("upgrading")]
    assert upgrades == ["upgrading galaxy_htcondor-executor-big, one task after the other"]


def test_up_removes_a_class_that_is_gone(harness: Harness) -> None:
    harness.provisioner.up()
    small = POOL.model_copy(update={"classes": {"normal": POOL.classes["normal"]}})
    harness.provisioner_for(small).up()
    assert "galaxy_htcondor-executor-big" not in harness.swarm.services("galaxy")


def test_up_restores_what_was_removed(harness: Harness) -> None:
    harness.provisioner.up()
    harness.swarm.remove_services(["galaxy_htcondor-executor"])
    broken = harness.provisioner.status()
    assert "service galaxy_htcondor-executor is missing" in broken.problems
    assert harness.provisioner.up().converged


def test_up_needs_leave_to_make_a_swarm(tmp_path: Path) -> None:
    harness = Harness(tmp_path, FakeSwarm(in_swarm=False))
    with pytest.raises(UnreachableError, match="--init"):
        harness.provisioner.up()
    assert not harness.swarm.in_swarm
    assert harness.provisioner.up(initialise=True).converged


def test_a_worker_is_no_place_to_command(tmp_path: Path) -> None:
    harness = Harness(tmp_path, FakeSwarm(swarm_manager=False))
    for command in (harness.provisioner.up, harness.provisioner.status):
        with pytest.raises(UnreachableError, match="Swarm worker"):
            command()


def test_an_old_engine_and_a_kernel_without_limits_carry_no_pool(harness: Harness) -> None:
    harness.swarm.engine_version = "19.03.15"
    with pytest.raises(PreconditionError, match=r"is Docker 19\.03\.15, and a pool needs 20\.10"):
        harness.provisioner.up()
    harness.swarm.engine_version, harness.swarm.memory_limit = "20.10.24+dfsg1", False
    with pytest.raises(PreconditionError, match="cgroup_enable=memory"):
        harness.provisioner.up()
    assert harness.swarm.services("galaxy") == {}
    harness.swarm.memory_limit = True
    assert harness.provisioner.up().converged


def test_an_engine_without_root_carries_no_pool(harness: Harness) -> None:
    harness.swarm.rootless, harness.swarm.memory_limit = True, False
    with pytest.raises(PreconditionError, match="use an engine that root runs"):
        harness.provisioner.up()
    assert harness.swarm.services("galaxy") == {}


def test_the_status_names_nodes_that_cannot_run_executors(harness: Harness) -> None:
    harness.provisioner.up()
    assert harness.provisioner.status(tokens=True).warnings == ()
    harness.swarm.other_nodes = [
        SwarmNode(id="2", name="pi-1", engine_version="28.0.0", architecture="aarch64"),
        SwarmNode(id="3", name="old", engine_version="19.03.15", architecture="x86_64"),
    ]
    old, foreign = harness.provisioner.status(tokens=True).warnings
    assert "node old has Docker 19.03.15" in old
    assert "node pi-1 is aarch64, and the pool image is made for x86_64" in foreign


def test_a_remote_pool_is_not_on_this_machine(harness: Harness) -> None:
    harness.swarm.docker_host = "swarm-1.example.org"
    with pytest.raises(InvalidInputError, match=r"pool.host: is 127.0.0.1"):
        harness.provisioner.up()
    assert not harness.swarm.services("galaxy")
    assert (
        harness.provisioner_for(POOL.model_copy(update={"host": "swarm-1.example.org"}))
        .up()
        .converged
    )


def test_an_image_that_one_node_has_is_not_for_three(harness: Harness) -> None:
    harness.swarm.node_count = 3
    with pytest.raises(PreconditionError, match="docker push REGISTRY/swarm-runner-pool:fake"):
        harness.provisioner.up()
    assert not harness.swarm.services("galaxy")
    assert (
        harness.provisioner_for(POOL.model_copy(update={"image": "registry:5000/pool:1"}))
        .up()
        .converged
    )


def test_a_network_that_does_not_work_says_what_to_choose(harness: Harness) -> None:
    harness.swarm.no_ip_vs = True
    network = Network(endpoint_mode="vip", publish="ingress")
    with pytest.raises(PreconditionError, match=r"No route to host.* IP_VS .*endpoint_mode: dnsrr"):
        harness.provisioner_for(POOL.model_copy(update={"network": network})).up(timeout_s=0.05)
    harness.swarm.no_ip_vs, harness.swarm.accept_token = False, False
    with pytest.raises(
        PreconditionError, match=r"Check that 127.0.0.1 \(pool.host\) is an address"
    ):
        harness.provisioner.up(timeout_s=0.05)


POOL_WITH_EXTERNAL_SERVICES = POOL.model_copy(
    update={"services": {"manager": "external_m", "normal": "external_n", "big": "external_b"}}
)


def deployed(harness: Harness) -> Harness:
    """Deploy services as `docker stack deploy` does, for a pool whose secrets exist."""
    harness.swarm.create_secret("galaxy_htcondor-signing-key", b"k", {POOL_LABEL: "galaxy"})
    harness.swarm.create_secret("galaxy_htcondor-executor-token", b"t", {POOL_LABEL: "galaxy"})
    stack = Stack(pool=POOL_WITH_EXTERNAL_SERVICES, image="registry:5000/pool:1", node_id="node-1")
    for spec in (stack.central_manager(), *stack.executors().values()):
        harness.swarm.deploy(spec)
    return harness


def test_a_stack_of_somebody_else_is_entered_scaled_and_left_alone(harness: Harness) -> None:
    provisioner = deployed(harness).provisioner_for(POOL_WITH_EXTERNAL_SERVICES)
    before = harness.swarm.services("galaxy")
    assert provisioner.up().converged
    assert token_claims(harness.token)["sub"] == "swarm-runner@pool"
    assert harness.swarm.services("galaxy") == before
    assert provisioner.scale({"normal": 3}).ready("normal") == 3
    with pytest.raises(PreconditionError, match="external_m was not created by `pool up`"):
        provisioner.down(force=True)
    assert set(harness.swarm.services("galaxy")) == set(before)


def test_a_stack_of_somebody_else_is_scaled_and_repaired(harness: Harness) -> None:
    provisioner = deployed(harness).provisioner_for(POOL_WITH_EXTERNAL_SERVICES)
    unhealthy = provisioner.up().executors[0].task
    harness.swarm.idle_job_groups.append(
        IdleJobGroup(
            capacity_class="big",
            count=3,
            cpus=1,
            memory_mb=2048,
            first_cluster=1,
            last_cluster=1,
        )
    )
    harness.swarm.broken_reasons[unhealthy] = "no disk"
    found, status = provisioner.repair(timeout_s=5)
    assert [replacement.task for replacement in found] == [unhealthy]
    assert unhealthy not in {line.task for line in status.executors}
    autoscaler = Autoscaler(
        POOL_WITH_EXTERNAL_SERVICES, harness.swarm, harness.swarm, Hooks(installed=False)
    )
    records = {record.capacity_class: record for record in autoscaler.run_once()}
    assert getattr(records["big"], "action", "") == "scaled"
    assert harness.swarm.services("galaxy")["external_b"].replicas > 1


def test_a_stack_of_somebody_else_must_be_named(harness: Harness) -> None:
    provisioner = deployed(harness).provisioner
    for command in (provisioner.up, provisioner.upgrade, provisioner.down):
        with pytest.raises(PreconditionError, match=r"With pool\.services in job_conf"):
            command()
    services = {"manager": "nowhere", "normal": "external_n", "big": "external_b"}
    with pytest.raises(
        PreconditionError, match=r"names nowhere, but the Swarm has no such service"
    ):
        harness.provisioner_for(POOL.model_copy(update={"services": services})).up()


def test_a_token_is_made_where_the_manager_runs(harness: Harness) -> None:
    harness.provisioner.up()
    harness.swarm.token_commands.clear()
    harness.swarm.engine_name = "swarm-2"
    with pytest.raises(PreconditionError, match=r"runs on swarm-1.* uses the engine of swarm-2"):
        harness.provisioner.up()


def test_executors_that_fail_to_start_say_why(tmp_path: Path) -> None:
    harness = Harness(tmp_path)
    harness.swarm.start_errors["galaxy_htcondor-executor-big"] = "task: non-zero exit (1)"
    with pytest.raises(
        PreconditionError, match=r"executor-big fail repeatedly: .*non-zero exit \(1\)"
    ):
        harness.provisioner.up()


def test_a_token_that_does_not_open_the_pool_is_replaced(harness: Harness) -> None:
    harness.provisioner.up()
    harness.token.write_text("another pool's")
    harness.swarm.accept_token = False
    with pytest.raises(PreconditionError, match="token"):
        harness.provisioner.up(timeout_s=0.05)
    assert token_claims(harness.token)["sub"] == "swarm-runner@pool"


def test_a_lost_signing_key_is_reported(harness: Harness) -> None:
    harness.provisioner.up()
    harness.swarm.delete_secret("galaxy_htcondor-signing-key")
    with pytest.raises(PreconditionError, match="signing-key is missing"):
        harness.provisioner.up()


def test_scale_waits_until_the_executors_are_there_or_gone(harness: Harness) -> None:
    harness.provisioner.up()
    up = harness.provisioner.scale({"normal": 5, "big": 2})
    assert (up.ready("normal"), up.ready("big")) == (5, 2)
    down = harness.provisioner.scale({"normal": 0})
    assert not [e for e in down.executors if e.capacity_class == "normal"]


def test_scale_refuses_all_that_is_wrong_at_once(harness: Harness) -> None:
    harness.provisioner.up()
    with pytest.raises(InvalidInputError) as caught:
        harness.provisioner.scale({"huge": 1, "normal": -1, "big": 99})
    assert [diagnostic.location for diagnostic in caught.value.diagnostics] == [
        "huge",
        "normal",
        "big",
    ]
    assert harness.provisioner.status().replicas == {"normal": 2, "big": 1}


def test_a_busy_executor_is_waited_for_and_named(harness: Harness) -> None:
    status = harness.provisioner.up()
    busy = status.executors[1].task
    harness.swarm.busy_tasks.add(busy)
    with pytest.raises(PreconditionError, match=r"1 draining, until job 1\.0 ends"):
        harness.provisioner.scale({"normal": 1}, timeout_s=0.2)
    line = next(e for e in harness.provisioner.status().executors if e.task == busy)
    assert (line.state, line.jobs) == ("Retiring", ("1.0",))
    harness.swarm.busy_tasks.clear()
    assert harness.provisioner.scale({"normal": 1}).converged


def test_a_scaling_names_the_job_that_will_be_vacated_and_when(harness: Harness) -> None:
    busy = harness.provisioner.up().executors[1].task
    harness.swarm.busy_tasks.add(busy)
    harness.swarm.vacated_at[busy] = VACATED_AT
    with pytest.raises(PreconditionError, match=re.escape(f"until job 1.0 ends {VACATED}")):
        harness.provisioner.scale({"normal": 1}, timeout_s=0.2)
    [line] = [e for e in harness.provisioner.status().executors if e.task == busy]
    assert line.vacated_at == VACATED_AT
    assert any(VACATED in message for message in harness.messages)


def test_an_executor_of_a_node_that_is_down_is_no_capacity(harness: Harness) -> None:
    lost = harness.provisioner.up().executors[0].task
    harness.swarm.busy_tasks.add(lost)
    harness.swarm.mark_node_down(lost)
    status = harness.provisioner.scale({"normal": 2})  # waits only for the replacement
    assert (status.ready("normal"), status.lost("normal"), status.draining("normal")) == (2, 1, 0)
    [line] = [e for e in status.executors if e.task == lost]
    assert (line.state, line.jobs) == ("Lost", ("1.0",))
    assert "swarm-1 is down" in line.problem


def test_a_manager_on_a_node_that_is_down_is_reported(harness: Harness) -> None:
    manager = harness.provisioner.up().manager
    assert manager is not None
    harness.swarm.mark_node_down(manager.id)
    harness.swarm.accept_token = False
    assert "the manager's node swarm-1, which holds the queue, is down" in (
        harness.provisioner.status().problems
    )


def test_down_removes_what_up_made(tmp_path: Path) -> None:
    harness = Harness(tmp_path, FakeSwarm(in_swarm=False))
    harness.provisioner.up(initialise=True)
    harness.provisioner.down()
    assert not harness.swarm.in_swarm
    assert not harness.token.exists()
    assert not harness.swarm.networks("galaxy") | harness.swarm.secrets("galaxy")
    harness.provisioner.down()  # succeeds again


def test_an_image_with_too_old_an_htcondor_is_refused(harness: Harness) -> None:
    harness.swarm.htcondor_version = "23.9.6"
    with pytest.raises(PreconditionError, match=r"HTCondor 23\.9\.6, but 25\.2\.1 is the first"):
        harness.provisioner.up()
    assert harness.provisioner.status().unsupported_version == "23.9.6"


def test_down_removes_the_volumes_of_every_node(harness: Harness) -> None:
    harness.swarm.node_count, harness.swarm.unreachable_nodes = 3, ["swarm-3"]
    image = "registry.example.org/pool:1"
    pool = POOL.model_copy(update={"image": image})
    provisioner = harness.provisioner_for(pool)
    provisioner.up()
    provisioner.down()
    volumes = ("galaxy_htcondor-spool", "galaxy_htcondor-scratch")
    assert harness.swarm.volume_removals == [("galaxy", image, volumes)]
    assert any("volumes on swarm-3: run `docker volume rm" in m for m in harness.messages)


def test_down_leaves_a_swarm_that_it_did_not_make(harness: Harness) -> None:
    harness.provisioner.up()
    harness.provisioner.down()
    assert harness.swarm.in_swarm
    assert not harness.swarm.services("galaxy")


def test_down_refuses_while_jobs_run(harness: Harness) -> None:
    harness.swarm.busy_tasks.add(harness.provisioner.up().executors[0].task)
    with pytest.raises(PreconditionError, match="--drain"):
        harness.provisioner.down()
    assert len(harness.swarm.services("galaxy")) == 3
    harness.provisioner.down(force=True)
    assert not harness.swarm.services("galaxy")


def test_status_without_a_pool_says_what_makes_one(harness: Harness) -> None:
    with pytest.raises(PreconditionError, match="pool up"):
        harness.provisioner.status()


def test_an_engine_that_does_not_answer(harness: Harness) -> None:
    harness.swarm.reachable = False
    for command in (harness.provisioner.up, harness.provisioner.status, harness.provisioner.down):
        with pytest.raises(UnreachableError):
            command()


def test_a_class_of_virtual_machines_has_the_image_for_it_and_says_what_they_run_on(
    tmp_path: Path,
) -> None:
    vm = CapacityClass(cpus=2, memory_mb=512, virtual_machines=2, emulate=True)
    pool = Pool(name="galaxy", classes=POOL.classes | {"vm": vm})
    harness = Harness(tmp_path, pool=pool)
    status = harness.provisioner.up()
    assert {service.image for service in harness.swarm.services("galaxy").values()} == {
        "swarm-runner-pool-vm:fake"
    }
    virtualization = {line.capacity_class: line.virtualization for line in status.executors}
    assert virtualization == {"normal": "", "big": "", "vm": "emulated"}
    [task] = [line.task for line in status.executors if line.capacity_class == "vm"]
    harness.swarm.vm_offline.add(task)
    status = harness.provisioner.status()
    [line] = [line for line in status.executors if line.task == task]
    assert not line.ready
    assert line.problem == (
        "its virtual machines are offline (HasVM is not true): VMGAHP_ERR_INTERNAL"
    )


def test_without_kvm_and_without_emulation_an_executor_says_what_it_lacks(tmp_path: Path) -> None:
    pool = Pool(name="galaxy", classes={"vm": CapacityClass(memory_mb=512, virtual_machines=1)})
    with pytest.raises(PreconditionError, match="no working /dev/kvm, and its class does not"):
        Harness(tmp_path, pool=pool).provisioner.up(timeout_s=0.1)
