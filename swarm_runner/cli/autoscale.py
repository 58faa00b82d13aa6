"""`swarm-runner pool autoscale`: the autoscaler in the foreground."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from swarm_runner.cli import factories
from swarm_runner.cli.config_files import load_destination
from swarm_runner.cli.options import DestinationName, JobConfPath, LogLevel
from swarm_runner.structured_log import configure_logging

if TYPE_CHECKING:
    from swarm_runner.provisioner.autoscaler import AutoscalerRecord

POLL_INTERVAL_S = 2.0


def autoscale(
    context: typer.Context,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Report what it would do; change nothing.")
    ] = False,
    poll_interval_s: Annotated[
        float,
        typer.Option(
            "--interval",
            min=0.1,
            metavar="SECONDS",
            help="Minimum time between two polls; they never take more than a fifth of the time.",
        ),
    ] = POLL_INTERVAL_S,
    job_conf: JobConfPath = None,
    destination_name: DestinationName = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print every decision as a line of JSON.")
    ] = False,
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
    with _stop_on_signal() as stop:
        factories.autoscaler(destination, dry_run=dry_run).run(report, stop, poll_interval_s)


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
