"""Counts monitor cycles, SQL statements and CPU time by thread, inside the measured Galaxy.

Galaxy loads the module as a job runner. The counts go to the file that SWARM_RUNNER_PROBE names.
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
# Threads that have ended stay here, so that the counters never decrease.
_cpu_ms_by_thread: dict[threading.Thread, int] = {}


def _count_statement(*_: Any) -> None:
    statements[threading.current_thread().name] += 1


def _cpu_ms_by_thread_name() -> Counter[str]:
    """Return CPU milliseconds by thread name, without the numbers at the ends of names."""
    for thread in threading.enumerate():
        if thread.ident is not None:
            clock = time.pthread_getcpuclockid(thread.ident)
            _cpu_ms_by_thread[thread] = round(1000 * time.clock_gettime(clock))
    usage: Counter[str] = Counter()
    for thread, used_ms in _cpu_ms_by_thread.items():
        usage[re.sub(r"[-_]?\d+$", "", thread.name)] += used_ms
    return usage


def _write_counts(file: Path) -> None:
    while True:
        time.sleep(INTERVAL_S)
        temporary = file.with_suffix(".new")
        temporary.write_text(
            json.dumps(
                {"statements": statements, "cycles": cycles, "used_ms": _cpu_ms_by_thread_name()}
            )
        )
        temporary.replace(file)


class ProbeRunner(BaseJobRunner):  # type: ignore[misc]
    """A runner without jobs."""

    runner_name = "ProbeRunner"

    def __init__(self, app: Any, nworkers: int, **kwargs: Any) -> None:
        super().__init__(app, nworkers, **kwargs)
        event.listen(Engine, "before_cursor_execute", _count_statement)
        check = runners.check_database_connection

        def count_cycle(session: Any) -> None:
            cycles[threading.current_thread().name] += 1
            check(session)

        runners.check_database_connection = count_cycle
        file = Path(os.environ["SWARM_RUNNER_PROBE"])
        threading.Thread(target=_write_counts, args=(file,), name="probe", daemon=True).start()
