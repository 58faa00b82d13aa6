"""The code blocks of the documentation, and how each of them is tried.

An indented block, or a fenced one in `console`, contains shell commands: all of its lines or, if
some begin with `$ `, those; the others are what the commands print. Any other fenced block is in
its language. `text` is for what is neither a command nor a file.

A block that no test runs says why, in a comment directly before it. One that another test runs
names that test:

    <!-- not tried: it breaks hosts -->
    <!-- tried by: tests/integration/test_vm.py -->
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
SHELL, TEXT = "console", "text"
_NOTE = re.compile(r"<!-- (?P<kind>not tried|tried by): (?P<text>.*?) -->\s*", re.DOTALL)
_FILE_NAME = re.compile(r"`(?P<name>[\w./-]+\.(?:yml|xml|csv|sh))`")
_COMMAND = re.compile(
    r"(?:^|&& |; |\$\()(?:\S*/)?swarm-runner(?P<arguments>(?: [^;|&\n]*)?)$", re.MULTILINE
)
_REDIRECTION = re.compile(r"\s\d?>\s?.*")

# Other tests run these pages' blocks in a language, by the page's own text.
TRIED_BY_OTHERS = {
    ("docs/how-to/galaxy.md", "yaml"): "plugins/galaxy/tests/unit/test_how_to.py",
    ("docs/virtual-machines.md", "yaml"): "tests/integration/test_vm.py",
    ("docs/virtual-machines.md", SHELL): "tests/integration/test_vm.py",
    ("docs/reference/testing.md", "python"): "tests/distributions/test_wheels.py",
}
# tests/integration/test_docs.py and test_engine_guides.py run these pages' commands on pools.
ON_A_POOL = (
    "README.md",
    "docs/tutorial.md",
    "docs/operators-guide.md",
    "docs/how-to/page.md",
    "docs/how-to/unhealthy-executors.md",
    "docs/how-to/upgrade.md",
    "docs/how-to/watch.md",
    "docs/job-isolation.md",
    "docs/how-to/galaxy.md",
    "plugins/snakemake/docs/ten-minutes.md",
)


@dataclass(frozen=True, slots=True)
class Block:
    """A code block: where it is, what it contains, and who tries it, or why nobody does."""

    page: Path
    line: int
    language: str
    content: str
    file_name: str | None
    not_tried: str | None = None
    tried_by: str | None = None

    @property
    def location(self) -> str:
        """The page and the line."""
        return f"{name_of(self.page)}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """The commands of a shell block, each with its continuation lines and documents."""
        lines = self.content.splitlines()
        prompted = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        return list(_join_lines(prompted or lines))

    def output_of(self, command: str) -> list[str]:
        """Return the lines that the block shows below a command."""
        lines = self.content.splitlines()
        if f"$ {command}" not in lines:
            return []
        following = lines[lines.index(f"$ {command}") + 1 :]
        end = next((i for i, line in enumerate(following) if line.startswith("$ ")), None)
        return following[:end]


def name_of(page: Path) -> str:
    """Return a page's path in the repository."""
    return str(page.relative_to(ROOT))


def pages() -> list[Path]:
    """Return every Markdown file that users read."""
    found = [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "plugins").rglob("*.md")]
    own = [page for page in found if "/." not in f"/{name_of(page)}"]
    return sorted(own)


def how_to_pages() -> set[str]:
    """Return the pages whose commands a reader types: tutorials, how-to guides and READMEs."""
    index = (DOCS / "index.md").read_text()
    trees = re.findall(r":caption: (?:Start|How-to guides)\n\n(.*?)```", index, re.DOTALL)
    named = {f"docs/{name}.md" for tree in trees for name in tree.split()}
    return named | {"README.md", "plugins/snakemake/docs/ten-minutes.md"}


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page, without those that are directives of the site."""
    tokens = MarkdownIt("commonmark").enable("table").parse(page.read_text())
    return [
        _block(page, tokens, index)
        for index, token in enumerate(tokens)
        if token.type in ("fence", "code_block") and not token.info.startswith("{")
    ]


def all_blocks() -> list[Block]:
    """Return the blocks of every page."""
    return [block for page in pages() for block in blocks(page)]


def inline_commands(page: Path) -> list[str]:
    """Return the commands in a page's text, such as `swarm-runner pool up --autoscale`."""
    tokens = MarkdownIt("commonmark").enable("table").parse(page.read_text())
    spans = (child.content for token in tokens for child in token.children or ())
    return [span.replace("\n", " ") for span in spans if span.startswith("swarm-runner ")]


def command_lines(block: Block) -> Iterator[list[str]]:
    """Yield the arguments of each call of `swarm-runner` in a shell block."""
    for command in block.commands:
        for match in _COMMAND.finditer(command):
            yield shlex.split(_REDIRECTION.sub("", match["arguments"]), comments=True)


def _block(page: Path, tokens: list[Token], index: int) -> Block:
    token = tokens[index]
    before = tokens[index - 1] if index else None
    html = before.content if before and before.type == "html_block" else ""
    note = _NOTE.fullmatch(html)
    notes = {note["kind"]: " ".join(note["text"].split())} if note else {}
    text = next((other for other in reversed(tokens[:index]) if other.type == "inline"), None)
    names = _FILE_NAME.findall(text.content) if text else []
    assert token.map is not None
    return Block(
        page=page,
        line=token.map[0] + 1,
        language=SHELL if token.type == "code_block" else token.info or TEXT,
        content=token.content,
        file_name=names[-1] if names else None,
        not_tried=notes.get("not tried"),
        tried_by=notes.get("tried by"),
    )


def _join_lines(lines: list[str]) -> Iterator[str]:
    """Yield commands: a line with those that continue it, and a `<<` with its document."""
    pending = iter(lines)
    for line in pending:
        command = line
        while command.endswith("\\"):
            command += "\n" + next(pending)
        if document := re.search(r"<<'?(\w+)'?", line):
            for further in pending:
                command += "\n" + further
                if further == document[1]:
                    break
        if command.strip():
            yield command
