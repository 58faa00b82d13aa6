"""What Snakemake's plugin catalogue asks of a plugin (its collect_plugins.py of March 2026).

It installs the package beside Snakemake, reads the settings through the registry of plugins, and
takes two pages from the repository.
"""

from __future__ import annotations

import json
import re
from importlib import metadata
from pathlib import Path
from typing import Any

from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

PACKAGE = "snakemake-executor-plugin-swarm-runner"
DOCS = Path(__file__).parents[2] / "docs"
INTERFACE = re.compile(r"snakemake-interface-executor-plugins\s*\(?([^)]+)")


def settings() -> list[dict[str, Any]]:
    """Return the settings as the catalogue does: through JSON, with each type by its name."""
    name = PACKAGE.removeprefix("snakemake-executor-plugin-")
    plugin = ExecutorPluginRegistry().get_plugin(name)
    found = [
        {
            key: getattr(value, "__name__", None) if key == "type" else value
            for key, value in setting.items()
        }
        for setting in plugin.get_settings_info()
    ]
    parsed: list[dict[str, Any]] = json.loads(json.dumps(found))
    return parsed


def test_every_setting_has_what_the_catalogue_shows() -> None:
    assert len(settings()) >= 7
    for setting in settings():
        assert setting["cliarg"].startswith("--swarm-runner-")
        assert setting["help"], setting


def test_every_setting_is_on_the_page() -> None:
    text = (DOCS / "further.md").read_text()
    for setting in settings():
        assert f"`{setting['cliarg'].removeprefix('--swarm-runner-')}`" in text


def test_the_package_says_which_interface_it_needs() -> None:
    required = metadata.requires(PACKAGE) or []
    (specifiers,) = (match[1] for entry in required if (match := INTERFACE.search(entry)))
    assert ">=" in specifiers


def test_the_pages_that_the_catalogue_takes() -> None:
    intro, further = ((DOCS / f"{name}.md").read_text() for name in ("intro", "further"))
    assert not intro.startswith("#"), "the catalogue has a heading of its own"
    # Links to other files lead nowhere there; those to a place on the same page work.
    assert re.findall(r"\]\((?!https?:|#)[^)]*\)", intro) == []
    assert further.startswith("# Further details\n")
