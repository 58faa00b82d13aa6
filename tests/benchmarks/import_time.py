"""(v) The time of `import swarm_runner` and of short commands, compared with what they need."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from tests.benchmarks.measurement import Measurement, best_times

ROUNDS = 9
MAX_HELP_RATIO, MAX_TRANSLATE_RATIO = 6, 12
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


def _time_process(environment: dict[str, str], *arguments: str) -> float:
    """Return the CPU time of a Python process, with the interpreter's own start."""
    command = [sys.executable, *arguments]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def command_measurements() -> list[Measurement]:
    """Measure `swarm-runner --help` and `translate` as whole processes.

    Bytecode is cached, as pip's installation caches it.
    """
    with tempfile.TemporaryDirectory() as directory:
        invocation = Path(directory) / "invocation.json"
        invocation.write_text('{"image": "debian:trixie", "command": ["echo", "hello"]}')
        environment = os.environ | {"PYTHONPYCACHEPREFIX": directory, "XDG_CONFIG_HOME": directory}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        run = "from swarm_runner.cli import main; main({!r})"
        programs = {
            "pass": "pass",
            "dependencies": "import typer, yaml, pluggy; from pydantic import BaseModel",
            "--help": run.format(["--help"]),
            "translate": run.format(["translate", str(invocation)]),
        }
        times = best_times(
            ROUNDS,
            [partial(_time_process, environment, "-c", program) for program in programs.values()],
        )
    nothing, dependencies, help_s, translate_s = times
    return [
        Measurement(
            number="v",
            what=f"swarm-runner {name}, as a process",
            measured=f"{time_s * 1000:.0f} ms",
            reference=f"python -c pass: {nothing * 1000:.0f} ms; "
            f"import typer, yaml, pluggy, pydantic: {dependencies * 1000:.0f} ms",
            value=time_s / nothing,
            unit="x",
            rule="at most",
            target=target,
        )
        for name, time_s, target in (
            ("--help", help_s, MAX_HELP_RATIO),
            ("translate", translate_s, MAX_TRANSLATE_RATIO),
        )
    ]


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
        *command_measurements(),
    ]
