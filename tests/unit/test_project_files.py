"""The files for a forge are valid, and agree with the Makefile and the version."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from swarm_runner import __version__

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text().replace("$(BIN)", ".venv/bin")
FORGE = ROOT / ".github"
FILES = (*FORGE.rglob("*.yml"), ROOT / ".pre-commit-config.yaml", ROOT / "CITATION.cff")


def load(file: Path) -> Any:
    return yaml.safe_load(file.read_text())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_each_is_yaml(file: Path) -> None:
    assert isinstance(load(file), dict)


def test_the_citation_has_the_version() -> None:
    assert load(ROOT / "CITATION.cff")["version"] == __version__


def test_the_hooks_are_those_of_make_lint() -> None:
    (repository,) = load(ROOT / ".pre-commit-config.yaml")["repos"]
    for hook in repository["hooks"]:
        assert hook["language"] == "system"
        if hook["entry"] != "make lint":
            assert f"\t{hook['entry']}" in MAKEFILE, hook["entry"]


def test_the_release_runs_targets_that_exist() -> None:
    jobs = load(FORGE / "workflows" / "release.yml")["jobs"]
    runs = "\n".join(step.get("run", "") for job in jobs.values() for step in job["steps"])
    targets = {line.split()[1] for line in runs.splitlines() if line.split()[:1] == ["make"]}
    assert targets >= {"dist", "test-dist"}
    for target in targets:
        assert f"\n{target}: " in MAKEFILE


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
