"""The Python in docs/ that needs no pool does what the page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[2] / "docs"
PYTHON = re.compile(r"```python\n(.*?)```", re.DOTALL)


def test_a_test_on_the_fakes(tmp_path: Path) -> None:
    (source,) = PYTHON.findall((DOCS / "reference" / "testing.md").read_text())
    names: dict[str, Any] = {}
    exec(source, names)  # noqa: S102  our own page
    names["test_an_alignment_that_fails_is_told"](tmp_path)
