from __future__ import annotations

from swarm_runner.model.pool import CapacityClass, Pool
from swarm_runner.swarm.specs import STACK_LABEL, Stack

POOL = Pool(name="galaxy", volumes=["/data", "/refs:ro"], pull="always")
STACK = Stack(pool=POOL, image="pool:1", node_id="node-1")


def test_services_are_named_as_on_the_slides() -> None:
    assert STACK.central_manager().name == "galaxy_htcondor"
    assert [wish.name for wish in STACK.executors().values()] == [
        "galaxy_htcondor-executor",
        "galaxy_htcondor-executor-big",
    ]
    assert {wish.labels[STACK_LABEL] for wish in STACK.executors().values()} == {"galaxy"}


def test_swarm_waits_longer_than_the_daemons() -> None:
    for name, wish in STACK.executors().items():
        retirement_s = int(wish.environment["SWARM_RUNNER_RETIREMENT_S"])
        assert wish.stop_grace_s > retirement_s == POOL.classes[name].retirement_s


def test_secrets_reach_the_one_who_needs_them() -> None:
    assert STACK.central_manager().secret.name == STACK.signing_key
    assert {wish.secret.name for wish in STACK.executors().values()} == {STACK.executor_token}


def test_volumes_are_where_the_jobs_expect_them() -> None:
    executor = STACK.executors()["normal"]
    mounts = {mount.target: mount for mount in executor.mounts}
    assert (mounts["/data"].source, mounts["/data"].read_only) == ("/data", False)
    assert mounts["/refs"].read_only
    assert executor.environment["SWARM_RUNNER_VOLUMES"] == "/data:/data\n/refs:/refs:ro"
    assert executor.environment["SWARM_RUNNER_TRUST_LOCAL_IMAGES"] == "False"


def test_the_engines_socket_is_for_executors_alone() -> None:
    assert not any("docker.sock" in mount.source for mount in STACK.central_manager().mounts)


def test_a_class_may_bound_the_disk() -> None:
    classes = {"normal": CapacityClass(memory_mb=64, disk_mb=2)}
    stack = STACK.model_copy(update={"pool": POOL.model_copy(update={"classes": classes})})
    executor = stack.executors()["normal"]
    assert executor.environment["SWARM_RUNNER_START"] == "&& TARGET.RequestDisk <= 2048"


def test_the_executors_of_a_class_reserve_its_gpus() -> None:
    classes = {"normal": CapacityClass(memory_mb=64), "gpu": CapacityClass(memory_mb=64, gpus=2)}
    stack = STACK.model_copy(update={"pool": POOL.model_copy(update={"classes": classes})})
    assert {name: wish.gpus for name, wish in stack.executors().items()} == {"normal": 0, "gpu": 2}


def test_the_digest_tells_a_change_but_not_a_scaling() -> None:
    wish = STACK.executors()["normal"]
    assert wish.model_copy(update={"replicas": 9}).digest() == wish.digest()
    assert wish.model_copy(update={"memory_mb": 9}).digest() != wish.digest()
    assert wish.model_copy(update={"gpus": 1}).digest() != wish.digest()
    assert wish.model_copy(update={"image": "pool:2"}).digest() != wish.digest()
