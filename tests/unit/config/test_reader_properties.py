"""Generated texts: `make fuzz` tries a million of them, this test as many as fit into a minute."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.config_strategies import Generator
from tests.reader_properties import CHECKS

# Each example of hypothesis is so many generated ones: drawing one costs more than reading it.
EXAMPLES = int(os.environ.get("SWARM_RUNNER_FUZZ_EXAMPLES", "50000"))
PER_DRAW = 50


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@settings(
    max_examples=max(EXAMPLES // PER_DRAW // len(CHECKS), 1),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(st.lists(st.text(max_size=12), min_size=4, max_size=8), st.integers(0, 2**48))
def test_the_reader_answers(
    check: Callable[[Generator], None], texts: list[str], seed: int
) -> None:
    for number in range(PER_DRAW):
        check(Generator(seed * PER_DRAW + number, texts))
