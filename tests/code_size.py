"""`python -m tests.code_size --max N PATH...`: count lines of code; exit code 1 above the maximum.

Counts what pygount calls code: no blank lines, comments, docstrings, or lines that consist of
text or brackets only.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pygount import SourceAnalysis


def count_lines(path: Path) -> int:
    """Return the lines of code in a Python file, or in all below a directory."""
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return sum(SourceAnalysis.from_file(str(file), "").code_count for file in files)


def main() -> int:
    """Print the lines of each path and the total. Return 1 if the total exceeds the maximum."""
    parser = argparse.ArgumentParser(prog="python -m tests.code_size", description=__doc__)
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH")
    parser.add_argument("--max", type=int, required=True, metavar="N")
    options = parser.parse_args()
    counts = {path: count_lines(path) for path in options.paths}
    for path, count in counts.items():
        sys.stdout.write(f"{count:6,}  {path}\n")
    total = sum(counts.values())
    sys.stdout.write(f"{total:6,}  total (maximum {options.max:,})\n")
    return 1 if total > options.max else 0


if __name__ == "__main__":
    sys.exit(main())
