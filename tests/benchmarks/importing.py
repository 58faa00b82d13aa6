"""(v) What `import swarm_runner` costs, beside what it is built on."""

from __future__ import annotations

import subprocess
import sys

from tests.benchmarks.figure import Measurement, best_times

ROUNDS = 9
_TIMING_SCRIPT = """
import sys, time
began = time.process_time()
{statement}
print(time.process_time() - began)
for name in ("htcondor2", "htcondor", "classad2", "docker"):
    assert name not in sys.modules, name
"""


def _time_import(statement: str) -> float:
    command = [sys.executable, "-c", _TIMING_SCRIPT.format(statement=statement)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


def measurements() -> list[Measurement]:
    """The package alone, and with the names that every program uses."""
    package, names, base = best_times(
        ROUNDS,
        [
            lambda: _time_import("import swarm_runner"),
            lambda: _time_import("from swarm_runner import Invocation, Runner, parse_job_conf"),
            lambda: _time_import("import pydantic, pluggy; from pydantic import BaseModel"),
        ],
    )
    beside = f"import pydantic, pluggy: {base * 1000:.0f} ms"
    return [
        Measurement(
            number="v",
            what="import swarm_runner; neither htcondor2 nor docker is imported",
            measured=f"{package * 1000:.0f} ms",
            beside=beside,
            value=package / base,
            unit="x",
            rule="at most",
            target=2,
        ),
        Measurement(
            number="v",
            what="from swarm_runner import Invocation, Runner, parse_job_conf; likewise",
            measured=f"{names * 1000:.0f} ms",
            beside=beside,
            value=names / base,
            unit="x",
            rule="is",
        ),
    ]
