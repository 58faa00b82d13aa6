"""`swarm-runner pool autoscale` and `pool watch`: the daemon in the foreground."""

from __future__ import annotations

import contextlib
import gc
import signal
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from swarm_runner.cli import factories
from swarm_runner.cli.config_files import load_destination
from swarm_runner.cli.console import print_note
from swarm_runner.cli.options import AsJson, DestinationName, JobConfPath, LogLevel
from swarm_runner.errors import InvalidInputError
from swarm_runner.structured_log import configure_logging

if TYPE_CHECKING:
    from swarm_runner.cli.serve import PageSettings
    from swarm_runner.model.pool import Destination
    from swarm_runner.provisioner.autoscaler import AutoscalerRecord, AutoscalerRound

POLL_INTERVAL_S = 2.0
DEFAULT_METRICS_ADDRESS = "127.0.0.1:9780"
PollInterval = Annotated[
    float,
    typer.Option("--interval", min=0.1, metavar="SECONDS", help="Minimum time between two polls."),
]
MetricsAddress = Annotated[
    str | None,
    typer.Option(
        "--metrics",
        envvar="SWARM_RUNNER_METRICS",
        metavar="HOST:PORT",
        help="Serve metrics for Prometheus there. 127.0.0.1 serves this host only.",
    ),
]
PageAddress = Annotated[
    str | None,
    typer.Option(
        "--page",
        metavar="HOST:PORT",
        help="Serve a page about the pool there. 127.0.0.1 serves this host only.",
    ),
]
UserHeader = Annotated[
    str | None,
    typer.Option(
        "--user-header",
        metavar="NAME",
        help="Header in which a trusted proxy names the user whom it has logged in.",
    ),
]
TrustedProxy = Annotated[
    list[str] | None,
    typer.Option(
        "--trusted-proxy",
        metavar="ADDRESS",
        help="Address or network of a reverse proxy whose header is believed. Can be repeated.",
    ),
]


def autoscale(
    context: typer.Context,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Report what it would do; change nothing.")
    ] = False,
    poll_interval_s: PollInterval = POLL_INTERVAL_S,
    job_conf: JobConfPath = None,
    destination_name: DestinationName = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print every decision as a line of JSON.")
    ] = False,
    metrics: MetricsAddress = None,
    page: PageAddress = None,
    user_header: UserHeader = None,
    trusted_proxy: TrustedProxy = None,
    records: Annotated[
        bool, typer.Option("--records", help="After each line, print the decision as JSON.")
    ] = False,
) -> None:
    """Scale the pool up and down with its queue, until it is stopped.

    Unhealthy executors are replaced, as by `pool mend`.
    Each new decision is printed as a line. SIGTERM and Ctrl-C stop it; the pool stays as it is.
    If the Swarm does not answer the first poll, the command fails; if something
    does not answer later, nothing changes until it does.
    """
    options = context.find_root().params
    if options.get("log_level") is None:
        configure_logging(LogLevel.INFO, as_json=bool(options.get("log_json")))
    destination = load_destination(job_conf, destination_name)
    run_daemon(
        destination,
        _print_json if as_json else _DecisionPrinter(records=records).print_record,
        dry_run=dry_run,
        poll_interval_s=poll_interval_s,
        metrics=metrics,
        page=_page_settings(page, user_header, trusted_proxy),
    )


def watch(
    poll_interval_s: PollInterval = POLL_INTERVAL_S,
    metrics: MetricsAddress = DEFAULT_METRICS_ADDRESS,
    page: PageAddress = None,
    user_header: UserHeader = None,
    trusted_proxy: TrustedProxy = None,
    job_conf: JobConfPath = None,
    destination_name: DestinationName = None,
    as_json: AsJson = False,
) -> None:
    """Observe the pool and serve its metrics, until it is stopped. It changes nothing.

    For a pool without an autoscaler: `pool autoscale --metrics` serves the same metrics.
    """
    destination = load_destination(job_conf, destination_name)
    run_daemon(
        destination,
        reporter(as_json=as_json),
        dry_run=True,
        poll_interval_s=poll_interval_s,
        metrics=metrics or DEFAULT_METRICS_ADDRESS,
        page=_page_settings(page, user_header, trusted_proxy),
    )


def run_daemon(
    destination: Destination,
    report: Callable[[AutoscalerRecord], None],
    *,
    dry_run: bool,
    poll_interval_s: float,
    metrics: str | None = None,
    page: PageSettings | None = None,
) -> None:
    """Run the autoscaler until a signal; serve what its last round observed as metrics or a page.

    `metrics` is the address of the metrics; None serves none.
    """
    from swarm_runner.cli.serve import served_page

    # A short command collects garbage late (cli/__init__.py); this one runs for days.
    gc.set_threshold(10_000)
    observers: list[Callable[[AutoscalerRound], None]] = []
    settings: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(_stop_on_signal())
        if page is not None:
            served = stack.enter_context(served_page(destination, page))
            observers.append(served.record_round)
            settings["pool_query"] = served.pool_query
        if metrics is not None:
            observers.append(stack.enter_context(_served_metrics(destination, metrics)))
        if observers:
            settings["on_round"] = lambda last: [observe(last) for observe in observers]
        autoscaler = factories.autoscaler(destination, dry_run=dry_run, **settings)
        autoscaler.run(report, stop, poll_interval_s)


@contextlib.contextmanager
def _served_metrics(
    destination: Destination, address: str
) -> Iterator[Callable[[AutoscalerRound], None]]:
    """Serve metrics until the context ends; give what records a round."""
    from swarm_runner.metrics.exposition import MetricsServer

    pool_metrics = factories.pool_metrics(destination)
    stores = [pool_metrics.store]
    with MetricsServer.listen(destination.pool.name, stores, address, "--metrics") as server:
        print_note(f"Metrics are served at http://{server.address}/metrics.")
        yield pool_metrics.record_round


def _page_settings(
    address: str | None, user_header: str | None, trusted_proxies: list[str] | None
) -> PageSettings | None:
    from swarm_runner.cli.serve import PageSettings

    if address is not None:
        return PageSettings(address, user_header, trusted_proxies or ())
    if user_header is not None or trusted_proxies:
        message = "--user-header and --trusted-proxy are settings of the page; add --page HOST:PORT"
        raise InvalidInputError(message)
    return None


def reporter(*, as_json: bool) -> Callable[[AutoscalerRecord], None]:
    """Return what reports the decisions that an observing daemon would make: JSON, or nothing."""
    return _print_json if as_json else _ignore


def _ignore(_record: AutoscalerRecord) -> None:
    """Report nothing."""


def _print_json(record: AutoscalerRecord) -> None:
    typer.echo(record.model_dump_json())


class _DecisionPrinter:
    """Prints what differs from the previous record; with `records`, as JSON too."""

    def __init__(self, *, records: bool) -> None:
        self._records = records
        self._last_messages: dict[str, str] = {}

    def print_record(self, record: AutoscalerRecord) -> None:
        message = str(record)
        # An executor replacement has a task; a scaling record has only its class.
        subject = getattr(record, "task", record.capacity_class)
        if self._last_messages.get(subject) == message:
            return
        self._last_messages[subject] = message
        time = datetime.fromtimestamp(record.time_s, UTC).isoformat(timespec="seconds")
        typer.echo(f"{time} {message}")
        if self._records:
            _print_json(record)


@contextlib.contextmanager
def _stop_on_signal() -> Iterator[threading.Event]:
    """Give an event that SIGTERM and Ctrl-C set; restore the handlers afterwards."""
    stop = threading.Event()

    def set_stop(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    previous = {
        number: signal.signal(number, set_stop) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
