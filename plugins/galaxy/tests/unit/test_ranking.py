"""TPV chooses among pools by their metrics, with the files of galaxy-in-production.md."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from swarm_runner_galaxy import ranking
from swarm_runner_galaxy.config import RUNNER_PARAM_SPECS
from swarm_runner_galaxy.ranking import parse_load
from tpv.commands.test import mock_galaxy
from tpv.core.loader import TPVConfigLoader
from tpv.core.mapper import EntityToDestinationMapper

from swarm_runner import MetricsServer, parse_job_conf
from swarm_runner.metrics.definitions import POOL_METRICS
from swarm_runner.metrics.store import MetricStore

DOCUMENT = Path(__file__).parents[4] / "docs/how-to/galaxy-in-production.md"
_SECTION = re.search(r"^## Several pools\n(.*?)^## ", DOCUMENT.read_text(), re.M | re.DOTALL)
assert _SECTION is not None
JOB_CONF, TPV = re.findall(r"^```yaml\n(.*?)^```$", _SECTION[1], re.M | re.DOTALL)
POOLS = ("here", "there")
_ADDRESS = re.compile(r"http://[0-9.]+:9780/metrics")


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """Read all metrics again; TPV writes kilobytes of debug messages for each job."""
    ranking._source.cache_clear()
    logging.disable(logging.INFO)
    yield
    logging.disable(logging.NOTSET)


class Pools:
    """The metrics of two pools, as their daemons serve them."""

    def __init__(self, stack: ExitStack) -> None:
        self.stores = {name: MetricStore(POOL_METRICS) for name in POOLS}
        self.servers: dict[str, MetricsServer] = {}
        self.urls: dict[str, str] = {}
        for name, store in self.stores.items():
            self.servers[name] = stack.enter_context(MetricsServer(name, [store]))
            self.urls[name] = f"http://{self.servers[name].address}/metrics"
        self.mapper = EntityToDestinationMapper(TPVConfigLoader(self._tpv()))

    def _tpv(self) -> dict[str, Any]:
        urls = iter(self.urls.values())
        settings: dict[str, Any] = yaml.safe_load(_ADDRESS.sub(lambda _: next(urls), TPV))
        return settings

    def set(self, name: str, *, waiting: int, free: int, claimed: int) -> None:
        store = self.stores[name]
        store.set_all("jobs", {("normal", "idle"): waiting, ("normal", "running"): claimed})
        store.set_all("slot_cpus", {("normal", "free"): free, ("normal", "claimed"): claimed})

    def chosen(self) -> str:
        """Return the runner that a job gets."""
        job = mock_galaxy.Job()
        destination = self.mapper.map_to_destination(
            SimpleNamespace(), mock_galaxy.Tool("cat1"), None, job, None, {}, None
        )
        assert destination.params["request_memory"] == "2048"
        return str(destination.runner)


@pytest.fixture
def pools() -> Iterator[Pools]:
    with ExitStack() as stack:
        yield Pools(stack)


IDLE = {"waiting": 0, "free": 4, "claimed": 0}
BUSY = {"waiting": 0, "free": 1, "claimed": 3}
QUEUE = {"waiting": 3, "free": 0, "claimed": 4}
LARGE_QUEUE = {"waiting": 9, "free": 0, "claimed": 40}


@pytest.mark.parametrize(
    ("here", "there", "expected"),
    [
        (IDLE, BUSY, "here"),
        (BUSY, IDLE, "there"),
        (QUEUE, BUSY, "there"),
        (QUEUE, LARGE_QUEUE, "there"),  # more jobs wait there, and more end
        (IDLE, IDLE, "here"),
    ],
)
def test_the_pool_that_starts_it_sooner(
    pools: Pools, here: Mapping[str, int], there: Mapping[str, int], expected: str
) -> None:
    pools.set("here", **here)
    pools.set("there", **there)
    assert pools.chosen() == expected


def test_a_pool_whose_metrics_cannot_be_read_is_the_last(
    pools: Pools, caplog: pytest.LogCaptureFixture
) -> None:
    """Its handler waits for an answer once, not for each job."""
    pools.set("here", **IDLE)
    pools.set("there", **QUEUE)
    pools.servers["here"].close()
    assert [pools.chosen(), pools.chosen()] == ["there", "there"]
    messages = [record.getMessage() for record in caplog.records]
    assert sum(pools.urls["here"] in message for message in messages) == 1, messages


def test_metrics_are_read_again_after_a_time(pools: Pools, monkeypatch: pytest.MonkeyPatch) -> None:
    pools.set("here", **QUEUE)
    pools.set("there", **IDLE)
    assert pools.chosen() == "there"
    pools.set("there", **LARGE_QUEUE)
    pools.set("here", **IDLE)
    assert pools.chosen() == "there"
    monkeypatch.setattr(ranking, "MAX_AGE_S", -1.0)
    assert pools.chosen() == "here"


def test_the_page_of_something_else() -> None:
    with pytest.raises(ValueError, match="no metrics of a pool"):
        parse_load("# TYPE python_info gauge\npython_info 1\n")


def test_the_documents_job_conf_is_valid() -> None:
    conf = yaml.safe_load(JOB_CONF)
    for section in conf["runners"].values():
        assert set(section) - {"load", "pool"} <= set(RUNNER_PARAM_SPECS)
        destination = parse_job_conf(
            yaml.safe_dump(
                {
                    "runners": {"swarm": section},
                    "execution": {"environments": {"swarm": {"runner": "swarm"}}},
                }
            ),
            "job_conf.yml",
        ).destination()
        assert destination.pool.name in POOLS
