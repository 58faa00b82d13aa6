"""Running this machine's programs, with their errors as exceptions."""

from __future__ import annotations

import subprocess


def run(*command: str, cwd: str | None = None) -> None:
    """Run a command. Raises RuntimeError with its error output if it fails."""
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=cwd, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        message = (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
        raise RuntimeError(f"{' '.join(command)}: {message}")


def succeeds(*command: str) -> bool:
    """Return whether a command that only checks something succeeds."""
    done = subprocess.run(
        command, capture_output=True, check=False, stdin=subprocess.DEVNULL, timeout=60
    )
    return done.returncode == 0
