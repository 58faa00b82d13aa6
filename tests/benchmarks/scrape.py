"""(vi) A scrape of a pool with 10,000 executors and 100,000 jobs."""

from __future__ import annotations

import time
import urllib.request

from swarm_runner.metrics.exposition import MetricsServer
from tests.benchmarks.measurement import Measurement, best_times
from tests.unit.metrics.large_pool import LargePool, observed

EXECUTORS, JOBS, ROUNDS = 10_000, 100_000, 20


def _scrape(address: str) -> tuple[float, str]:
    started_at = time.perf_counter()
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return time.perf_counter() - started_at, text


def measurements() -> list[Measurement]:
    """Measure the time and the size of a scrape over HTTP, and the calls that it makes."""
    pool = LargePool(EXECUTORS, JOBS)
    metrics = observed(pool)
    calls = pool.calls.total()
    with MetricsServer("galaxy", [metrics.store]) as server:
        text = _scrape(server.address)[1]
        (duration_s,) = best_times(ROUNDS, [lambda: _scrape(server.address)[0]])
    series = sum(not line.startswith("#") for line in text.splitlines())
    what = f"a scrape: {EXECUTORS:,} executors, {JOBS:,} jobs"
    return [
        Measurement(
            "vi", what, f"{duration_s * 1000:.1f} ms", "", duration_s * 1000, "ms", "at most", 100
        ),
        Measurement("vi", "its series", str(series), "", series, "", "at most", 300),
        Measurement(
            "vi",
            "its calls to schedd, collector and Swarm",
            str(pool.calls.total() - calls),
            "",
            pool.calls.total() - calls,
            "",
            "at most",
            0,
        ),
    ]
