"""The settings of a pool with several managers."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from swarm_runner.model.pool import Pool

SETTINGS: dict[str, Any] = {
    "name": "galaxy",
    "managers": 2,
    "hosts": ["10.0.0.1", "swarm-2.example.org:9700"],
    "spool": "/srv/queue",
}


def messages(**changes: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        Pool.model_validate(SETTINGS | changes)
    return str(caught.value)


def test_addresses_and_services() -> None:
    pool = Pool.model_validate(SETTINGS)
    assert pool.address == "10.0.0.1:9618,swarm-2.example.org:9700"
    assert pool.manager_services == ("galaxy_htcondor", "galaxy_htcondor-manager-2")


def test_a_pool_has_one_manager_unless_it_says_otherwise() -> None:
    pool = Pool(name="galaxy", host="10.0.0.1")
    assert pool.manager_addresses == (("10.0.0.1", 9618),)
    assert pool.manager_services == ("galaxy_htcondor",)


def test_without_a_shared_volume_there_is_one_manager() -> None:
    message = messages(spool=None)
    assert "managers\n  is 2, but there is no spool" in message
    assert "Set spool to a directory that all of them have" in message
    assert "leave managers out and use `pool backup`" in message


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"managers": 3}, "must have the addresses of all 3 managers, not 2"),
        ({"hosts": ["10.0.0.1", "10.0.0.1:9618"]}, "has an address twice"),
        ({"host": "10.0.0.1"}, "does not apply with several managers"),
        ({"hosts": ["10.0.0.1", "::1"]}, "'::1' is not the address of a manager"),
        ({"hosts": ["10.0.0.1", "a:70000"]}, "'a:70000' is not the address of a manager"),
        ({"volumes": ["/srv"]}, "jobs would see the queue"),
        ({"volumes": ["/srv/queue/x"]}, "jobs would see the queue"),
        ({"spool": "/var/lib/docker/x"}, "system directory"),
        ({"network": {"endpoint_mode": "vip"}}, "must be {endpoint_mode: dnsrr"),
        ({"managers": 1}, "applies with several managers"),
        ({"managers": 0}, "greater than or equal to 1"),
        ({"managers": "2"}, "valid integer"),
    ],
)
def test_settings_that_do_not_fit(changes: dict[str, Any], expected: str) -> None:
    assert expected in messages(**changes)
