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


@pytest.hookimpl(tryfirst=True)  # before pytest's own selects by marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the modules whose tests share the pool of `lab`: the others can run beside them.

    A module whose fixtures ask for `lab` while they run has the mark itself.
    """
    functions = [item for item in items if isinstance(item, pytest.Function)]
    shared = {item.path for item in functions if "lab" in item.fixturenames}
    for item in functions:
        if item.path in shared:
            item.add_marker(pytest.mark.shared_pool)
