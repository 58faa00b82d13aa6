"""A user's shell, for tests of the installed command."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.polling import TIMEOUT_S
from tests.result import Result

PROGRAM = Path(sys.executable).with_name("swarm-runner")


@dataclass(frozen=True)
class CommandShell:
    """A shell in its own directory. `runner` is the name of the runner for its jobs."""

    directory: Path
    job_conf: Path
    runner: str

    def run(self, *arguments: str, **environment: str) -> Result:
        """Run a command and wait for it."""
        completed = subprocess.run(
            [PROGRAM, *arguments],
            cwd=self.directory,
            env=self._environment(environment),
            capture_output=True,
            text=True,
            timeout=2 * TIMEOUT_S,
            check=False,
        )
        assert "Traceback" not in completed.stderr
        return Result(completed.returncode, completed.stdout, completed.stderr)

    def run_for_runner(self, command: str, *arguments: str) -> Result:
        """Run a command about jobs, for this shell's runner."""
        return self.run(command, *arguments, "--runner", self.runner)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command and return at once."""
        return subprocess.Popen(
            [PROGRAM, *arguments],
            cwd=self.directory,
            env=self._environment({}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def write(self, name: str, content: object) -> str:
        """Write a YAML file and return its name."""
        (self.directory / name).write_text(yaml.safe_dump(content, sort_keys=False))
        return name

    def _environment(self, variables: dict[str, str]) -> dict[str, str]:
        return os.environ | {"SWARM_RUNNER_JOB_CONF": str(self.job_conf)} | variables


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """Return the process's standard error up to and including the first line that has `text`.

    Kills a process that does not write it within TIMEOUT_S. Raises AssertionError.
    """
    assert process.stderr is not None
    watchdog = threading.Timer(TIMEOUT_S, process.kill)
    watchdog.start()
    try:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if text in line:
                return "".join(lines)
    finally:
        watchdog.cancel()
    raise AssertionError(f"{text!r} is not in {''.join(lines)!r}")
