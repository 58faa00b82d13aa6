"""What is served is what Prometheus reads, without a remark of its linter."""

from __future__ import annotations

from prometheus_client import generate_latest

from swarm_runner.metrics.definitions import POOL_METRICS, RUNNER
from swarm_runner.metrics.exposition import registry
from swarm_runner.metrics.runner_metrics import RunnerMetrics
from swarm_runner.metrics.store import MetricStore
from tests.promtool.conftest import Promtool
from tests.unit.metrics.large_pool import LargePool, observed


def check(promtool: Promtool, store: MetricStore) -> str:
    done = promtool("check", "metrics", text=generate_latest(registry("galaxy", [store])).decode())
    return f"{done.code} {done.out}{done.err}"


def test_the_metrics_of_a_pool(promtool: Promtool) -> None:
    assert check(promtool, observed(LargePool(executors=10, jobs=400)).store) == "0 "


def test_the_metrics_of_a_runner(promtool: Promtool) -> None:
    metrics = RunnerMetrics("galaxy")
    metrics.record_submit(0.2, unresolved=True)

    assert check(promtool, metrics.store) == "0 "


def test_every_definition(promtool: Promtool) -> None:
    store = MetricStore([*POOL_METRICS, *RUNNER])
    for definition in (*POOL_METRICS, *RUNNER):
        labels = ["x"] * len(definition.labels)
        if definition.type == "histogram":
            store.observe(definition.name, 1, *labels)
        elif definition.type == "counter":
            store.increment(definition.name, *labels)
        else:
            store.set(definition.name, 1, *labels)

    assert check(promtool, store) == "0 "


def test_a_wrong_name_is_a_remark(promtool: Promtool) -> None:
    done = promtool("check", "metrics", text="# HELP a_count A.\n# TYPE a_count gauge\na_count 1\n")

    assert done.code != 0
