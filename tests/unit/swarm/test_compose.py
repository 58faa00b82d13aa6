from __future__ import annotations

from swarm_runner.model.pool import CapacityClass, Pool
from swarm_runner.swarm.compose import compose, setup_comments
from swarm_runner.swarm.engine_api import service_arguments
from swarm_runner.swarm.specs import Stack

POOL = Pool(
    name="galaxy",
    image="registry:5000/pool:1",
    host="swarm-1",
    volumes=["/data", "/refdata:ro"],
    classes={
        "normal": CapacityClass(memory_mb=1024, replicas=3),
        "big": CapacityClass(memory_mb=2048),
    },
)
STACK = Stack(pool=POOL, image="registry:5000/pool:1", node_id="swarm-1")


def test_services_equal_those_of_pool_up() -> None:
    document = compose(STACK, "swarm-1")
    names = [f"galaxy_{name}" for name in document["services"]]
    assert names == [POOL.service(), POOL.service("normal"), POOL.service("big")]
    manager = document["services"]["htcondor"]
    assert manager["ports"] == [
        {"target": 9618, "published": 9618, "protocol": "tcp", "mode": "host"}
    ]
    assert manager["deploy"]["placement"] == {"constraints": ["node.hostname == swarm-1"]}
    assert manager["networks"] == {"htcondor": {"aliases": ["galaxy-manager"]}}
    executor = document["services"]["htcondor-executor"]
    assert executor["deploy"]["replicas"] == 3
    assert executor["stop_grace_period"] == "86700s"
    assert {"type": "bind", "source": "/refdata", "target": "/refdata", "read_only": True} in (
        executor["volumes"]
    )


def test_placement() -> None:
    ssd = CapacityClass.model_validate(
        {
            "memory_mb": 64,
            "constraints": ["node.labels.ssd==true"],
            "preferences": ["spread: node.labels.rack"],
            "max_replicas_per_node": 2,
        }
    )
    stack = STACK.model_copy(update={"pool": POOL.model_copy(update={"classes": {"normal": ssd}})})
    placement = compose(stack, "swarm-1")["services"]["htcondor-executor"]["deploy"]["placement"]
    assert placement == {
        "constraints": ["node.labels.ssd == true"],
        "preferences": [{"spread": "node.labels.rack"}],
        "max_replicas_per_node": 2,
    }
    spec = stack.executors()["normal"]
    arguments = service_arguments(spec, {spec.secrets[0].name: "id"})
    assert arguments["task_template"]["Placement"] == {
        "Constraints": ["node.labels.ssd == true"],
        "Preferences": [{"Spread": {"SpreadDescriptor": "node.labels.rack"}}],
        "MaxReplicas": 2,
    }


def test_what_a_class_does_not_set_does_not_change_its_service() -> None:
    """Otherwise every pool of an earlier release would replace its executors."""
    dumped = STACK.executors()["normal"]
    other = dumped.model_copy(update={"preferences": ("node.labels.rack",)})
    assert other.digest() != dumped.digest()
    assert "max_replicas" not in dumped.model_dump_json(exclude_defaults=True)


def test_executors_reserve_memory_and_gpus() -> None:
    classes = {"normal": CapacityClass(memory_mb=64), "gpu": CapacityClass(memory_mb=128, gpus=2)}
    pool = POOL.model_copy(update={"classes": classes})
    services = compose(STACK.model_copy(update={"pool": pool}), "swarm-1")["services"]
    assert services["htcondor-executor"]["deploy"]["resources"] == {
        "reservations": {"memory": "64M"}
    }
    assert services["htcondor-executor-gpu"]["deploy"]["resources"] == {
        "reservations": {
            "memory": "128M",
            "generic_resources": [{"discrete_resource_spec": {"kind": "gpu", "value": 2}}],
        }
    }


def test_comments_describe_how_to_create_the_secrets() -> None:
    secrets = compose(STACK, "swarm-1")["secrets"]
    assert [secret["external"] for secret in secrets.values()] == [True, True]
    comments = setup_comments(STACK)
    for secret in secrets.values():
        assert f"docker secret create {secret['name']} " in comments
    assert all(line.startswith("#") for line in comments.splitlines())


def test_dollar_signs_are_escaped() -> None:
    pool = POOL.model_copy(update={"host": "a$b"})
    document = compose(STACK.model_copy(update={"pool": pool}), "swarm-1")
    assert document["services"]["htcondor"]["environment"]["SWARM_RUNNER_HOST"] == "a$$b"
    document = compose(STACK, "swarm-1")
    assert document["services"]["htcondor"]["environment"]["SWARM_RUNNER_HOST"] == "swarm-1"
