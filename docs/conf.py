"""The documentation site: `make docs`."""

from __future__ import annotations

import sys
from pathlib import Path

DIRECTORY = Path(__file__).parent
sys.path[:0] = [str(DIRECTORY.parent), str(DIRECTORY / "_extensions")]

from swarm_runner import __version__  # noqa: E402  the path is set above

project = "swarm_runner"
author = "The swarm_runner developers"
copyright = author  # noqa: A001  Sphinx's name for it
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx_copybutton",
    "outside_links",
    "python_reference",
]
root_doc = "index"
exclude_patterns = ["_build", "vocabulary.txt", "external-links.txt"]

# Markdown
myst_heading_anchors = 4
myst_enable_extensions = ["deflist", "colon_fence"]

# Docstrings
default_role = "code"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "exclude-members": "model_config, model_post_init"}
# Names link to this project only: a build needs no network.
intersphinx_mapping: dict[str, tuple[str, None]] = {}

# `make linkcheck`: addresses that only a reader's own machine has.
linkcheck_ignore = [r"https?://(localhost|127\.0\.0\.1)"]
linkcheck_timeout = 20
linkcheck_retries = 2
linkcheck_workers = 4
# Anchors of pages that a script writes are not in their HTML.
linkcheck_anchors_ignore_for_url = [r"https://github\.com/"]

# HTML
html_theme = "furo"
html_title = f"swarm_runner {release}"
html_static_path = ["_static"]
html_extra_path = ["../schemas"]
html_copy_source = False
html_show_sphinx = False
copybutton_prompt_text = r"\$ "
copybutton_prompt_is_regexp = True
copybutton_only_copy_prompt_lines = True
