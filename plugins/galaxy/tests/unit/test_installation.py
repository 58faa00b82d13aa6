"""Galaxy's environment has the wheels that users install, and not this source tree."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import pytest
import swarm_runner_galaxy


@pytest.mark.parametrize("name", ["swarm-runner", "swarm-runner-galaxy"])
def test_it_is_installed_from_a_wheel(name: str) -> None:
    origin = json.loads(metadata.distribution(name).read_text("direct_url.json") or "{}")
    assert origin["url"].endswith(".whl")
    assert "dir_info" not in origin, "an editable installation"


def test_the_runner_that_galaxy_loads_is_that_of_the_wheel() -> None:
    files = metadata.files("swarm-runner-galaxy") or ()
    (module,) = (file for file in files if str(file) == "swarm_runner_galaxy/__init__.py")
    assert Path(str(swarm_runner_galaxy.__file__)).samefile(str(module.locate()))
