"""A real pool whose metrics a real Prometheus reads, with alert rules that need not wait."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from swarm_runner.cli import factories
from swarm_runner.condor.daemons import read_claims
from swarm_runner.metrics.exposition import MetricsServer
from swarm_runner.metrics.pool_metrics import PoolMetrics
from swarm_runner.model.pool import Destination
from tests.polling import poll_until

PROMETHEUS = Path(__file__).parents[2] / ".state" / "prometheus" / "usr" / "bin" / "prometheus"
RULES = resources.files("swarm_runner") / "metrics" / "monitoring" / "alerts.yml"
# In the rules' expressions: what they wait for, and what a test waits for.
SHORTER = {
    r"> 300$": "> 20",
    r"oldest_idle_seconds > 3600": "oldest_idle_seconds > 3",
    r"\[1d\] offset 1h": "[90s] offset 45s",
    r"\[1h\]": "[45s]",
    r"/ 24$": "/ 2",
}


def shorter_rules() -> dict[str, Any]:
    """Return the alert rules with shorter times; nothing else is changed."""
    document: dict[str, Any] = yaml.safe_load(RULES.read_text())
    used = set()
    for rule in document["groups"][0]["rules"]:
        rule["for"] = "1s"
        for pattern, replacement in SHORTER.items():
            rule["expr"], count = re.subn(pattern, replacement, rule["expr"].strip())
            used |= {pattern} if count else set()
    assert used == set(SHORTER), "these are in no rule any more"
    return document


def get(address: str, path: str) -> Any:
    """Return the data of Prometheus's answer; None while it does not answer."""
    try:
        with urllib.request.urlopen(f"http://{address}/api/v1/{path}", timeout=5) as answer:
            return json.load(answer)["data"]
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None


def query(address: str, expression: str) -> list[float]:
    """Return the values of an expression's series."""
    data = get(address, f"query?{urllib.parse.urlencode({'query': expression})}")
    return [float(series["value"][1]) for series in data["result"]] if data else []


class WatchedPool:
    """An observer of a pool in this process, and the Prometheus that reads its metrics."""

    def __init__(self, destination: Destination, prometheus: str, port: int) -> None:
        self._destination = destination
        self._prometheus = prometheus
        self._port = port
        self._server: MetricsServer | None = None
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    def start_observer(self, token: Path | None = None) -> None:
        """Start the observer, with the pool's token or with another one."""
        pool = self._destination.pool
        metrics = factories.pool_metrics(self._destination)
        if token is not None:
            claims = read_claims(token)
            assert claims is not None
            statistics = factories.access_point(self._destination).schedd_statistics
            metrics = PoolMetrics(pool, statistics, claims.expires_s)
        autoscaler = factories.autoscaler(
            self._destination, dry_run=True, on_round=metrics.record_round
        )
        self._stop = threading.Event()
        self._server = MetricsServer(pool.name, [metrics.store], port=self._port)
        self._thread = threading.Thread(
            target=autoscaler.run, args=(lambda _record: None, self._stop, 1.0)
        )
        self._thread.start()

    def stop_observer(self) -> None:
        """Stop the observer: its metrics are not served any more."""
        self._stop.set()
        if self._server is not None and self._thread is not None:
            self._server.close()
            self._thread.join()
        self._server = self._thread = None

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire."""
        data = get(self._prometheus, "alerts") or {"alerts": []}
        return {a["labels"]["alertname"] for a in data["alerts"] if a["state"] == "firing"}

    def wait_for(self, *alerts: str) -> None:
        """Wait until these alerts fire."""
        poll_until(self.firing, lambda firing: firing >= set(alerts), timeout_s=180)

    def wait_until_clear(self, *alerts: str) -> None:
        """Wait until none of these alerts fires."""
        poll_until(self.firing, lambda firing: not firing & set(alerts), timeout_s=180)


@contextlib.contextmanager
def watched(destination: Destination, directory: Path) -> Iterator[WatchedPool]:
    """Observe a pool, and let a Prometheus of this test read it every second."""
    assert PROMETHEUS.exists(), f"there is no {PROMETHEUS}; run `make promtool`"
    ports = []
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as free:
            ports.append(free.getsockname()[1])
    (directory / "alerts.yml").write_text(yaml.safe_dump(shorter_rules()))
    configuration = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["alerts.yml"],
        "scrape_configs": [
            {
                "job_name": "swarm-runner",
                "static_configs": [{"targets": [f"127.0.0.1:{ports[0]}"]}],
            }
        ],
    }
    (directory / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    address = f"127.0.0.1:{ports[1]}"
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                PROMETHEUS,
                f"--config.file={directory}/prometheus.yml",
                f"--storage.tsdb.path={directory}/data",
                f"--web.listen-address={address}",
            ],
            stdout=log,
            stderr=log,
        )
    pool = WatchedPool(destination, address, ports[0])
    try:
        pool.start_observer()
        yield pool
    finally:
        pool.stop_observer()
        process.terminate()
        process.wait(30)
