"""The documentation site builds without a warning, and lacks no page, link or public name."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from outside_links import resolve_links, stand_ins

from tests.external_links import LIST, external_links, render

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


def test_the_list_of_external_links_is_that_of_the_pages() -> None:
    assert LIST.read_text() == render(), "stale: run `make reference`"
    assert "https://htcondor.org " in LIST.read_text()


@pytest.mark.parametrize("link", external_links())
def test_an_external_link_is_one_that_a_reader_may_follow(link: str) -> None:
    parts = urlsplit(link)
    assert parts.scheme == "https"
    assert parts.hostname
    assert not parts.hostname.endswith(("example.org", "localhost"))
    assert not parts.username


def test_linkcheck_looks_at_the_same_links() -> None:
    """Sphinx's builder collects them from the site; what it ignores is no link of a page."""
    names: dict[str, Any] = {"__file__": str(SITE / "conf.py")}
    exec((SITE / "conf.py").read_text(), names)  # noqa: S102  our own configuration
    ignored = [re.compile(pattern) for pattern in names["linkcheck_ignore"]]
    assert [link for link in external_links() if any(p.match(link) for p in ignored)] == []
