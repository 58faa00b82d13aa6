from __future__ import annotations

import gateway
from gateway_policy import Settings
from source_policy import Source, parse_sources

from swarm_runner.model.isolation import Isolation
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
    assert STACK.central_manager().secrets[0].name == STACK.signing_key
    assert {spec.secrets[0].name for spec in STACK.executors().values()} == {STACK.executor_token}


def test_volumes_keep_their_paths() -> None:
    executor = STACK.executors()["normal"]
    mounts = {mount.target: mount for mount in executor.mounts}
    assert (mounts["/data"].source, mounts["/data"].read_only) == ("/data", False)
    assert mounts["/refs"].read_only
    settings = Settings.from_environment(executor.environment, open_files_limit=2**20)
    assert [(volume.path, volume.read_only) for volume in settings.volumes] == [
        ("/data", False),
        ("/refs", True),
    ]
    assert executor.environment["SWARM_RUNNER_PULL"] == "always"


def test_the_gateway_reads_all_isolation_settings() -> None:
    isolation = Isolation(
        network="bridge",
        networks=("licences",),
        pids=99,
        open_files=1024,
        shm_mb=512,
        read_only_root=True,
        ptrace=True,
        entrypoint="run",
        images=("quay.io/*",),
        require_digest=True,
        ports="node",
        host_ports="30000-30999",
    )
    own = {"isolation": Isolation(network="none"), "memory_mb": 128}
    classes = {"normal": CapacityClass(memory_mb=64), "big": CapacityClass.model_validate(own)}
    pool = POOL.model_copy(update={"isolation": isolation, "classes": classes})
    executors = STACK.model_copy(update={"pool": pool}).executors()
    read = {
        name: Settings.from_environment(spec.environment, open_files_limit=2**20)
        for name, spec in executors.items()
    }
    for field, value in isolation.model_dump().items():
        assert getattr(read["normal"], field) == value
        assert getattr(read["big"], field) == ("none" if field == "network" else value)
    limited = Settings.from_environment(executors["normal"].environment, open_files_limit=512)
    assert limited.open_files == 512


def test_the_access_point_knows_whether_any_class_publishes_ports() -> None:
    assert "SWARM_RUNNER_PORTS" not in STACK.central_manager().environment
    fields = {"memory_mb": 64, "isolation": {"ports": "loopback"}}
    own = CapacityClass.model_validate(fields)
    classes = {"normal": CapacityClass(memory_mb=64), "interactive": own}
    stack = STACK.model_copy(update={"pool": POOL.model_copy(update={"classes": classes})})
    assert "SWARM_RUNNER_PORTS" in stack.central_manager().environment


def test_the_defaults_of_model_and_gateway_agree() -> None:
    gateway = Settings(uid=1, gid=1, memory_mb=1)
    for field, value in Isolation().model_dump().items():
        assert getattr(gateway, field) == value


def test_registry_credentials_are_a_secret_of_executors_alone() -> None:
    stack = STACK.model_copy(update={"pool": POOL.model_copy(update={"registry_secret": "logins"})})
    for spec in stack.executors().values():
        (further,) = spec.further_secrets
        assert (further.name, further.target) == ("logins", str(gateway.CREDENTIALS))
        assert "logins" not in str(spec.environment)
    assert stack.central_manager().further_secrets == ()


def test_propagation_reaches_the_executor() -> None:
    volumes = ({"path": "/cvmfs", "propagation": "rslave"}, "/data")
    pool = Pool.model_validate({"volumes": volumes})
    executor = Stack(pool=pool, image="i", node_id="n").executors()["normal"]
    mounts = {mount.target: mount.propagation for mount in executor.mounts}
    assert (mounts["/cvmfs"], mounts["/data"]) == ("rslave", None)


def test_an_executor_for_vms_has_no_mount_below_a_link() -> None:
    """Docker 28.5 would copy no token into its sidecar."""
    pool = Pool.model_validate({"classes": {"vm": {"memory_mb": 2048, "virtual_machines": 1}}})
    executor = Stack(pool=pool, image="i", node_id="n").executors()["vm"]
    mounts = {mount.source: mount.target for mount in executor.mounts}
    assert mounts["/var/run/docker.sock"] == "/run/docker.sock"


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
        "normal": "687dde9edd6c614a",
        "big": "9454c7aa0b5ad51f",
    }
    assert STACK.autoscaler("a:1", "node-1").digest() == "452045447fa1815d"


def test_sources_reach_the_executors_and_their_secrets_nobody_else() -> None:
    sources = (
        "https://*.example.org/data",
        {"url": "http://10.1.2.3:8080", "private": True, "authorization": "token"},
        {"url": "https://h.org", "authorization": "token"},
    )
    pool = Pool.model_validate({"sources": sources})
    stack = Stack(pool=pool, image="i", node_id="n")
    for spec in stack.executors().values():
        read = parse_sources(spec.environment["SWARM_RUNNER_SOURCES"])
        secret = "/run/secrets/token"  # noqa: S105 - a path
        assert read == (
            Source("https", "example.org", 443, "/data", wildcard=True),
            Source("http", "10.1.2.3", 8080, "/", private=True, authorization=secret),
            Source("https", "h.org", 443, "/", authorization=secret),
        )
        assert [(further.name, further.target) for further in spec.further_secrets] == [
            ("token", secret)
        ]
    manager = stack.central_manager()
    assert manager.environment["SWARM_RUNNER_SOURCES"] == "[]"
    assert manager.further_secrets == ()
