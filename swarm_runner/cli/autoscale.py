"""`swarm-runner pool autoscale` and `pool watch`: the daemon in the foreground."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from swarm_runner.cli import factories
from swarm_runner.cli.config_files import load_destination
from swarm_runner.cli.console import print_note
from swarm_runner.cli.options import AsJson, DestinationName, JobConfPath, LogLevel
from swarm_runner.structured_log import configure_logging

if TYPE_CHECKING:
    from swarm_runner.model.pool import Destination
    from swarm_runner.provisioner.autoscaler import AutoscalerRecord

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
    report = _print_json if as_json else _DecisionPrinter(records=records).print_record
    if metrics is None:
        with _stop_on_signal() as stop:
            factories.autoscaler(destination, dry_run=dry_run).run(report, stop, poll_interval_s)
    else:
        _serve(destination, metrics, report, dry_run=dry_run, poll_interval_s=poll_interval_s)


def watch(
    poll_interval_s: PollInterval = POLL_INTERVAL_S,
    metrics: MetricsAddress = DEFAULT_METRICS_ADDRESS,
    job_conf: JobConfPath = None,
    destination_name: DestinationName = None,
    as_json: AsJson = False,
) -> None:
    """Observe the pool and serve its metrics, until it is stopped. It changes nothing.

    For a pool without an autoscaler: `pool autoscale --metrics` serves the same metrics.
    """
    destination = load_destination(job_conf, destination_name)
    report = _print_json if as_json else _ignore
    address = metrics or DEFAULT_METRICS_ADDRESS
    _serve(destination, address, report, dry_run=True, poll_interval_s=poll_interval_s)


def _serve(
    destination: Destination,
    address: str,
    report: Callable[[AutoscalerRecord], None],
    *,
    dry_run: bool,
    poll_interval_s: float,
) -> None:
    """Run the autoscaler, and serve what its last round observed."""
    from swarm_runner.metrics.exposition import MetricsServer

    pool_metrics = factories.pool_metrics(destination)
    autoscaler = factories.autoscaler(
        destination, dry_run=dry_run, on_round=pool_metrics.record_round
    )
    with (
        _stop_on_signal() as stop,
        MetricsServer.listen(
            destination.pool.name, [pool_metrics.store], address, "--metrics"
        ) as server,
    ):
        print_note(f"Metrics are served at http://{server.address}/metrics.")
        autoscaler.run(report, stop, poll_interval_s)


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
