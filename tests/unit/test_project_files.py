"""The files for a forge are valid, and agree with the Makefile and the version."""

from __future__ import annotations

import configparser
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from swarm_runner import __version__
from tests.lab import release_dry_run

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text().replace("$(BIN)", ".venv/bin")
LINT = MAKEFILE.partition("\nlint: ")[2].partition("\n\n")[0].replace("\t", "").splitlines()[1:]
FORGE = ROOT / ".github"
FILES = (
    *FORGE.rglob("*.yml"),
    *(ROOT / name for name in (".pre-commit-config.yaml", ".readthedocs.yaml", "CITATION.cff")),
)


def load(file: Path) -> Any:
    return yaml.safe_load(file.read_text())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_each_is_yaml(file: Path) -> None:
    assert isinstance(load(file), dict)


def test_the_citation_has_the_version() -> None:
    assert load(ROOT / "CITATION.cff")["version"] == __version__


def test_the_hooks_are_those_of_make_lint() -> None:
    """Each hook is a command of `make lint`, and `make lint` as a whole runs before a push."""
    (repository,) = load(ROOT / ".pre-commit-config.yaml")["repos"]
    assert "make lint" in [hook["entry"] for hook in repository["hooks"]]
    for hook in repository["hooks"]:
        assert hook["language"] == "system"
        if hook["entry"] == "make lint":
            assert hook["stages"] == ["pre-push"]
        else:
            assert any(command.startswith(hook["entry"]) for command in LINT), hook["entry"]


def test_every_quick_command_of_make_lint_is_a_hook() -> None:
    """mypy and the forge's linters take longer, or look at few files: they wait for the push."""
    (repository,) = load(ROOT / ".pre-commit-config.yaml")["repos"]
    tools = {hook["entry"].split()[0].removeprefix(".venv/bin/") for hook in repository["hooks"]}
    linters = {command.split(".venv/bin/")[1].split()[0] for command in LINT if "bin/" in command}
    assert linters - tools == {"mypy", "check-jsonschema", "zizmor"}


def test_the_release_runs_targets_that_exist() -> None:
    jobs = load(FORGE / "workflows" / "release.yml")["jobs"]
    runs = "\n".join(step.get("run", "") for job in jobs.values() for step in job["steps"])
    targets = {line.split()[1] for line in runs.splitlines() if line.split()[:1] == ["make"]}
    assert targets >= {"dist", "test-dist"}
    for target in targets:
        assert f"\n{target}: " in MAKEFILE


def test_the_dry_run_knows_every_step_of_the_release() -> None:
    found = list(release_dry_run.steps())
    commands = [step.commands for step in found if step.commands and not step.reason_not_run]
    assert len(commands) >= 5
    assert any("diff -r first dist" in command for command in commands)
    assert any("cosign" in step.commands and step.reason_not_run for step in found)


def test_the_actions_are_pinned() -> None:
    text = (FORGE / "workflows" / "release.yml").read_text()
    references = re.findall(r"uses: \S+@(\S+)", text)
    assert len(references) >= 10
    assert {ref for ref in references if not re.fullmatch("[0-9a-f]{40}", ref)} == {"release/v1"}


def test_the_dev_container_makes_the_environment() -> None:
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    command, target = container["postCreateCommand"].split()
    assert (command, f"\n{target}: " in MAKEFILE) == ("make", True)
    settings = container["customizations"]["vscode"]["settings"]
    assert all((ROOT / schema).is_file() for schema in settings["yaml.schemas"])


def test_the_release_has_no_secret_and_few_rights() -> None:
    text = (FORGE / "workflows" / "release.yml").read_text()
    assert "secrets." not in text
    assert load(FORGE / "workflows" / "release.yml")["permissions"] == {}


def test_fragments_go_below_the_mark_of_the_changelog() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["towncrier"]
    assert (ROOT / "CHANGELOG.md").read_text().count(settings["start_string"]) == 1
    kinds = {kind["directory"] for kind in settings["type"]}
    for fragment in (ROOT / settings["directory"]).iterdir():
        assert fragment.name == "README.md" or fragment.name.split(".")[-2] in kinds, fragment.name


def test_the_page_of_distributions_has_every_requirement_and_extra() -> None:
    text = (ROOT / "docs" / "reference" / "distributions.md").read_text()
    for directory in (ROOT, *(ROOT / "plugins" / name for name in ("galaxy", "snakemake"))):
        setup = configparser.ConfigParser()
        setup.read(directory / "setup.cfg")
        name = setup["metadata"]["name"]
        assert f"| `{name}` |" in text
        for extra in setup["options.extras_require"]:
            assert f"`{name}[{extra}]`" in text
    core = configparser.ConfigParser()
    core.read(ROOT / "setup.cfg")
    required = core["options"]["install_requires"].strip().splitlines()
    optional = [core["options.extras_require"][extra].strip() for extra in ("guests", "metrics")]
    assert [line for line in (*required, *optional) if f"`{line}`" not in text] == []


@pytest.mark.parametrize("plugin", ["galaxy", "snakemake", "simulation"])
def test_the_floor_of_python_is_one(plugin: str) -> None:
    setups = [ROOT / "setup.cfg", ROOT / "plugins" / plugin / "setup.cfg"]
    assert all("python_requires = >=3.11\n" in setup.read_text() for setup in setups)
