"""Serves metrics to Prometheus. The only importer of prometheus_client, an extra: `metrics`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from swarm_runner.errors import PreconditionError
from swarm_runner.metrics.store import Family, MetricStore
from swarm_runner.model.listen_address import parse_listen_address

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric
    from prometheus_client.registry import CollectorRegistry

LOOPBACK = "127.0.0.1"
DEFAULT_ADDRESS = "127.0.0.1:9780"


class StoreCollector:
    """A collector of prometheus_client: reads stores, and nothing else.

    Register it in the registry of your program:
    `prometheus_client.REGISTRY.register(StoreCollector("galaxy", [metrics.store]))`.
    """

    def __init__(self, pool: str, stores: Iterable[MetricStore]) -> None:
        self._pool = pool
        self._stores = list(stores)

    def describe(self) -> list[Metric]:
        """Return nothing: registering collects nothing."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield every metric that has a series."""
        for store in self._stores:
            for family in store.families():
                if family.values or family.histograms:
                    yield self._metric(family)

    def _metric(self, family: Family) -> Metric:
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )
        from prometheus_client.utils import floatToGoString

        definition = family.definition
        arguments = definition.full_name, definition.help
        if definition.type == "histogram":
            histogram_family = HistogramMetricFamily(*arguments, labels=definition.label_names)
            bounds = [*map(floatToGoString, definition.buckets), "+Inf"]
            for labels, histogram in sorted(family.histograms.items()):
                cumulative, buckets = 0, []
                for bound, count in zip(bounds, histogram.counts, strict=True):
                    cumulative += count
                    buckets.append((bound, cumulative))
                histogram_family.add_metric(self._labels(labels), buckets, histogram.total)
            return histogram_family
        kind = CounterMetricFamily if definition.type == "counter" else GaugeMetricFamily
        metric: Any = kind(*arguments, labels=definition.label_names)
        for labels, value in sorted(family.values.items()):
            metric.add_metric(self._labels(labels), value)
        return metric  # type: ignore[no-any-return]

    def _labels(self, labels: tuple[str, ...]) -> tuple[str, ...]:
        return (self._pool, *labels)


def registry(pool: str, stores: Iterable[MetricStore]) -> CollectorRegistry:
    """Return a registry with these stores alone.

    Raises PreconditionError when prometheus_client is not installed.
    """
    try:
        from prometheus_client import CollectorRegistry
    except ImportError as error:
        raise PreconditionError(
            "metrics need prometheus_client; run `pip install 'swarm-runner[metrics]'`"
        ) from error
    result = CollectorRegistry(auto_describe=False)
    result.register(StoreCollector(pool, stores))
    return result


class MetricsServer:
    """Serves stores at `http://ADDRESS:PORT/metrics` until its context ends.

    Port 0 is a free port. Raises PreconditionError when the address cannot be used.
    """

    def __init__(
        self, pool: str, stores: Iterable[MetricStore], address: str = LOOPBACK, port: int = 0
    ) -> None:
        registered = registry(pool, stores)
        from prometheus_client import start_http_server

        try:
            self._server, self._thread = start_http_server(port, address, registered)
        except (OSError, OverflowError) as error:
            raise PreconditionError(
                f"metrics cannot be served at {address}:{port}: {error}; choose another address"
            ) from error
        self.address = f"{address}:{self._server.server_port}"

    @classmethod
    def listen(cls, pool: str, stores: Iterable[MetricStore], address: str, source: str) -> Self:
        """Serve at HOST:PORT. `source` is where the address was configured.

        Raises InvalidInputError when it is not an address, and PreconditionError when it cannot be
        used.
        """
        return cls(pool, stores, *parse_listen_address(address, DEFAULT_ADDRESS, source))

    def close(self) -> None:
        """Stop serving."""
        self.__exit__(None, None, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
