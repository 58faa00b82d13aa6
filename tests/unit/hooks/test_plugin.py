from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from swarm_runner.errors import SwarmRunnerError
from swarm_runner.hooks.manager import plugin_manager
from swarm_runner.hooks.specs import hookimpl

SOURCE = Path(__file__).parents[1] / "plugin"
PROGRAM = """
import sys
from swarm_runner import Destination, Invocation
from swarm_runner.hooks.manager import plugin_manager
from swarm_runner.submit.translation import translate

manager = plugin_manager()
print(*sorted(name for name, _ in manager.list_name_plugin()), sep=",")
destination = Destination()
for tool in ("samtools_sort", "cat", None):
    invocation = Invocation(key="k", image="debian", command=["x"], tool_id=tool)
    route = manager.hook.swarm_runner_route(
        invocation=invocation, destination=destination, pool=destination.pool
    )
    description = translate(invocation, route, destination.pool)
    for changes in manager.hook.swarm_runner_amend_submit(invocation=invocation, route=route):
        description = description.amended(changes)
    commands = dict(description.commands)
    print(route.capacity_class, commands.get("accounting_group"), commands.get("priority"))
"""


def run(path: Path | None) -> list[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return ended.stdout.splitlines()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which pip has installed the plugin's distribution."""
    # A copy, because a build leaves its traces beside the source.
    source = shutil.copytree(SOURCE, tmp_path_factory.mktemp("source") / "plugin")
    target = tmp_path_factory.mktemp("target")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--target", str(target)]
    subprocess.run([*pip, *options, str(source)], check=True, capture_output=True)
    return target


def test_an_installed_distribution_changes_routes_and_amends_descriptions(installed: Path) -> None:
    assert list(installed.glob("swarm_runner_sorting-1.0.dist-info/entry_points.txt"))
    plugins, *jobs = run(installed)
    assert "sorting" in plugins.split(",")
    assert jobs == [
        "big group_tools.samtools_sort 5",
        "normal group_tools.cat 5",
        "normal None None",
    ]


def test_without_it_the_built_in_policies_decide() -> None:
    plugins, *jobs = run(None)
    assert "sorting" not in plugins.split(",")
    assert {"swarm_runner.policy.holds", "swarm_runner.policy.routing"} <= set(plugins.split(","))
    assert jobs == ["normal None None"] * 3


def test_a_hook_that_is_none_of_ours_is_refused() -> None:
    class Typo:
        @hookimpl
        def swarm_runner_rout(self) -> None: ...

    with pytest.raises(Exception, match="unknown hook 'swarm_runner_rout'"):
        plugin_manager([Typo()], installed=False)


def test_a_later_plugin_is_asked_first() -> None:
    class First:
        @hookimpl
        def swarm_runner_job_held(self, job: object, hold: object) -> str:
            return f"first {job} {hold}"

    class Second:
        @hookimpl
        def swarm_runner_job_held(self, job: object, hold: object) -> str:
            return f"second {job} {hold}"

    hook = plugin_manager([First(), Second()], installed=False).hook
    assert hook.swarm_runner_job_held(job=1, hold=2) == "second 1 2"


def test_an_installed_plugin_that_cannot_be_loaded_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_plugin.py").write_text("import no_such_module\n")
    about = tmp_path / "broken-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[swarm_runner]\nbroken = broken_plugin\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SwarmRunnerError, match=r"cannot be loaded.*no_such_module"):
        plugin_manager()
