"""Plugins of installed distributions, as a user installs them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from swarm_runner.errors import SwarmRunnerError
from swarm_runner.hooks.manager import Hooks
from swarm_runner.hooks.specs import hookimpl

SOURCE = Path(__file__).parents[2] / "plugin"
PROGRAM = """
from swarm_runner import Destination, Invocation
from swarm_runner.hooks.manager import Hooks
from swarm_runner.submit.translation import translate

hooks = Hooks()
destination = Destination()
for tool in ("samtools_sort", "cat", None):
    invocation = Invocation(key="k", image="debian", command=["x"], tool_id=tool)
    route = hooks.route(invocation, destination)
    description = translate(invocation, route, destination.pool)
    commands = dict(hooks.amend(description, invocation, route).commands)
    print(route.capacity_class, commands.get("accounting_group"), commands.get("priority"))
"""


def run_program(path: Path | None) -> list[str]:
    """Run PROGRAM with the distributions in a directory; return its lines."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return finished.stdout.splitlines()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory in which pip has installed the plugin's distribution."""
    # A copy, because a build writes files beside the source.
    source = shutil.copytree(SOURCE, tmp_path_factory.mktemp("source") / "plugin")
    target = tmp_path_factory.mktemp("target")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--target", str(target)]
    subprocess.run([*pip, *options, str(source)], check=True, capture_output=True)
    return target


def test_an_installed_distribution_changes_routes_and_amends_descriptions(installed: Path) -> None:
    assert list(installed.glob("swarm_runner_sorting-1.0.dist-info/entry_points.txt"))
    assert run_program(installed) == [
        "big group_tools.samtools_sort 5",
        "normal group_tools.cat 5",
        "normal None None",
    ]


def test_without_it_the_built_in_policies_decide() -> None:
    assert run_program(None) == ["normal None None"] * 3


def test_an_unknown_hook_is_rejected() -> None:
    class Typo:
        @hookimpl
        def swarm_runner_rout(self) -> None: ...

    with pytest.raises(Exception, match="unknown hook 'swarm_runner_rout'"):
        Hooks([Typo()], installed=False)


def test_an_installed_plugin_that_cannot_be_loaded_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_plugin.py").write_text("import no_such_module\n")
    metadata = tmp_path / "broken-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[swarm_runner]\nbroken = broken_plugin\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SwarmRunnerError, match=r"cannot be loaded.*no_such_module"):
        Hooks()
