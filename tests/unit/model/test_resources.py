from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from swarm_runner.model.resources import Resources
from swarm_runner.model.units import megabytes


def make_resources(**fields: Any) -> Resources:
    return Resources(**fields)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("100M", 100),
        ("2 GB", 2048),
        ("1.5GiB", 1536),
        ("1.5g", 1536),
        (" 512 mb ", 512),
        ("1T", 1048576),
        ("1025K", 2),
        ("0.0001G", 1),
    ],
)
def test_a_text_with_a_unit_is_megabytes_rounded_up(text: str, expected: int) -> None:
    assert megabytes(text) == expected


UNITLESS: list[Any] = ["512", 512, 1.5, True, None, "", "G", "-1G", "1 E", "1e3", "1GM", "٣G"]


@pytest.mark.parametrize("value", UNITLESS)
@pytest.mark.parametrize("key", ["memory", "max_memory", "disk"])
def test_a_number_without_a_unit_is_refused_and_the_forms_are_shown(key: str, value: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        Resources(**{key: value})
    [error] = caught.value.errors()
    assert error["loc"] == (f"{key}_mb",)
    assert error["msg"] == 'needs a number with a unit, such as "512M", "2 GB" or "1.5GiB"'


def test_megabytes_with_a_unit_are_not_for_the_key_in_mb() -> None:
    with pytest.raises(ValidationError, match=r"use the key without _mb, such as .512M"):
        Resources(memory_mb="512M")


@pytest.mark.parametrize("amount", [-1, 0, 1, 8, 15])
def test_less_than_a_container_needs_is_refused_and_the_forms_are_shown(amount: int) -> None:
    with pytest.raises(ValidationError) as caught:
        Resources(memory_mb=amount)
    assert caught.value.errors()[0]["msg"] == (
        f"is {amount} MB, but a container needs at least 16 MB; if a unit is missing, "
        'write for example "512M", "2 GB" or "1.5GiB"'
    )


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("cpus", [0, -1, 4097, 4096.5, True, "-2", "2 G", "many", [2], None]),
        ("memory_mb", [64 * 2**20 + 1, 10**30, 99.5, True, None]),
        ("max_memory_mb", [15, 10**30, True]),
        ("disk_mb", [0, -5, 64 * 2**20 + 1, True, None]),
        ("gpus", [-1, 1025, True]),
        ("time_limit_s", [0, -1, 10**12, True]),
    ],
)
def test_absurd_amounts_are_refused_by_field(field: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(ValidationError) as caught:
            Resources(**{field: value})
        assert [error["loc"] for error in caught.value.errors()] == [(field,)]


def test_the_same_amount_twice_is_refused() -> None:
    with pytest.raises(ValidationError, match="contains both memory and memory_mb"):
        make_resources(memory="1G", memory_mb=1024)


def test_the_largest_memory_is_not_less_than_the_first() -> None:
    assert make_resources(memory_mb=900, max_memory="900M").max_memory_mb == 900
    with pytest.raises(ValidationError, match=r"max_memory_mb \(899\) is less than memory_mb"):
        Resources(memory_mb=900, max_memory_mb=899)


def test_what_was_set_is_known() -> None:
    assert make_resources(memory="1G", cpus=2).model_fields_set == {"memory_mb", "cpus"}
