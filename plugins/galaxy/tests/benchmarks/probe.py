"""Loaded by the measured Galaxy as one more runner: monitor cycles, SQL and CPU by thread.

The counts go to the file that SWARM_RUNNER_PROBE names.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from galaxy.jobs import runners
from galaxy.jobs.runners import BaseJobRunner
from sqlalchemy import event
from sqlalchemy.engine import Engine

__all__ = ("ProbeRunner",)
INTERVAL_S = 1.0
statements: Counter[str] = Counter()
cycles: Counter[str] = Counter()
# A thread that has ended has used what it used: what is counted never grows less.
_cpu_ms_by_thread: dict[threading.Thread, int] = {}


def _count_statement(*_: Any) -> None:
    statements[threading.current_thread().name] += 1


def _cpu_ms_by_thread_name() -> Counter[str]:
    """Processor milliseconds by thread, those of one name and another number together."""
    for thread in threading.enumerate():
        if thread.ident is not None:
            clock = time.pthread_getcpuclockid(thread.ident)
            _cpu_ms_by_thread[thread] = round(1000 * time.clock_gettime(clock))
    found: Counter[str] = Counter()
    for thread, spent in _cpu_ms_by_thread.items():
        found[re.sub(r"[-_]?\d+$", "", thread.name)] += spent
    return found


def _write_counts(file: Path) -> None:
    while True:
        time.sleep(INTERVAL_S)
        draft = file.with_suffix(".new")
        draft.write_text(
            json.dumps(
                {"statements": statements, "cycles": cycles, "used_ms": _cpu_ms_by_thread_name()}
            )
        )
        draft.replace(file)


class ProbeRunner(BaseJobRunner):  # type: ignore[misc]
    """Runs nothing."""

    runner_name = "ProbeRunner"

    def __init__(self, app: Any, nworkers: int, **kwargs: Any) -> None:
        super().__init__(app, nworkers, **kwargs)
        event.listen(Engine, "before_cursor_execute", _count_statement)
        check = runners.check_database_connection

        def counted(session: Any) -> None:
            cycles[threading.current_thread().name] += 1
            check(session)

        runners.check_database_connection = counted
        file = Path(os.environ["SWARM_RUNNER_PROBE"])
        threading.Thread(target=_write_counts, args=(file,), name="probe", daemon=True).start()
