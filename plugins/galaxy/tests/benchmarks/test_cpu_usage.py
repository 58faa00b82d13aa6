"""Which processor time is a runner's, what is taken off, and what the schedd says."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.__main__ import plan_measurements
from benchmarks.cpu_usage import Snapshot, record_cpu, record_sql
from benchmarks.metrics import Metrics
from benchmarks.process_stats import MAIN_PROCESS
from benchmarks.schedd import record_times_from_ads

MONITOR = "HTCondorRunner.monitor_thread"


def snapshot(timestamp_s: float, main_process: int, web: int, **kwargs: int) -> Snapshot:
    return Snapshot(
        timestamp_s,
        Counter({MAIN_PROCESS: main_process} | kwargs),
        Counter({"WSGI": web, MONITOR: 500, "HTCondorRunner.work_thread": 300, "Thread": 100}),
        Counter({MONITOR: 60, "Thread": 99}),
        Counter({MONITOR: 30}),
    )


def test_what_an_idle_server_spends_is_taken_off() -> None:
    figures = Metrics("htcondor", 0, jobs=10)
    idle, run = (
        snapshot(20, main_process=900, web=100),
        snapshot(100, main_process=8000, web=1000, helper=3000),
    )
    record_cpu(figures, idle, run)
    assert figures.idle_cpu_per_s == pytest.approx(0.04)
    assert figures.gross_cpu_s == pytest.approx(1.0)
    assert figures.handler_cpu_s == pytest.approx(0.6)
    assert figures.monitor_thread_cpu_s == pytest.approx(0.05)
    assert figures.runner_threads_cpu_s == pytest.approx(0.03)
    assert figures.other_threads_cpu_s == pytest.approx(0.01)
    assert figures.children_cpu_s == {"helper": 0.3}


def test_looks_are_subtracted_count_by_count() -> None:
    between = snapshot(30, main_process=900, web=100) - snapshot(10, main_process=200, web=40)
    assert (between.timestamp_s, between.processes[MAIN_PROCESS], between.threads["WSGI"]) == (
        20,
        700,
        60,
    )


def test_statements_are_those_of_the_runners_monitor() -> None:
    figures = Metrics("htcondor", 0, jobs=10)
    record_sql(figures, snapshot(100, main_process=1, web=0))
    assert figures.sql_per_cycle == 2


def test_the_schedds_own_times_give_the_rate_and_the_life() -> None:
    figures = Metrics("condor", 0, jobs=4)
    ads = [
        {"QDate": 90, "CompletionDate": 95},  # of the run before
        {"QDate": 100, "CompletionDate": 110},
        {"QDate": 100, "CompletionDate": 120},
        {"QDate": 101, "CompletionDate": 116},
        {"QDate": 103, "CompletionDate": 0},  # it has not ended
    ]
    record_times_from_ads(figures, ads, since_s=99.7)
    assert figures.submitted_per_s == 1
    assert figures.life_s == 15


def test_no_runner_is_always_first_and_the_floor_is_measured_once_in_a_round() -> None:
    found = list(plan_measurements(["swarm", "floor", "condor"], [0, 120], 2))
    assert found == [
        ("swarm", 0),
        ("floor", 0),
        ("condor", 0),
        ("swarm", 120),
        ("condor", 120),
        ("floor", 0),
        ("condor", 0),
        ("swarm", 0),
        ("condor", 120),
        ("swarm", 120),
    ]
