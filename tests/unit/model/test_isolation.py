"""What a pool allows a job's container, and what an invocation may ask for."""

from __future__ import annotations

from typing import Any

import pytest
from gateway_policy import MAXIMUM_PORTS
from pydantic import ValidationError

from swarm_runner.model.isolation import MAXIMUM_JOB_PORTS, ContainerOptions, Isolation


@pytest.mark.parametrize("text", ["1024", "30000-30999", "65535"])
def test_ports_of_a_node(text: str) -> None:
    assert Isolation(host_ports=text).host_ports == text


@pytest.mark.parametrize("text", ["80", "1-70000", "30999-30000", "a-b", "-", "30000-", "", "1e4"])
def test_what_is_no_range_of_ports(text: str) -> None:
    with pytest.raises(ValidationError, match="from 1024 to 65535"):
        Isolation(host_ports=text)


@pytest.mark.parametrize(
    ("ports", "expected"),
    [
        ({"web": 0}, "greater than or equal to 1"),
        ({"web": 65_536}, "less than or equal to 65535"),
        ({"web": "80"}, "valid integer"),
        ({"web": True}, "valid integer"),
        ({"a b": 80}, "pattern"),
        ({"web\n": 80}, "pattern"),
        ({"x;universe=vm": 80}, "pattern"),
        ({"web": 80, "Web": 81}, "the same names twice"),
        ({"web": 80, "api": 80}, "the same ports twice"),
        ({f"p{n}": n for n in range(1, 10)}, "a job gets 8 at most"),
    ],
)
def test_ports_that_a_job_cannot_ask_for(ports: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        ContainerOptions.model_validate({"ports": ports})


def test_the_gateway_has_the_same_bound() -> None:
    assert MAXIMUM_PORTS == MAXIMUM_JOB_PORTS


def test_no_ports_are_no_option() -> None:
    assert ContainerOptions(shm_mb=1).model_dump_json(exclude_defaults=True) == '{"shm_mb":1}'


@pytest.mark.parametrize(
    ("isolation", "options", "expected"),
    [
        ({}, {}, None),
        ({}, {"ports": {"web": 80}}, "isolation.ports"),
        ({"ports": "node"}, {"ports": {"web": 80}}, "container_options.network"),
        ({"ports": "node", "network": "bridge"}, {"ports": {"web": 80}}, None),
        ({"ports": "node"}, {"ports": {"web": 80}, "network": "bridge"}, None),
        (
            {"ports": "node", "network": "bridge"},
            {"ports": {"web": 80}, "network": "none"},
            "container_options.network",
        ),
    ],
)
def test_why_a_job_gets_no_port(
    isolation: dict[str, Any], options: dict[str, Any], expected: str | None
) -> None:
    problem = Isolation(**isolation).port_problem(ContainerOptions(**options))
    assert (problem is None) == (expected is None)
    assert (expected or "") in (problem or "")
