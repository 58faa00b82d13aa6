"""Fixtures of all suites."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.lab.pool import LabPool, lab_pool

# A busy machine is slow; that is not a failure.
settings.register_profile(
    "any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any-machine")


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> None:
    """Make the tests' child processes react to SIGINT.

    Background processes of a shell ignore SIGINT, and their children inherit that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def lab() -> Iterator[LabPool]:
    """A real pool, brought up for the first test that uses it."""
    with lab_pool() as pool:
        yield pool


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let two processes share the modules by pool: `--dist loadgroup`.

    A module is one group. One whose fixtures ask for `lab` while they run has the mark itself.
    """
    functions = [
        item
        for item in items
        if isinstance(item, pytest.Function) and not item.get_closest_marker("xdist_group")
    ]
    with_lab = {item.path for item in functions if "lab" in item.fixturenames}
    for item in functions:
        item.add_marker(pytest.mark.xdist_group("lab" if item.path in with_lab else str(item.path)))
