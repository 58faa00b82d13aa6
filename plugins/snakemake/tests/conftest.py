"""Fixtures of all test suites."""

from __future__ import annotations

import signal

import pytest


@pytest.fixture(scope="session", autouse=True)
def _restore_sigint() -> None:
    """Handle Ctrl-C, which processes that a shell starts in the background ignore.

    Processes that the tests start inherit this.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
