"""The current values of metrics. Writers and scrapes may be in different threads."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from swarm_runner.metrics.definitions import MetricDefinition

Labels = tuple[str, ...]


@dataclass(slots=True)
class Histogram:
    """The observations of one series: a number for each bucket, the last without a bound."""

    counts: list[int]
    total: float = 0.0

    def copy(self) -> Histogram:
        """Return an independent copy."""
        return Histogram(list(self.counts), self.total)


@dataclass(frozen=True, slots=True)
class Family:
    """One metric and its series at one time, by the values of its labels beside `pool`."""

    definition: MetricDefinition
    values: Mapping[Labels, float] = field(default_factory=dict)
    histograms: Mapping[Labels, Histogram] = field(default_factory=dict)


class MetricStore:
    """Holds the values of the given metrics.

    Label values are given in the order of the definition. Raises KeyError for a metric that is
    not defined, and ValueError for a wrong number of labels or a counter that would decrease.
    """

    def __init__(self, definitions: Iterable[MetricDefinition]) -> None:
        self._definitions = {definition.name: definition for definition in definitions}
        self._values: dict[str, dict[Labels, float]] = {name: {} for name in self._definitions}
        self._histograms: dict[str, dict[Labels, Histogram]] = {
            name: {} for name in self._definitions
        }
        self._lock = threading.Lock()

    def set_all(self, name: str, values: Mapping[Labels, float]) -> None:
        """Replace every series of a gauge: one that is missing has gone."""
        self._check(name, "gauge", values)
        with self._lock:
            self._values[name] = dict(values)

    def set(self, name: str, value: float, *labels: str) -> None:
        """Set one series of a gauge."""
        self._check(name, "gauge", [labels])
        with self._lock:
            self._values[name][labels] = value

    def increment(self, name: str, *labels: str, amount: float = 1) -> None:
        """Increase a counter. An amount of 0 makes its series appear."""
        self._check(name, "counter", [labels])
        if amount < 0:
            raise ValueError(f"the counter {name} cannot decrease by {-amount}")
        with self._lock:
            self._values[name][labels] = self._values[name].get(labels, 0.0) + amount

    def observe(self, name: str, value: float, *labels: str) -> None:
        """Add an observation to a histogram."""
        self.create_histogram(name, *labels)
        buckets = self._definitions[name].buckets
        with self._lock:
            histogram = self._histograms[name][labels]
            histogram.counts[bisect_left(buckets, value)] += 1
            histogram.total += value

    def create_histogram(self, name: str, *labels: str) -> None:
        """Make a histogram's series appear, if it does not exist yet; it has no observation."""
        self._check(name, "histogram", [labels])
        empty = Histogram([0] * (len(self._definitions[name].buckets) + 1))
        with self._lock:
            self._histograms[name].setdefault(labels, empty)

    def families(self) -> list[Family]:
        """Return all metrics with their values at this moment."""
        with self._lock:
            return [
                Family(
                    definition,
                    dict(self._values[name]),
                    {labels: h.copy() for labels, h in self._histograms[name].items()},
                )
                for name, definition in self._definitions.items()
            ]

    def _check(self, name: str, kind: str, labels: Iterable[Labels]) -> None:
        definition = self._definitions[name]
        if definition.type != kind:
            raise ValueError(f"{name} is a {definition.type}, not a {kind}")
        for values in labels:
            if len(values) != len(definition.labels):
                raise ValueError(f"{name} has the labels {definition.labels}, not {values}")
