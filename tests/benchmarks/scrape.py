"""(vi) A scrape of a pool with 10,000 executors and 100,000 jobs."""

from __future__ import annotations

import time
import urllib.request
from collections import deque
from typing import Any, cast

from swarm_runner.cli.autoscale import POLL_INTERVAL_S
from swarm_runner.hooks.manager import Hooks
from swarm_runner.metrics.exposition import MetricsServer
from swarm_runner.metrics.pool_metrics import PoolMetrics
from swarm_runner.provisioner import Autoscaler
from swarm_runner.provisioner.autoscaler import AutoscalerRound
from tests.benchmarks.measurement import Measurement, best_times, cpu_time_s
from tests.unit.metrics.large_pool import NOW_S, POOL, LargePool, observed

EXECUTORS, JOBS, ROUNDS = 10_000, 100_000, 20
SCRAPE_INTERVAL_S = 15.0


def _scrape(address: str) -> tuple[float, str]:
    started_at = time.perf_counter()
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return time.perf_counter() - started_at, text


def daemon() -> Measurement:
    """Measure what metrics, and a scrape every 15 s, add to the CPU time of the daemon's round."""
    pool = LargePool(EXECUTORS, JOBS)
    port = cast(Any, pool)
    metrics = PoolMetrics(POOL, pool.schedd_statistics, clock=lambda: NOW_S)
    rounds: deque[AutoscalerRound] = deque(maxlen=1)
    autoscaler = Autoscaler(
        POOL,
        port,
        port,
        Hooks(installed=False),
        dry_run=True,
        clock=lambda: NOW_S,
        on_round=rounds.append,
    )
    with MetricsServer("galaxy", [metrics.store]) as server:
        # The same round is recorded that was measured: two rounds differ by more than this costs.
        round_s, record_s, scrape_s = best_times(
            ROUNDS,
            [
                lambda: cpu_time_s(autoscaler.run_once),
                lambda: cpu_time_s(lambda: metrics.record_round(rounds[0])),
                lambda: cpu_time_s(lambda: _scrape(server.address)),
            ],
        )
    # A round takes at least POLL_INTERVAL_S.
    added_s = record_s + scrape_s * POLL_INTERVAL_S / SCRAPE_INTERVAL_S
    return Measurement(
        "vi",
        f"CPU of the daemon's round with metrics and scrapes: {EXECUTORS:,} executors",
        f"metrics {record_s * 1000:.1f} ms, a scrape {scrape_s * 1000:.1f} ms",
        f"the round: {round_s * 1000:.0f} ms",
        (round_s + added_s) / round_s,
        "x",
        "at most",
        1.2,
    )


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
        daemon(),
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
