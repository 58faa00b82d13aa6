"""The documentation site builds without a warning, and lacks no page, link or public name."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest
from outside_links import resolve_links, stand_ins

ROOT = Path(__file__).parents[2]
SITE = ROOT / "docs"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-q", "-W", "--keep-going"]
    done = subprocess.run(
        [*command, "-d", str(output / "cache"), str(SITE), str(output)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return output


def test_every_page_becomes_html(site: Path) -> None:
    pages = [page.relative_to(SITE).with_suffix(".html") for page in SITE.rglob("*.md")]
    assert [str(page) for page in pages if not (site / page).is_file()] == []


def test_a_page_that_stands_for_another_file_has_its_content(site: Path) -> None:
    assert "Adding a hook implementation" in (site / "contributing.html").read_text()
    assert "Snakefile" in (site / "how-to" / "snakemake.html").read_text()


def test_the_library_is_documented_from_its_docstrings(site: Path) -> None:
    page = (site / "reference" / "python.html").read_text()
    for name in ("Runner.submit", "CapacityClass", "JobState.HELD", "MINIMUM_MEMORY_MB"):
        assert f'id="swarm_runner.{name}"' in page, name
    hooks = (site / "reference" / "hooks.html").read_text()
    assert 'id="swarm_runner.hooks.specs.swarm_runner_size_class"' in hooks


def test_the_schemas_are_at_the_root_of_the_site(site: Path) -> None:
    for schema in (ROOT / "schemas").glob("*.json"):
        assert (site / schema.name).read_bytes() == schema.read_bytes()


def resolve(text: str) -> str:
    return resolve_links(text, ROOT / "CONTRIBUTING.md", SITE / "contributing.md", stand_ins())


def test_a_link_from_outside_leads_to_the_page() -> None:
    assert resolve("see [words](docs/glossary.md#pool)") == "see [words](glossary.md#pool)"
    assert resolve("[changes](CHANGELOG.md)") == "[changes](changelog.md)"


def test_a_link_to_a_file_outside_of_the_site_becomes_its_path() -> None:
    assert resolve("[the hooks](swarm_runner/hooks/specs.py)") == (
        "the hooks (`swarm_runner/hooks/specs.py`)"
    )
    assert resolve("in [tests/lab/](tests/lab).") == "in `tests/lab`."


def test_a_link_to_nothing_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    logging.getLogger("sphinx").propagate = True
    resolve("[gone](docs/no-such-page.md)")
    assert "docs/no-such-page.md does not exist" in caplog.text
