"""`pool serve`, and the page of the other daemons: as processes that a signal ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from swarm_runner.cli import factories
from swarm_runner.condor.token_check import TokenCheck, TokenVerdict
from swarm_runner.hooks.manager import Hooks
from swarm_runner.metrics.pool_metrics import PoolMetrics
from swarm_runner.model.pool import Destination
from swarm_runner.model.pool_status import ScheddStatistics
from swarm_runner.model.scaling import IdleJobGroup
from swarm_runner.page import server as server_module
from swarm_runner.page.server import PageServer
from swarm_runner.provisioner import Autoscaler
from swarm_runner.testing.access_point import FakeAccessPoint
from swarm_runner.testing.swarm import FakeSwarm
from tests.unit.cli.conftest import Cli

pytestmark = pytest.mark.usefixtures("job_conf")
Fetched = list[tuple[int, str]]


class ClosingAccessPoint(FakeAccessPoint):
    """An access point in a process of its own."""

    closed = 0

    def close(self) -> None:
        type(self).closed += 1

    def schedd_statistics(self) -> ScheddStatistics:
        return ScheddStatistics()


@pytest.fixture
def fetched(swarm: FakeSwarm, monkeypatch: pytest.MonkeyPatch) -> Fetched:
    """Fetch the page after the daemon's third poll, and end it; return what was fetched."""
    answers: Fetched = []
    addresses: list[str] = []
    queries: list[Any] = []

    class RecordingServer(PageServer):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            addresses.append(self.address)

    def autoscaler(
        destination: Destination,
        *,
        dry_run: bool,
        on_round: Callable[..., None] | None = None,
        pool_query: Any = None,
    ) -> Autoscaler:
        queries.append(pool_query)
        autoscaler = Autoscaler(
            destination.pool,
            swarm,
            swarm,
            Hooks(installed=False),
            dry_run=dry_run,
            on_round=on_round,
        )
        run_once = autoscaler.run_once
        rounds = iter(range(3))

        def run_once_and_fetch() -> list[Any]:
            records = run_once()
            if next(rounds) == 2:
                answers.extend(map(fetch, [addresses[0]]))
                os.kill(os.getpid(), signal.SIGTERM)
            return records

        monkeypatch.setattr(autoscaler, "run_once", run_once_and_fetch)
        return autoscaler

    monkeypatch.setattr(ClosingAccessPoint, "closed", 0)
    monkeypatch.setattr(server_module, "PageServer", RecordingServer)
    monkeypatch.setattr(factories, "autoscaler", autoscaler)
    monkeypatch.setattr(factories, "pool_query_process", lambda _d, _t: ClosingAccessPoint())
    monkeypatch.setattr(
        factories,
        "token_check",
        lambda _d: lambda _t: TokenCheck(TokenVerdict.ACCEPTED, "alice@galaxy"),
    )
    monkeypatch.setattr(
        factories, "pool_metrics", lambda d: PoolMetrics(d.pool, swarm.schedd_statistics)
    )
    return answers


def fetch(address: str) -> tuple[int, str]:
    """Return the front page after a login by a proxy's header."""
    request = urllib.request.Request(f"http://{address}/", headers={"X-User": "alice"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:  # Python 3.14 warns of one that is left open
            return error.code, error.read().decode()


PROXY = ("--user-header", "X-User", "--trusted-proxy", "127.0.0.1")


def idle_job_group(count: int) -> IdleJobGroup:
    return IdleJobGroup(
        capacity_class="normal", count=count, memory_mb=1024, first_cluster=1, last_cluster=1
    )


def test_serving_changes_nothing(cli: Cli, swarm: FakeSwarm, fetched: Fetched) -> None:
    cli("pool", "up")
    swarm.idle_job_groups = [idle_job_group(5)]

    done = cli("pool", "serve", "--listen", "127.0.0.1:0", "--interval", "0.1", *PROXY)

    assert (done.code, done.out) == (0, "")
    assert re.search(r"The page is served at http://127\.0\.0\.1:[0-9]+/\.", done.err)
    ((status, html),) = fetched
    assert status == 200
    assert "normal" in html
    assert "would scale 2 -&gt; 5" in html
    assert swarm.services("galaxy")["galaxy_htcondor-executor"].replicas == 2
    assert ClosingAccessPoint.closed == 2


def test_without_a_login_the_daemon_shows_nothing(cli: Cli, fetched: Fetched) -> None:
    cli("pool", "up")

    done = cli("pool", "serve", "--listen", "127.0.0.1:0", "--interval", "0.1")

    assert done.code == 0
    ((status, html),) = fetched
    assert status == 401
    assert "galaxy" not in html


@pytest.mark.parametrize("command", ["autoscale", "watch"])
def test_the_other_daemons_serve_the_same_page_beside_metrics(
    cli: Cli, fetched: Fetched, command: str
) -> None:
    cli("pool", "up")
    addresses = ("--metrics", "127.0.0.1:0", "--page", "127.0.0.1:0")

    done = cli("pool", command, "--interval", "0.1", *addresses, *PROXY)

    assert done.code == 0
    assert "Metrics are served at" in done.err
    assert fetched[0][0] == 200


@pytest.mark.usefixtures("fetched")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("serve", "--listen", "9781"), "write HOST:PORT, for example 127.0.0.1:9781"),
        (("serve", "--user-header", "X-User"), "need each other"),
        (("serve", *PROXY[:-1], "anyone"), "--trusted-proxy anyone"),
        (("autoscale", *PROXY), "add --page HOST:PORT"),
        (("watch", *PROXY), "add --page HOST:PORT"),
    ],
)
def test_wrong_settings_are_bad_input(cli: Cli, arguments: tuple[str, ...], message: str) -> None:
    done = cli("pool", *arguments)

    assert done.code == 2
    assert message in done.err


@pytest.mark.usefixtures("fetched")
def test_an_address_in_use_is_an_error_that_names_it(cli: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = cli("pool", "serve", "--listen", address)

    assert done.code == 1
    assert f"the page cannot be served at {address}" in done.err


@pytest.mark.usefixtures("fetched")
def test_without_its_packages_the_page_says_how_to_install_them(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [m for m in sys.modules if m.startswith(("uvicorn", "swarm_runner.page"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)

    done = cli("pool", "serve")

    assert done.code == 1
    assert "needs the package uvicorn; run `pip install 'swarm-runner[page]'`" in done.err
