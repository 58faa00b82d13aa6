"""The links out of the documentation, in docs/external-links.txt.

`python -m tests.external_links` writes it.
`make linkcheck` follows them, on a machine that reaches them. The file shows in a review which
servers the documentation relies on; tests/unit/test_site.py finds out when it is stale.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from markdown_it import MarkdownIt

from tests.doc_blocks import DOCS, name_of, pages

LIST = DOCS / "external-links.txt"


def external_links() -> dict[str, list[str]]:
    """Return the pages that contain each link, by its address."""
    found: dict[str, list[str]] = {}
    for page in pages():
        for address in sorted(set(_addresses(page))):
            found.setdefault(address, []).append(name_of(page))
    return dict(sorted(found.items()))


def render() -> str:
    """Return the text of the list: an address and its pages in each line."""
    return "".join(f"{link} {' '.join(names)}\n" for link, names in external_links().items())


def _addresses(page: Path) -> Iterator[str]:
    for token in MarkdownIt("commonmark").enable("table").parse(page.read_text()):
        for child in token.children or ():
            target = str(child.attrGet("href") or child.attrGet("src") or "")
            if target.startswith(("http:", "https:")):
                yield target


def main() -> int:
    """Write the list."""
    LIST.write_text(render())
    return 0


if __name__ == "__main__":
    sys.exit(main())
