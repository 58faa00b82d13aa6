"""`python -m tests.metrics_reference`: write the tables of docs/reference/metrics.md anew."""

from __future__ import annotations

from pathlib import Path

from swarm_runner.metrics.definitions import GROUPS, reference

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "metrics.md"


def page() -> str:
    """Return the page with the tables of the definitions."""
    introduction = PAGE.read_text().partition(f"## {next(iter(GROUPS))}\n")[0]
    return f"{introduction}{reference()}"


if __name__ == "__main__":
    PAGE.write_text(page())
