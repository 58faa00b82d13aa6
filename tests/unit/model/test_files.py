"""Which inputs HTCondor's list of input files carries to the names that they are to have."""

from __future__ import annotations

import pytest

from swarm_runner.model.files import InputFile, is_plain_input


@pytest.mark.parametrize(
    "name", ["a", "deep/a", "/data/a", "two words", "größe", "a$b", "dollar$(X)", "a*b", "x" * 4000]
)
def test_the_list_carries_a_plain_name(name: str) -> None:
    # HTCondor keeps the last component of an absolute path alone.
    source = name if not name.startswith("/") else InputFile(source=name, name="a")
    assert is_plain_input(source)


@pytest.mark.parametrize(
    "name",
    [
        "a,b",
        'a"b',
        "a\tb",
        " a",
        "a ",
        "a\\",
        "$a",
        "a$",
        "a$$(X)b",
        "a$(DOLLAR)b",
        "a$(Dollar)b",
        "a$(x$(y))",
        "./a",
        "../a",
        "d/",
        ".",
    ],
)
def test_other_names_are_staged(name: str) -> None:
    assert not is_plain_input(name)


def test_a_renamed_input_is_staged() -> None:
    assert not is_plain_input(InputFile(source="a", name="b"))
