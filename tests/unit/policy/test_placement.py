"""Labels and GPUs: which class has them, and what the message says if none does."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from swarm_runner.errors import InvalidInputError
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.pool import CapacityClass, Destination, Pool, Route
from swarm_runner.policy.routing import swarm_runner_route

POOL = Pool.model_validate(
    {
        "classes": {
            "normal": {"memory_mb": 1024},
            "ssd": {"memory_mb": 1024, "constraints": ["node.labels.ssd==true"]},
            "big": {"memory_mb": 4096},
            "big-ssd": {"memory_mb": 4096, "constraints": ["node.labels.ssd == true"]},
            "a100": {
                "memory_mb": 8192,
                "gpus": 1,
                "gpu_model": "NVIDIA A100-SXM4-40GB",
                "gpu_memory_mb": 40960,
                "constraints": ["engine.labels.gpu == a100", "node.role != manager"],
            },
        }
    }
)


def route(**fields: Any) -> Route:
    invocation = Invocation(image="debian", command=("true",), key="k", **fields)
    return swarm_runner_route(invocation, Destination(pool=POOL), POOL)


def refusal(**fields: Any) -> str:
    with pytest.raises(InvalidInputError) as caught:
        route(**fields)
    return str(caught.value)


def test_a_job_without_wishes_runs_where_most_nodes_are() -> None:
    assert list(POOL.classes)[:2] == ["normal", "ssd"]
    assert route().capacity_class == "normal"


def test_a_label_leads_to_a_class_that_has_it() -> None:
    assert route(node_labels={"ssd": "true"}).capacity_class == "ssd"
    large = route(node_labels={"ssd": "true"}, resources={"memory_mb": 2000})
    assert large.capacity_class == "big-ssd"
    assert route(node_labels={"gpu": "a100"}, resources={"gpus": 1}).capacity_class == "a100"


def test_a_retry_with_more_memory_stays_on_nodes_with_the_label() -> None:
    resources = {"memory_mb": 512, "max_memory_mb": 4000}
    found = route(node_labels={"ssd": "true"}, resources=resources)
    assert found.candidates == ("ssd", "big-ssd")


def test_gpus_by_model_and_memory() -> None:
    for fields in ({"gpu_model": "a100"}, {"gpu_memory_mb": 40960}):
        assert route(**fields, resources={"gpus": 1}).capacity_class == "a100"
    assert "no class of pool swarm-runner has GPU model H100" in refusal(gpu_model="H100")
    assert "has GPUs of 81920 MB" in refusal(gpu_memory_mb=81920)


def test_the_message_names_what_there_is() -> None:
    text = refusal(node_labels={"ssd": "yes"})
    assert "no class of pool swarm-runner has ssd=yes. The pool has normal: no labels; " in text
    assert "ssd: ssd=true" in text
    assert "a100: gpu=a100, NVIDIA A100-SXM4-40GB, 40960 MB on each GPU" in text


def test_a_requested_class_that_does_not_have_it() -> None:
    text = refusal(node_labels={"ssd": "true"}, capacity_class="big")
    assert "class big of pool swarm-runner does not have ssd=true" in text
    assert route(node_labels={"ssd": "true"}, capacity_class="big-ssd").capacity_class == "big-ssd"


@pytest.mark.parametrize(
    ("constraint", "message"),
    [
        ("node.labels.ssd", "is not a constraint of Swarm; write an attribute"),
        ("node.labels.ssd = true", "is not a constraint"),
        ("node.lables.ssd == true", "'node.lables.ssd' is not an attribute of a node"),
        ("labels.ssd == true", "Swarm knows node.id, node.hostname"),
        ("node.labels.ssd == a'b", "has a character that Swarm does not accept"),
    ],
)
def test_constraints_that_are_not_swarms(constraint: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message.replace("(", r"\(")):
        CapacityClass(memory_mb=64, constraints=(constraint,))


def test_preferences() -> None:
    written = ["spread: node.labels.rack", "spread=engine.labels.row", "node.labels.x"]
    found = CapacityClass.model_validate({"memory_mb": 64, "preferences": written}).preferences
    assert found == ("node.labels.rack", "engine.labels.row", "node.labels.x")
    with pytest.raises(ValidationError, match="its only strategy is spread"):
        CapacityClass.model_validate({"memory_mb": 64, "preferences": ["binpack: node.labels.x"]})


def test_gpu_models_need_gpus() -> None:
    with pytest.raises(ValidationError, match="requires gpus"):
        CapacityClass(memory_mb=64, gpu_model="A100")


def test_two_classes_of_one_size_and_the_same_nodes_have_no_order() -> None:
    ssd = {"memory_mb": 64, "constraints": ["node.labels.ssd == true"]}
    with pytest.raises(ValidationError, match="the two have no order"):
        Pool.model_validate({"classes": {"a": ssd, "b": ssd}})
