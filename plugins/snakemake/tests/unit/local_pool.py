"""A fake access point whose jobs run as processes of this host."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from swarm_runner import JobId, SubmitBatch, SubmitResult
from swarm_runner.testing import FakeAccessPoint

_MACRO = re.compile(r"\$\((\w+)\)")
_ARGUMENT = re.compile(r"(?:'(?:[^']|'')*'|[^\s'])+")
_QUOTED = re.compile(r"'((?:[^']|'')*)'")
_COMMANDS = ("executable", "arguments", "environment", "initialdir", "output", "error")


class LocalAccessPoint(FakeAccessPoint):
    """Starts each job at once, or none if `no_free_slots` is set.

    Runs each command `runs` times, as if all runs but the last were evicted. Records the submit
    commands of each job, and the exit codes.
    """

    no_free_slots = False
    runs = 1

    def __init__(self) -> None:
        super().__init__()
        self.exit_codes: dict[JobId, int] = {}
        self.submitted: list[dict[str, str]] = []
        self._lock = threading.RLock()

    def close(self) -> None:
        """Do nothing, in place of AccessPointProcess.close."""

    def submit(self, batch: SubmitBatch, *, spool: bool = False) -> SubmitResult:
        with self._lock:
            result = super().submit(batch, spool=spool)
        rows: list[Any] = list(batch.rows) or [{}] * batch.count
        self.submitted += [
            {name: _expand(text, row) for name, text in batch.common.items()} for row in rows
        ]
        if self.no_free_slots:
            return result
        for job_id, row in zip(result.ids, rows, strict=True):
            commands = {
                name: _expand(_expand(batch.common[name], row), {"DOLLAR": "$"})
                for name in _COMMANDS
            }
            threading.Thread(target=self._run, args=(job_id, commands), daemon=True).start()
        return result

    def _run(self, job_id: JobId, commands: dict[str, str]) -> None:
        with self._lock:
            self.start(job_id)
        directory = Path(commands["initialdir"])
        variables = dict(
            variable.split("=", 1) for variable in _split_arguments(commands["environment"])
        )
        with (
            (directory / commands["output"]).open("w") as output,
            (directory / commands["error"]).open("w") as error,
        ):
            for _ in range(self.runs):
                exit_code = subprocess.run(
                    [commands["executable"], *_split_arguments(commands["arguments"])],
                    cwd=directory,
                    env=os.environ | variables,
                    stdout=output,
                    stderr=error,
                    check=False,
                ).returncode
        with self._lock:
            self.exit_codes[job_id] = exit_code
            if job_id in self.queue:
                self.queue[job_id].pop("Out")
                self.finish(job_id, exit_code)


def _expand(text: str, macros: Mapping[str, str]) -> str:
    """Replace the macros of the submit language; leave unknown ones."""
    return _MACRO.sub(lambda macro: macros.get(macro[1], macro[0]), text)


def _split_arguments(arguments: str) -> list[str]:
    """Split arguments or environment in HTCondor's new syntax, as the starter does."""
    raw = arguments[1:-1].replace('""', '"')
    return [_QUOTED.sub(_unquote, argument[0]) for argument in _ARGUMENT.finditer(raw)]


def _unquote(quoted: re.Match[str]) -> str:
    return quoted[1].replace("''", "'")
