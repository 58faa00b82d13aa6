"""A user's shell, for tests of the installed command."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.result import Result

PROGRAM = Path(sys.executable).with_name("swarm-runner")
TIMEOUT_S = 300


@dataclass(frozen=True)
class CommandShell:
    """A user's shell in a directory of his own; his runner's name is his alone too."""

    directory: Path
    job_conf: Path
    runner: str

    def run(self, *arguments: str, **environment: str) -> Result:
        """Run a command to its end."""
        done = subprocess.run(
            [PROGRAM, *arguments],
            cwd=self.directory,
            env=self._environment(environment),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert "Traceback" not in done.stderr
        return Result(done.returncode, done.stdout, done.stderr)

    def run_for_runner(self, command: str, *arguments: str) -> Result:
        """Run a command about jobs, for this shell's runner."""
        return self.run(command, *arguments, "--runner", self.runner)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command and let it run."""
        return subprocess.Popen(
            [PROGRAM, *arguments],
            cwd=self.directory,
            env=self._environment({}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def write(self, name: str, content: object) -> str:
        """A YAML file."""
        (self.directory / name).write_text(yaml.safe_dump(content, sort_keys=False))
        return name

    def _environment(self, variables: dict[str, str]) -> dict[str, str]:
        return os.environ | {"SWARM_RUNNER_JOB_CONF": str(self.job_conf)} | variables
