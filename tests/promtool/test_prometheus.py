"""A real Prometheus, with the packaged configuration, scrapes the daemon's metrics."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from swarm_runner.metrics.exposition import MetricsServer
from tests.polling import poll_until
from tests.promtool.conftest import TOOL
from tests.promtool.test_alerts import MONITORING, RULES
from tests.unit.metrics.large_pool import LargePool, observed

DAEMON = TOOL.parent / "prometheus"


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[str]:
    """Start Prometheus beside a pool's metrics; yield its address."""
    assert DAEMON.exists(), f"there is no {DAEMON}; run `make promtool`"
    with MetricsServer("galaxy", [observed(LargePool(10, 400)).store]) as server:
        directory = shutil.copytree(MONITORING, tmp_path / "monitoring")
        configuration = (directory / "prometheus.yml").read_text()
        assert "127.0.0.1:9780" in configuration
        configuration = configuration.replace("127.0.0.1:9780", server.address)
        (directory / "prometheus.yml").write_text(configuration.replace("15s", "1s"))
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = f"127.0.0.1:{free.getsockname()[1]}"
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(
                [
                    DAEMON,
                    f"--config.file={directory}/prometheus.yml",
                    f"--storage.tsdb.path={tmp_path}/data",
                    f"--web.listen-address={address}",
                ],
                stdout=log,
                stderr=log,
            )
            try:
                yield address
            finally:
                process.terminate()
                process.wait(30)


def get(address: str, path: str) -> Any:
    """Return the data of an answer; None while Prometheus does not answer."""
    try:
        with urllib.request.urlopen(f"http://{address}/api/v1/{path}", timeout=5) as answer:
            return json.load(answer)["data"]
    except (urllib.error.URLError, ConnectionError):
        return None


def query(address: str, expression: str) -> dict[str, float]:
    """Return the values of a query, by class."""
    data = get(address, f"query?{urllib.parse.urlencode({'query': expression})}")
    result = data["result"] if data else []
    return {item["metric"].get("class", ""): float(item["value"][1]) for item in result}


def test_prometheus_reads_the_metrics_and_evaluates_the_rules(prometheus: str) -> None:
    up = poll_until(lambda: query(prometheus, 'up{job="swarm-runner"}'))
    assert up == {"": 1}
    idle = query(prometheus, 'swarm_runner_jobs{state="idle"}')
    assert idle == {"normal": 100, "big": 100, "gpu": 100}
    assert query(prometheus, "swarm_runner_round_duration_seconds_count") == {"": 2}

    (group,) = get(prometheus, "rules")["groups"]
    assert [rule["name"] for rule in group["rules"]] == [rule["alert"] for rule in RULES]
    # A quarter of the jobs fits no class; nothing else is wrong with this pool.
    alerts = poll_until(lambda: get(prometheus, "alerts")["alerts"])
    assert {(alert["labels"]["alertname"], alert["state"]) for alert in alerts} == {
        ("SwarmRunnerJobsUnmatchable", "pending")
    }
