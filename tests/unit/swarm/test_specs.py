from __future__ import annotations

from swarm_runner.model.pool import CapacityClass, Pool
from swarm_runner.swarm.specs import STACK_LABEL, Stack

POOL = Pool(name="galaxy", volumes=["/data", "/refs:ro"], pull="always")
STACK = Stack(pool=POOL, image="pool:1", node_id="node-1")


def test_service_names() -> None:
    assert STACK.central_manager().name == "galaxy_htcondor"
    assert [spec.name for spec in STACK.executors().values()] == [
        "galaxy_htcondor-executor",
        "galaxy_htcondor-executor-big",
    ]
    assert {spec.labels[STACK_LABEL] for spec in STACK.executors().values()} == {"galaxy"}


def test_stop_grace_period_exceeds_the_retirement_time() -> None:
    for name, spec in STACK.executors().items():
        retirement_s = int(spec.environment["SWARM_RUNNER_RETIREMENT_S"])
        assert spec.stop_grace_s > retirement_s == POOL.classes[name].retirement_s


def test_each_service_gets_its_own_secret() -> None:
    assert STACK.central_manager().secret.name == STACK.signing_key
    assert {spec.secret.name for spec in STACK.executors().values()} == {STACK.executor_token}


def test_volumes_keep_their_paths() -> None:
    executor = STACK.executors()["normal"]
    mounts = {mount.target: mount for mount in executor.mounts}
    assert (mounts["/data"].source, mounts["/data"].read_only) == ("/data", False)
    assert mounts["/refs"].read_only
    assert executor.environment["SWARM_RUNNER_VOLUMES"] == "/data:/data\n/refs:/refs:ro"
    assert executor.environment["SWARM_RUNNER_TRUST_LOCAL_IMAGES"] == "False"


def test_the_central_manager_has_no_docker_socket() -> None:
    assert not any("docker.sock" in mount.source for mount in STACK.central_manager().mounts)


def test_disk_limit_of_a_class() -> None:
    classes = {"normal": CapacityClass(memory_mb=64, disk_mb=2)}
    stack = STACK.model_copy(update={"pool": POOL.model_copy(update={"classes": classes})})
    executor = stack.executors()["normal"]
    assert executor.environment["SWARM_RUNNER_START"] == "&& TARGET.RequestDisk <= 2048"


def test_the_executors_of_a_class_reserve_its_gpus() -> None:
    classes = {"normal": CapacityClass(memory_mb=64), "gpu": CapacityClass(memory_mb=64, gpus=2)}
    stack = STACK.model_copy(update={"pool": POOL.model_copy(update={"classes": classes})})
    assert {name: spec.gpus for name, spec in stack.executors().items()} == {"normal": 0, "gpu": 2}


def test_the_digest_ignores_the_replica_count_only() -> None:
    spec = STACK.executors()["normal"]
    assert spec.model_copy(update={"replicas": 9}).digest() == spec.digest()
    assert spec.model_copy(update={"memory_mb": 9}).digest() != spec.digest()
    assert spec.model_copy(update={"gpus": 1}).digest() != spec.digest()
    assert spec.model_copy(update={"image": "pool:2"}).digest() != spec.digest()


def test_digests_stay_the_same_across_releases() -> None:
    """Existing services carry these digests; another value would update every pool."""
    assert STACK.central_manager().digest() == "b26042c58d9cadc3"
    assert {name: spec.digest() for name, spec in STACK.executors().items()} == {
        "normal": "4cf8f74ee60644f6",
        "big": "b16e9a8d6efbe18d",
    }
    assert STACK.autoscaler("a:1", "node-1").digest() == "452045447fa1815d"
