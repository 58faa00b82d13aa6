"""The daemon as a process: its lines, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from collections.abc import Callable
from importlib import resources
from typing import Any

import pytest

from swarm_runner.cli import factories
from swarm_runner.hooks.manager import Hooks
from swarm_runner.metrics import exposition
from swarm_runner.metrics.exposition import MetricsServer
from swarm_runner.metrics.pool_metrics import PoolMetrics
from swarm_runner.model.pool import Destination
from swarm_runner.model.scaling import IdleJobGroup
from swarm_runner.provisioner import Autoscaler
from swarm_runner.provisioner.autoscaler import AutoscalerRound
from swarm_runner.testing.swarm import FakeSwarm
from tests.unit.cli.conftest import Cli

pytestmark = pytest.mark.usefixtures("job_conf")


@pytest.fixture(autouse=True)
def daemon(swarm: FakeSwarm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send the autoscaler of the fake pool a signal after its third poll."""

    def autoscaler(
        destination: Destination,
        *,
        dry_run: bool,
        on_round: Callable[[AutoscalerRound], None] | None = None,
    ) -> Autoscaler:
        autoscaler = Autoscaler(
            destination.pool,
            swarm,
            swarm,
            Hooks(installed=False),
            dry_run=dry_run,
            on_round=on_round,
        )
        run_once = autoscaler.run_once
        signals = [signal.SIGTERM, None, None]

        def run_once_and_signal() -> list[Any]:
            records = run_once()
            number = signals.pop()
            if number is not None:
                os.kill(os.getpid(), number)
            return records

        monkeypatch.setattr(autoscaler, "run_once", run_once_and_signal)
        return autoscaler

    monkeypatch.setattr(factories, "autoscaler", autoscaler)


def idle_job_group(count: int) -> IdleJobGroup:
    return IdleJobGroup(
        capacity_class="normal",
        count=count,
        memory_mb=1024,
        first_cluster=1,
        last_cluster=1,
    )


def test_each_new_decision_is_a_line(cli: Cli, swarm: FakeSwarm) -> None:
    cli("pool", "up")
    swarm.idle_job_groups = [idle_job_group(5)]
    done = cli("pool", "autoscale", "--interval", "0.1")
    assert done.code == 0
    lines = [line.partition(" ")[2] for line in done.out.splitlines()]
    assert lines[0].startswith("normal: scaled 2 -> 5 (5 waiting")
    assert len([line for line in lines if line.startswith("big:")]) == 1
    assert swarm.services("galaxy")["galaxy_htcondor-executor"].replicas == 5


def test_every_decision_is_a_line_of_json(cli: Cli, swarm: FakeSwarm) -> None:
    cli("pool", "up")
    swarm.idle_job_groups = [idle_job_group(5)]
    done = cli("pool", "autoscale", "--interval", "0.1", "--json", "--dry-run")
    records = [json.loads(line) for line in done.out.splitlines()]
    assert [record["capacity_class"] for record in records] == ["normal", "big"] * 3
    assert (records[0]["wanted"], records[0]["action"]) == (5, "dry_run")
    assert swarm.services("galaxy")["galaxy_htcondor-executor"].replicas == 2


def test_the_service_has_a_record_beside_each_line(cli: Cli, swarm: FakeSwarm) -> None:
    cli("pool", "up")
    swarm.idle_job_groups = [idle_job_group(5)]
    done = cli("pool", "autoscale", "--interval", "0.1", "--records")
    lines = done.out.splitlines()
    records = [json.loads(line) for line in lines if line.startswith("{")]
    assert len(records) * 2 == len(lines)
    assert (records[0]["wanted"], records[0]["action"]) == (5, "scaled")
    assert records[0]["reason"] in lines[0]
    entrypoint = resources.files("swarm_runner") / "swarm" / "autoscaler" / "entrypoint.py"
    assert '"autoscale", "--records"' in entrypoint.read_text()


@pytest.mark.parametrize("property_name", ["in_swarm", "swarm_manager", "reachable"])
def test_without_a_swarm_manager_it_ends(cli: Cli, swarm: FakeSwarm, property_name: str) -> None:
    cli("pool", "up")
    setattr(swarm, property_name, False)
    done = cli("pool", "autoscale", "--interval", "0.1")
    assert (done.code, done.out) == (3, "")
    assert "not a swarm manager" in done.err or "does not answer" in done.err


def test_it_waits_for_a_missing_pool(cli: Cli) -> None:
    done = cli("pool", "autoscale", "--interval", "0.1")
    assert done.code == 0
    assert "service galaxy_htcondor-executor is missing" in done.out


def test_the_handlers_of_signals_are_put_back(cli: Cli) -> None:
    before: Callable[..., Any] | int | None = signal.getsignal(signal.SIGTERM)
    cli("pool", "autoscale", "--interval", "0.1")
    assert signal.getsignal(signal.SIGTERM) is before


def test_metrics_are_served_while_it_runs(
    cli: Cli, swarm: FakeSwarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    scraped = serve_metrics(swarm, monkeypatch)
    cli("pool", "up")
    swarm.idle_job_groups = [idle_job_group(5)]

    done = cli("pool", "autoscale", "--interval", "0.1", "--metrics", "127.0.0.1:0")

    assert done.code == 0
    assert "Metrics are served at http://127.0.0.1:" in done.err
    assert 'swarm_runner_scalings_total{class="normal",direction="up",pool="galaxy"} 1.0' in scraped
    assert swarm.services("galaxy")["galaxy_htcondor-executor"].replicas == 5


def test_watching_changes_nothing(
    cli: Cli, swarm: FakeSwarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    scraped = serve_metrics(swarm, monkeypatch)
    cli("pool", "up")
    swarm.idle_job_groups = [idle_job_group(5)]

    done = cli("pool", "watch", "--interval", "0.1", "--metrics", "127.0.0.1:0")

    assert (done.code, done.out) == (0, "")
    assert 'swarm_runner_jobs{class="normal",pool="galaxy",state="idle"} 5.0' in scraped
    assert 'swarm_runner_scalings_total{class="normal",direction="up",pool="galaxy"} 0.0' in scraped
    assert swarm.services("galaxy")["galaxy_htcondor-executor"].replicas == 2


@pytest.mark.parametrize("address", ["9780", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536"])
def test_a_wrong_address_is_bad_input(cli: Cli, address: str) -> None:
    done = cli("pool", "watch", "--metrics", address)

    assert done.code == 2
    assert "write HOST:PORT, for example 127.0.0.1:9780" in done.err


def serve_metrics(swarm: FakeSwarm, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Scrape over HTTP after each round; return a set that has the lines of the last scrape."""
    lines: set[str] = set()
    addresses: list[str] = []

    class RecordingServer(MetricsServer):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            addresses.append(self.address)

    class ScrapedMetrics(PoolMetrics):
        def record_round(self, autoscaler_round: AutoscalerRound) -> None:
            super().record_round(autoscaler_round)
            url = f"http://{addresses[0]}/metrics"
            with urllib.request.urlopen(url, timeout=5) as answer:
                lines.clear()
                lines.update(answer.read().decode().splitlines())

    def pool_metrics(destination: Destination) -> PoolMetrics:
        return ScrapedMetrics(destination.pool, swarm.schedd_statistics)

    monkeypatch.setattr(exposition, "MetricsServer", RecordingServer)
    monkeypatch.setattr(factories, "pool_metrics", pool_metrics)
    return lines
