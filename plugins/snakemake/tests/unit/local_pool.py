"""A pool in this process: the fake access point, whose jobs run as processes of this machine."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from pathlib import Path
from typing import Any

from swarm_runner import JobId
from swarm_runner.condor.ports import SubmitResult
from swarm_runner.submit.description import SubmitBatch
from swarm_runner.testing import FakeAccessPoint
from swarm_runner.testing.submit_language import _expand_macros  # what it leaves out, we read

_ARGUMENT = re.compile(r"(?:'(?:[^']|'')*'|[^\s'])+")
_USED_COMMANDS = ("executable", "arguments", "environment", "initialdir", "output", "error")
_QUOTED = re.compile(r"'((?:[^']|'')*)'")


class LocalAccessPoint(FakeAccessPoint):
    """Its jobs begin at once, or never if `full`. `codes` are exit codes that came, by job."""

    no_free_slots = False

    def __init__(self) -> None:
        super().__init__()
        self.exit_codes: dict[JobId, int] = {}
        self._lock = threading.RLock()

    def close(self) -> None:
        """As one apart has it."""

    def submit(self, batch: SubmitBatch, *, spool: bool = False) -> SubmitResult:
        with self._lock:
            receipt = super().submit(batch, spool=spool)
        if self.no_free_slots:
            return receipt
        rows: list[Any] = list(batch.rows) or [{}] * batch.count
        for job, row in zip(receipt.ids, rows, strict=True):
            values = {
                name: _expand_macros(_expand_macros(batch.common[name], row), {"DOLLAR": "$"})
                for name in _USED_COMMANDS
            }
            threading.Thread(target=self._run, args=(job, values), daemon=True).start()
        return receipt

    def _run(self, job: JobId, values: dict[str, str]) -> None:
        with self._lock:
            self.start(job)
        place = Path(values["initialdir"])
        with (
            (place / values["output"]).open("w") as output,
            (place / values["error"]).open("w") as error,
        ):
            code = subprocess.run(
                [values["executable"], *_split_arguments(values["arguments"])],
                cwd=place,
                env=os.environ
                | dict(word.split("=", 1) for word in _split_arguments(values["environment"])),
                stdout=output,
                stderr=error,
                check=False,
            ).returncode
        with self._lock:
            self.exit_codes[job] = code
            if job in self.queue:
                self.queue[job].pop("Out")
                self.finish(job, code)


def _split_arguments(arguments: str) -> list[str]:
    """Arguments in HTCondor's new syntax, as a process receives them."""
    raw = arguments[1:-1].replace('""', '"')
    return [_QUOTED.sub(_unquote, word[0]) for word in _ARGUMENT.finditer(raw)]


def _unquote(quoted: re.Match[str]) -> str:
    return quoted[1].replace("''", "'")
