"""Ranks TPV's destinations by what the metrics of their pools say.

In the `rank` of a tool or of TPV's default:

    from swarm_runner_galaxy.ranking import rank_by_load
    rank_by_load(candidate_destinations, entity, {"swarm": "http://10.0.0.5:9780/metrics"})
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import requests

from swarm_runner import get_logger

__all__ = ("rank_by_load",)
log = get_logger(__name__)
# A pool's daemon polls every few seconds; many jobs of a workflow are mapped within one.
MAX_AGE_S = 10.0
TIMEOUT_S = 2.0


@dataclass(frozen=True)
class PoolLoad:
    """The idle jobs of a pool, and the CPUs of its executors."""

    waiting: float
    free_cpus: float
    cpus: float

    @property
    def order(self) -> tuple[float, float]:
        """Less is better: few waiting jobs for the pool's size, then much room."""
        return self.waiting / max(self.cpus, 1), -self.free_cpus


_UNKNOWN = (float("inf"), 0.0)


def rank_by_load(destinations: Sequence[Any], entity: Any, metrics: Mapping[str, str]) -> list[Any]:
    """Return TPV's destinations, the one whose pool starts a job soonest first.

    Pools without waiting jobs come first, the one with the most free CPUs before others; then those
    with the fewest waiting jobs for each of their CPUs. What is equal is in the order of TPV's own
    score. A destination comes last if its runner has no address, or if its metrics cannot be read.

    Args:
        destinations: TPV's `candidate_destinations`.
        entity: TPV's `entity`.
        metrics: The address of each pool's metrics (`pool up --autoscale` or `pool watch`, with
            `--metrics`), by the runner of its destinations. They are read every ten seconds.
    """
    return sorted(
        destinations,
        key=lambda each: (*_order(metrics.get(each.runner)), -each.score(entity)),
    )


def _order(url: str | None) -> tuple[float, float]:
    load = None if url is None else _source(url).load()
    return _UNKNOWN if load is None else load.order


class _Source:
    """Metrics at an address. One thread reads them at a time, and the others use what it got."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._load: PoolLoad | None = None
        self._read_at = float("-inf")

    def load(self) -> PoolLoad | None:
        """Return the pool's load, or None if it could not be read within the last ten seconds."""
        with self._lock:
            if time.monotonic() - self._read_at > MAX_AGE_S:
                self._load = self._read()
                self._read_at = time.monotonic()
            return self._load

    def _read(self) -> PoolLoad | None:
        try:
            response = requests.get(self._url, timeout=TIMEOUT_S)
            response.raise_for_status()
            return parse_load(response.text)
        except (requests.RequestException, ValueError, ImportError) as error:
            log.warning("Metrics of a pool cannot be read", url=self._url, error=error)
            return None


_source = cache(_Source)


def parse_load(text: str) -> PoolLoad:
    """Return the load from metrics in Prometheus's text format.

    Raise ValueError if the text has no metrics of a pool, for example those of a runner alone.
    """
    from prometheus_client.parser import text_string_to_metric_families

    jobs, cpus = 0.0, {"free": 0.0, "claimed": 0.0}
    names = set()
    for family in text_string_to_metric_families(text):
        names.add(family.name)
        for sample in family.samples:
            if sample.name == "swarm_runner_jobs" and sample.labels["state"] == "idle":
                jobs += sample.value
            elif sample.name == "swarm_runner_slot_cpus":
                cpus[sample.labels["state"]] += sample.value
    if not names >= {"swarm_runner_jobs", "swarm_runner_slot_cpus"}:
        raise ValueError("there are no metrics of a pool's queue and executors")
    return PoolLoad(jobs, cpus["free"], sum(cpus.values()))
