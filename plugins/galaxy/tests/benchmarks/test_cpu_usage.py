"""CPU time by role, the subtraction of idle CPU time, and the schedd's times."""

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


def test_the_cpu_time_of_an_idle_server_is_subtracted() -> None:
    metrics = Metrics("htcondor", 0, jobs=10)
    idle, run = (
        snapshot(20, main_process=900, web=100),
        snapshot(100, main_process=8000, web=1000, helper=3000),
    )
    record_cpu(metrics, idle, run)
    assert metrics.idle_cpu_per_s == pytest.approx(0.04)
    assert metrics.gross_cpu_s == pytest.approx(1.0)
    assert metrics.handler_cpu_s == pytest.approx(0.6)
    assert metrics.monitor_thread_cpu_s == pytest.approx(0.05)
    assert metrics.runner_threads_cpu_s == pytest.approx(0.03)
    assert metrics.other_threads_cpu_s == pytest.approx(0.01)
    assert metrics.children_cpu_s == {"helper": 0.3}


def test_snapshots_are_subtracted_by_counter() -> None:
    difference = snapshot(30, main_process=900, web=100) - snapshot(10, main_process=200, web=40)
    assert (
        difference.timestamp_s,
        difference.processes[MAIN_PROCESS],
        difference.threads["WSGI"],
    ) == (
        20,
        700,
        60,
    )


def test_statements_are_those_of_the_runners_monitor() -> None:
    metrics = Metrics("htcondor", 0, jobs=10)
    record_sql(metrics, snapshot(100, main_process=1, web=0))
    assert metrics.sql_per_cycle == 2


def test_the_schedds_times_give_the_rate_and_the_lifetime() -> None:
    metrics = Metrics("condor", 0, jobs=4)
    ads = [
        {"QDate": 90, "CompletionDate": 95},  # of the previous run
        {"QDate": 100, "CompletionDate": 110},
        {"QDate": 100, "CompletionDate": 120},
        {"QDate": 101, "CompletionDate": 116},
        {"QDate": 103, "CompletionDate": 0},  # it is still running
    ]
    record_times_from_ads(metrics, ads, since_s=99.7)
    assert metrics.submitted_per_s == 1
    assert metrics.life_s == 15


def test_no_runner_is_always_first_and_the_floor_is_measured_once_in_a_round() -> None:
    plan = list(plan_measurements(["swarm", "floor", "condor"], [0, 120], 2))
    assert plan == [
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
