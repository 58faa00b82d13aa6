"""The autoscaler as a service of a pool on a Swarm in memory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from swarm_runner.config.job_conf import parse_job_conf
from swarm_runner.model.pool import CapacityClass, Pool
from swarm_runner.provisioner import Provisioner
from swarm_runner.swarm.specs import Stack
from swarm_runner.testing.swarm import FakeSwarm

NAME = "galaxy_htcondor-autoscaler"
POOL = Pool(
    name="galaxy",
    host="10.0.0.1",
    classes={"normal": CapacityClass(memory_mb=1024, replicas=2, min_replicas=0)},
    volumes=("/data:ro",),
)


@pytest.fixture
def swarm() -> FakeSwarm:
    return FakeSwarm()


@pytest.fixture
def provisioner(swarm: FakeSwarm, tmp_path: Path) -> Provisioner:
    return Provisioner(POOL, swarm, swarm, tmp_path / "token", poll_interval_s=0.001)


def test_it_is_made_kept_and_removed(provisioner: Provisioner, swarm: FakeSwarm) -> None:
    assert provisioner.up().autoscaler is None
    provisioner.up(autoscale=True)
    status = provisioner.status()
    assert status.autoscaler is not None
    assert status.autoscaler.service == NAME
    version = swarm.services("galaxy")[NAME].version
    assert provisioner.up().autoscaler == provisioner.status().autoscaler
    assert swarm.services("galaxy")[NAME].version == version
    assert provisioner.up(autoscale=False).autoscaler is None
    assert NAME not in swarm.services("galaxy")


def test_it_gets_a_changed_configuration(
    provisioner: Provisioner, swarm: FakeSwarm, tmp_path: Path
) -> None:
    provisioner.up(autoscale=True)
    capacity_class = POOL.classes["normal"].model_copy(update={"max_replicas": 9})
    changed = POOL.model_copy(update={"classes": {"normal": capacity_class}})
    version = swarm.services("galaxy")[NAME].version
    Provisioner(changed, swarm, swarm, tmp_path / "token", poll_interval_s=0.001).up()
    assert swarm.services("galaxy")[NAME].version > version


def test_a_further_up_leaves_its_count(provisioner: Provisioner, swarm: FakeSwarm) -> None:
    provisioner.up(autoscale=True)
    swarm.scale_service("galaxy_htcondor-executor", 0)
    assert provisioner.up().replicas == {"normal": 0}


def test_its_token_only_permits_reading(provisioner: Provisioner, swarm: FakeSwarm) -> None:
    provisioner.up(autoscale=True)
    (command,) = [c for c in swarm.token_commands if "autoscaler@galaxy" in c]
    assert command[-2:] == ("-authz", "READ")
    assert command.count("-authz") == 1


def test_an_autoscaler_that_does_not_run_is_reported(
    provisioner: Provisioner, swarm: FakeSwarm
) -> None:
    swarm.start_errors[NAME] = "No such image"
    provisioner.up(autoscale=True)
    provisioner.status()
    assert "the autoscaler is not running" in "; ".join(provisioner.status().problems)


def test_down_removes_it(provisioner: Provisioner, swarm: FakeSwarm) -> None:
    provisioner.up(autoscale=True)
    provisioner.down()
    assert not swarm.services("galaxy")
    assert not swarm.secrets("galaxy")


def test_its_configuration_leads_to_the_pool_by_the_overlay() -> None:
    stack = Stack(pool=POOL, image="pool:1", node_id="node-1")
    spec = stack.autoscaler("autoscaler:1", "node-2")
    text = spec.environment["SWARM_RUNNER_CONFIGURATION"]
    destination = parse_job_conf(text, "the service").destination()
    assert destination.pool == POOL.model_copy(update={"host": "galaxy-manager"})
    assert spec.secrets[0].target == f"{destination.token_directory}/galaxy"
    assert (spec.node_id, spec.needs_swarm_manager) == ("node-2", True)
    assert json.loads(text)["runners"]["swarm"]["pool"]["classes"]["normal"]["replicas"] == 2
