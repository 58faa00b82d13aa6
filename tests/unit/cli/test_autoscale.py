"""The daemon as a process: its lines, and how it ends."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from importlib import resources
from typing import Any

import pytest

from swarm_runner.cli import factories
from swarm_runner.hooks.manager import Hooks
from swarm_runner.model.pool import Destination
from swarm_runner.model.scaling import IdleJobGroup
from swarm_runner.provisioner import Autoscaler
from swarm_runner.testing.swarm import FakeSwarm
from tests.unit.cli.conftest import Cli

pytestmark = pytest.mark.usefixtures("job_conf")


@pytest.fixture(autouse=True)
def daemon(swarm: FakeSwarm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send the autoscaler of the fake pool a signal after its third poll."""

    def autoscaler(destination: Destination, *, dry_run: bool) -> Autoscaler:
        autoscaler = Autoscaler(
            destination.pool, swarm, swarm, Hooks(installed=False), dry_run=dry_run
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
