"""Python examples in docs/ that need no pool run as documented."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from swarm_runner.config.job_conf import parse_job_conf

DOCS = Path(__file__).parents[2] / "docs"
PYTHON = re.compile(r"```python\n(.*?)```", re.DOTALL)


def test_a_test_on_the_fakes(tmp_path: Path) -> None:
    (source,) = PYTHON.findall((DOCS / "reference" / "testing.md").read_text())
    names: dict[str, Any] = {}
    exec(source, names)  # noqa: S102  our own page
    names["test_a_failed_alignment_has_its_exit_code"](tmp_path)


def _blocks(language: str) -> list[Any]:
    """Return the blocks of every page, with the place of each as its name."""
    return [
        pytest.param(
            match[1], id=f"{page.relative_to(DOCS)}:{text[: match.start()].count(chr(10)) + 1}"
        )
        for page in sorted(DOCS.rglob("*.md"))
        for text in [page.read_text()]
        for match in re.finditer(rf"```{language}\n(.*?)```", text, re.DOTALL)
    ]


@pytest.mark.parametrize("source", _blocks("python"))
def test_every_python_block_compiles(source: str) -> None:
    compile(source, "docs", "exec")


def test_the_example_of_the_library_runs() -> None:
    (source,) = PYTHON.findall((DOCS / "reference" / "python.md").read_text())
    exec(source, {})  # noqa: S102  our own page


def _is_job_conf(source: Any) -> bool:
    document = yaml.safe_load(source)
    return isinstance(document, dict) and "pool" in str(document.get("runners", ""))


@pytest.mark.parametrize("source", [b for b in _blocks("yaml") if _is_job_conf(b.values[0])])
def test_every_configuration_is_valid(source: str) -> None:
    configuration = parse_job_conf(source, "docs")
    assert configuration.destinations
    assert configuration.warnings == ()


def test_there_are_configurations() -> None:
    assert len([block for block in _blocks("yaml") if _is_job_conf(block.values[0])]) >= 5


def test_the_json_of_every_page_is_json() -> None:
    for block in _blocks("json"):
        json.loads(block.values[0])
