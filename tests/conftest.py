"""What the suites share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.pool import LabPool, lab_pool


@pytest.fixture(scope="session")
def lab() -> Iterator[LabPool]:
    """A real pool, made for the first test that asks for it."""
    with lab_pool() as pool:
        yield pool
