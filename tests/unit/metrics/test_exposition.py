"""What Prometheus reads, and what a scrape costs."""

from __future__ import annotations

import socket
import urllib.request

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from swarm_runner.errors import PreconditionError
from swarm_runner.metrics.definitions import GROUPS, MetricDefinition
from swarm_runner.metrics.exposition import MetricsServer, registry
from swarm_runner.metrics.store import MetricStore
from tests.metrics_reference import PAGE, page
from tests.unit.metrics.large_pool import LargePool, observed

MAX_SERIES = 300
HOSTILE = 'a"b\\c\n<script>\x1b[31m\u202eé'


def scrape(pool: str, store: MetricStore) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = generate_latest(registry(pool, [store])).decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_scrape_of_a_large_pool_asks_nobody_and_is_small() -> None:
    pool = LargePool(executors=10_000, jobs=100_000)
    metrics = observed(pool)
    asked = pool.calls.copy()
    with MetricsServer("galaxy", [metrics.store]) as server:
        for _ in range(3):
            with urllib.request.urlopen(f"http://{server.address}/metrics", timeout=10) as answer:
                text = answer.read().decode()

    assert asked["slots"] == 2
    assert pool.calls == asked
    series = [line for line in text.splitlines() if not line.startswith("#")]
    assert 100 < len(series) < MAX_SERIES
    assert 'swarm_runner_jobs{class="normal",pool="galaxy",state="idle"} 25000.0' in series
    assert 'swarm_runner_jobs{class="",pool="galaxy",state="held"} 17.0' in series
    assert 'swarm_runner_jobs_unmatchable{pool="galaxy"} 25000.0' in series


def test_label_values_of_unknown_origin_stay_text() -> None:
    store = MetricStore([MetricDefinition("x_total", "counter", "X.", ("reason",))])
    store.increment("x_total", HOSTILE)

    labels = frozenset({"pool": HOSTILE, "reason": HOSTILE}.items())
    assert scrape(HOSTILE, store)["swarm_runner_x_total", labels] == 1


def test_histograms_count_a_bound_as_within() -> None:
    store = MetricStore([MetricDefinition("h", "histogram", "H.", (), buckets=(1, 2.5))])
    for value in (0, 1, 1.1, 2.5, 99):
        store.observe("h", value)

    samples = scrape("p", store)
    by_bound = {
        dict(labels)["le"]: value for (name, labels), value in samples.items() if "bucket" in name
    }
    assert by_bound == {"1.0": 2, "2.5": 4, "+Inf": 5}
    assert samples["swarm_runner_h_sum", frozenset({("pool", "p")})] == pytest.approx(103.6)


def test_a_store_refuses_what_is_not_defined() -> None:
    store = MetricStore(
        [
            MetricDefinition("c_total", "counter", "C.", ("a",)),
            MetricDefinition("g", "gauge", "G."),
        ]
    )
    with pytest.raises(KeyError):
        store.set("unknown", 1)
    with pytest.raises(ValueError, match="has the labels"):
        store.increment("c_total")
    with pytest.raises(ValueError, match="cannot decrease"):
        store.increment("c_total", "x", amount=-1)
    with pytest.raises(ValueError, match="is a gauge"):
        store.increment("g")


def test_an_address_in_use_is_an_error_that_names_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PreconditionError, match=f"cannot be served at 127.0.0.1:{port}"):
            MetricsServer("galaxy", [], port=port)


def test_the_reference_lists_every_metric() -> None:
    assert PAGE.read_text() == page(), "run `make metrics-reference`"


def test_names_and_labels_follow_prometheus() -> None:
    definitions = [definition for group in GROUPS.values() for definition in group]
    assert len({definition.name for definition in definitions}) == len(definitions)
    for definition in definitions:
        assert definition.name.endswith("_total") == (definition.type == "counter")
        assert bool(definition.buckets) == (definition.type == "histogram")
        assert list(definition.buckets) == sorted(definition.buckets)
        assert definition.help.endswith(".")
        assert not {"job", "user", "image"} & set(definition.labels)
