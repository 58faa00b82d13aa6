"""Galaxy's runner counts what it does, and serves it where its section says so."""

from __future__ import annotations

import socket
import urllib.request
from typing import Any

import pytest

from unit.conftest import RunnerHarness


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"


def scrape(address: str) -> str:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
        return str(answer.read().decode())


def restarted(harness: RunnerHarness, address: str) -> Any:
    harness.settings["metrics"] = address
    runner = harness.start()
    runner._serve_metrics()  # what Galaxy's call of `start` does, without its threads
    return runner


def test_the_metrics_of_the_jobs_that_it_tracks(harness: RunnerHarness) -> None:
    address = free_address()
    runner = restarted(harness, address)
    harness.poll()
    harness.queue_jobs(harness.job(), harness.job())

    text = scrape(address)
    assert f'runner="{runner._config.name}",state="idle"}} 2.0' in text
    runner._metrics_server.close()


def test_a_handler_that_finds_the_port_taken_goes_on(
    harness: RunnerHarness, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        runner = restarted(harness, f"127.0.0.1:{taken.getsockname()[1]}")
    harness.poll()
    harness.queue_jobs(harness.job())

    assert "Metrics are not served" in caplog.text
    assert runner._metrics_server is None


def test_nothing_is_served_by_default(harness: RunnerHarness) -> None:
    harness.runner._serve_metrics()
    assert harness.runner._metrics_server is None
