"""Python examples in docs/ that need no pool run as documented."""

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
    names["test_a_failed_alignment_has_its_exit_code"](tmp_path)
