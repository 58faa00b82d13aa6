"""The submit commands for published ports."""

from __future__ import annotations

from typing import Any

import pytest

from swarm_runner.errors import InvalidInputError
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.pool import Pool, Route
from swarm_runner.submit.translation import translate

POOL = Pool.model_validate(
    {
        "classes": {
            "normal": {"memory_mb": 1024},
            "big": {"memory_mb": 2048, "isolation": {"ports": "none"}},
        },
        "isolation": {"ports": "node", "networks": ["bridge"]},
    }
)


def commands(options: dict[str, Any] | None, *candidates: str) -> dict[str, str]:
    invocation = Invocation.model_validate(
        {"key": "k", "image": "debian:trixie", "shell": "true", "container_options": options}
    )
    names = candidates or ("normal",)
    route = Route(destination="d", capacity_class=names[0], candidates=names, reason="test")
    return dict(translate(invocation, route, POOL).commands)


def test_ports_are_htcondors_container_services() -> None:
    found = commands({"network": "bridge", "ports": {"web": 8888, "api": 80}})
    assert found["container_service_names"] == "web,api"
    assert (found["web_container_port"], found["api_container_port"]) == ("8888", "80")
    assert found["My.WantRemoteUpdates"] == "true"
    assert "ports" in found["environment"]  # the gateway compares


def test_a_job_without_ports_has_no_such_command() -> None:
    for options in (None, {"network": "bridge"}):
        found = commands(options)
        assert not {"container_service_names", "My.WantRemoteUpdates"} & found.keys()


@pytest.mark.parametrize(
    ("options", "candidates", "expected"),
    [
        ({"ports": {"web": 80}}, ["normal"], "network none"),
        ({"ports": {"web": 80}, "network": "bridge"}, ["big"], "isolation.ports"),
        # The schedd may move it there.
        ({"ports": {"web": 80}, "network": "bridge"}, ["normal", "big"], "class big"),
    ],
)
def test_a_class_that_publishes_none(
    options: dict[str, Any], candidates: list[str], expected: str
) -> None:
    with pytest.raises(InvalidInputError) as error:
        commands(options, *candidates)
    (diagnostic,) = error.value.diagnostics
    assert expected in diagnostic.message
    assert (diagnostic.key, diagnostic.path) == ("k", "container_options.ports")
