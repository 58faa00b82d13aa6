"""What the suites share."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.lab.pool import LabPool, lab_pool


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> None:
    """What a shell starts in the background ignores Ctrl-C, and so would what the tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def lab() -> Iterator[LabPool]:
    """A real pool, made for the first test that asks for it."""
    with lab_pool() as pool:
        yield pool
