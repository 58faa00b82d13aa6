"""Galaxy's environment has the wheels that users install, and not this source tree."""

from __future__ import annotations

import json
import sysconfig
from importlib import metadata
from pathlib import Path

import pytest
import swarm_runner_galaxy

# The tests' own path begins with the source tree. A Galaxy server has only this.
INSTALLED = sysconfig.get_path("purelib")


@pytest.mark.parametrize("name", ["swarm-runner", "swarm-runner-galaxy"])
def test_it_is_installed_from_a_wheel(name: str) -> None:
    (distribution,) = metadata.distributions(name=name, path=[INSTALLED])
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    assert origin["url"].endswith(".whl")
    assert "dir_info" not in origin, "an editable installation"


def test_the_runner_that_galaxy_loads_is_that_of_the_wheel() -> None:
    assert Path(swarm_runner_galaxy.__file__).is_relative_to(INSTALLED)
