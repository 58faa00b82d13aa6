"""The version of this project before the present one, installed in an environment of its own.

It is the newest tag `vX.Y.Z` in the history. Before the first tag it is FIRST, a commit whose pools
had no gateway on their executors and no identities.
"""

from __future__ import annotations

import subprocess
import tarfile
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]
FIRST = "db598fcf7287dff7c88be759210f57bee10467ac"


def previous_commit() -> str:
    """Return the newest tag before HEAD, or FIRST if there is none."""
    found = _git("tag", "--list", "v*", "--no-contains", "HEAD", "--sort=-version:refname")
    return (found.split() or [FIRST])[0]


def install(commit: str, directory: Path) -> Path:
    """Build the core's wheel as it was in a commit and install it; return its command."""
    with tempfile.TemporaryDirectory() as temporary:
        archive, source = Path(temporary, "source.tar"), Path(temporary, "source")
        _git("archive", f"--output={archive}", commit)
        with tarfile.open(archive) as files:
            files.extractall(source, filter="data")
        venv.create(directory, with_pip=True)
        python = directory / "bin" / "python"
        wheels = Path(temporary, "wheels")
        pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
        build = ["wheel", "--no-deps", "--wheel-dir", str(wheels), str(source)]
        subprocess.run([*pip, *build], check=True)
        subprocess.run([*pip, "install", *map(str, wheels.glob("*.whl"))], check=True)
    return directory / "bin" / "swarm-runner"


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{done.stderr.strip()}; a shallow clone needs `git fetch --unshallow`")
    return done.stdout
