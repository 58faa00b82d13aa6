"""Files of the repository that are not below docs/: pages of the site, and links to other files.

A page that is nothing but a link to such a Markdown file becomes that file on the site. Any other
link out of docs/ becomes the file's path, because the site does not contain the file. A link to a
file that does not exist is a warning, and therefore an error of `make docs`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.typing import ExtensionMetadata

ROOT = Path(__file__).parents[2]
SITE = ROOT / "docs"
LINK = re.compile(r"\[(?P<text>[^\]]+)\]\((?P<target>(?![a-z]+:|#)[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")
STAND_IN = re.compile(rf"\s*{LINK.pattern}\s*")
log = logging.getLogger(__name__)


def stand_ins() -> dict[Path, Path]:
    """Return the pages that stand for a file outside of docs/, by that file."""
    found = {}
    for page in SITE.rglob("*.md"):
        if match := STAND_IN.fullmatch(page.read_text()):
            found[(page.parent / match["target"]).resolve()] = page
    return found


def resolve_links(text: str, file: Path, page: Path, pages: dict[Path, Path]) -> str:
    """Return the text of a file as the text of a page: its links lead to pages, or are paths."""

    def replace(match: re.Match[str]) -> str:
        target = (file.parent / match["target"]).resolve()
        target = pages.get(target, target)
        if not target.exists():
            log.warning("%s: %s does not exist", file.relative_to(ROOT), match["target"])
        elif target.is_relative_to(SITE) and target.is_file():
            relative = os.path.relpath(target, page.parent)
            return f"[{match['text']}]({relative}{match['anchor'] or ''})"
        path = os.path.relpath(target, ROOT)
        label = match["text"].strip("`").rstrip("/")
        return f"`{path}`" if path.endswith(label) else f"{match['text']} (`{path}`)"

    return LINK.sub(replace, text)


def _read(app: Sphinx, docname: str, source: list[str]) -> None:
    page = Path(app.env.doc2path(docname))
    pages = stand_ins()
    file = next((file for file, stand_in in pages.items() if stand_in == page), page)
    if file != page:
        app.env.note_dependency(str(file))
        source[0] = file.read_text()
    source[0] = resolve_links(source[0], file, page, pages)


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the extension."""
    app.connect("source-read", _read)
    return {"parallel_read_safe": True}
