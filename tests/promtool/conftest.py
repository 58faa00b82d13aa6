"""Prometheus's own tool, which `make promtool` provides."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.result import Result

TOOL = Path(__file__).parents[2] / ".state" / "prometheus" / "usr" / "bin" / "promtool"
Promtool = Callable[..., Result]


@pytest.fixture
def promtool() -> Promtool:
    """Run promtool with arguments and standard input."""
    assert TOOL.exists(), f"there is no {TOOL}; run `make promtool`"

    def run(*arguments: str, text: str = "") -> Result:
        done = subprocess.run(
            [TOOL, *arguments], input=text, capture_output=True, text=True, check=False, timeout=60
        )
        return Result(done.returncode, done.stdout, done.stderr)

    return run
