"""The machine's own programs, run so that their complaints are heard."""

from __future__ import annotations

import subprocess


def run(*command: str, cwd: str | None = None) -> None:
    """Run a command; raises RuntimeError with what it said when it fails."""
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=cwd, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise RuntimeError(f"{' '.join(command)}: {said or f'ended with {done.returncode}'}")


def succeeds(*command: str) -> bool:
    """Whether a command that only asks says yes."""
    done = subprocess.run(
        command, capture_output=True, check=False, stdin=subprocess.DEVNULL, timeout=60
    )
    return done.returncode == 0
