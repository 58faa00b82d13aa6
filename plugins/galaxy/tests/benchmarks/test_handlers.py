"""The evaluation of two handlers' results. Measuring them requires a Galaxy and a pool."""

from __future__ import annotations

import dataclasses

import pytest

from benchmarks.handlers import Run, missed, verdicts

BOOTS = [[3.3, 3.0], [3.0, 3.0], [9.0, 3.0]]


def run(runner: str, total_s: float, handler_cpu_s: float) -> Run:
    return Run(runner, 10, 10, 0, total_s, handler_cpu_s, 0.01, {"handler_1": 5, "handler_2": 5})


RUNS = [
    run("swarm", 60, 0.11),
    run("floor", 20, 0.1),
    run("condor", 100, 0.15),
    run("htcondor", 80, 0.2),
]


def test_each_figure_is_beside_the_better_peers() -> None:
    time, cpu, boot = (verdict.ratio for verdict in verdicts(RUNS, BOOTS))
    assert time == 60 / 80
    assert cpu == pytest.approx(0.01 / 0.05)
    assert boot == pytest.approx(1.1)
    assert list(missed(RUNS, BOOTS)) == []


def test_the_means_of_all_rounds_count() -> None:
    time, cpu, _ = verdicts([*RUNS, run("swarm", 40, 0.09), run("condor", 60, 0.13)], BOOTS)
    assert time.ratio == 50 / 80
    assert cpu.ratio == pytest.approx(0)


def test_what_is_missed() -> None:
    slow = [run("swarm", 90, 0.13), *RUNS[1:]]
    assert list(missed(slow, [[4, 3]])) == [
        "first request to last end: 1.12, the target is 0.8",
        "handler CPU that is not Galaxy's own: 0.60, the target is 0.3",
        "first job after a boot, of the tenth: 1.33, the target is 1.2",
    ]


def test_jobs_that_fail_or_run_twice_are_missed() -> None:
    failed = dataclasses.replace(RUNS[2], ok=9)
    twice = dataclasses.replace(RUNS[0], twice=1)
    assert list(missed([failed, twice], [])) == [
        "condor: 9 of 10 jobs succeeded, 0 ran twice",
        "swarm: 10 of 10 jobs succeeded, 1 ran twice",
    ]


def test_a_peer_without_cost_of_its_own_cannot_be_beaten() -> None:
    free = [run("swarm", 60, 0.11), run("floor", 20, 0.2), run("condor", 100, 0.15)]
    _, cpu = verdicts(free, [])
    assert cpu.ratio == float("inf")
