from __future__ import annotations

import statistics
import subprocess
import sys
import time

import swarm_runner


def run(program: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True
    )
    return ended.stdout.strip()


HEAVY = "print(*sorted({'htcondor2', 'classad2', 'docker', 'rich', 'typer'} & set(sys.modules)))"


def test_importing_the_package_imports_neither_bindings_nor_docker() -> None:
    assert run(f"import sys, swarm_runner; {HEAVY}") == ""


def test_using_the_public_names_imports_neither() -> None:
    assert run(f"import sys; from swarm_runner import *; Runner, Pool(), Invocation; {HEAVY}") == ""


def test_every_public_name_is_there() -> None:
    for name in swarm_runner.__all__:
        assert getattr(swarm_runner, name) is not None
        assert name in dir(swarm_runner)
    assert sorted(swarm_runner.__all__) == swarm_runner.__all__


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(swarm_runner, "nothing")


def test_translate_is_the_function_whatever_was_imported_first() -> None:
    for first in ("swarm_runner.submit.translation", "swarm_runner", "swarm_runner.runner"):
        program = f"import {first}, swarm_runner; from swarm_runner import translate as t; "
        assert (
            run(program + "print(callable(t), callable(swarm_runner.submit.translation))")
            == "True True"
        )


def median_s(program: str) -> float:
    times = []
    for _ in range(7):
        began = time.perf_counter()
        run(program)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def test_importing_costs_at_most_twice_what_pydantic_and_pluggy_do() -> None:
    nothing = median_s("pass")
    ours = median_s("import swarm_runner") - nothing
    theirs = median_s("import pydantic, pluggy") - nothing
    assert ours <= 2 * theirs
