"""`swarm-runner pool autoscale`: the daemon in the foreground."""

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
from swarm_runner.cli.options import DestinationName, JobConfPath

if TYPE_CHECKING:
    from swarm_runner.provisioner.autoscaler import AutoscalerRecord

INTERVAL_S = 2.0


def autoscale(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would do; change nothing.")
    ] = False,
    interval_s: Annotated[
        float,
        typer.Option(
            "--interval", min=0.1, metavar="SECONDS", help="Between two looks, at the least."
        ),
    ] = INTERVAL_S,
    job_conf: JobConfPath = None,
    destination_name: DestinationName = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print every decision as a line of JSON.")
    ] = False,
    records: Annotated[
        bool, typer.Option("--records", help="Print after each line the same as a line of JSON.")
    ] = False,
) -> None:
    """Grow and shrink the pool with its queue, until it is told to end.

    Executors that do not work are replaced, as by `pool mend`.
    One line for each new decision. SIGTERM and Ctrl-C end it; the pool stays as it is.
    A Swarm that does not answer at first ends it; what does not answer later
    changes nothing, and is asked again.
    """
    place = load_destination(job_conf, destination_name)
    tell = _print_json if as_json else _LinePrinter(records=records).print_step
    with _stop_on_signal() as stop:
        factories.autoscaler(place, dry_run=dry_run).run(tell, stop, interval_s)


def _print_json(step: AutoscalerRecord) -> None:
    typer.echo(step.model_dump_json())


class _LinePrinter:
    """Tells a person what is new: the same decision again is not. With `records`, a program too."""

    def __init__(self, *, records: bool) -> None:
        self._records = records
        self._last_messages: dict[str, str] = {}

    def print_step(self, step: AutoscalerRecord) -> None:
        said = str(step)
        # A class, or an executor of it that does not work.
        subject = getattr(step, "task", step.capacity_class)
        if self._last_messages.get(subject) != said:
            self._last_messages[subject] = said
            at = datetime.fromtimestamp(step.time_s, UTC).isoformat(timespec="seconds")
            typer.echo(f"{at} {said}")
            if self._records:
                _print_json(step)


@contextlib.contextmanager
def _stop_on_signal() -> Iterator[threading.Event]:
    """An event that SIGTERM and Ctrl-C set."""
    stop = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
