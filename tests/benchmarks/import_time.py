"""(v) The time of `import swarm_runner`, compared with its dependencies."""

from __future__ import annotations

import subprocess
import sys

from tests.benchmarks.measurement import Measurement, best_times

ROUNDS = 9
_TIMING_SCRIPT = """
import sys, time
started_at = time.process_time()
{statement}
print(time.process_time() - started_at)
for name in ("htcondor2", "htcondor", "classad2", "docker"):
    assert name not in sys.modules, name
"""


def _time_import(statement: str) -> float:
    command = [sys.executable, "-c", _TIMING_SCRIPT.format(statement=statement)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


def measurements() -> list[Measurement]:
    """Measure the package alone, and with the names that most programs import."""
    package, names, base = best_times(
        ROUNDS,
        [
            lambda: _time_import("import swarm_runner"),
            lambda: _time_import("from swarm_runner import Invocation, Runner, parse_job_conf"),
            lambda: _time_import("import pydantic, pluggy; from pydantic import BaseModel"),
        ],
    )
    reference = f"import pydantic, pluggy: {base * 1000:.0f} ms"
    return [
        Measurement(
            number="v",
            what="import swarm_runner; neither htcondor2 nor docker is imported",
            measured=f"{package * 1000:.0f} ms",
            reference=reference,
            value=package / base,
            unit="x",
            rule="at most",
            target=2,
        ),
        Measurement(
            number="v",
            what="from swarm_runner import Invocation, Runner, parse_job_conf; likewise",
            measured=f"{names * 1000:.0f} ms",
            reference=reference,
            value=names / base,
            unit="x",
            rule="is",
        ),
    ]
