"""`swarm-runner pool simulate`: evaluates the sizing policy on a simulated pool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from swarm_runner.cli.config_files import STANDARD_INPUT, load_destination, read_text
from swarm_runner.cli.console import progress, show, show_json, stdout_console
from swarm_runner.cli.options import AsJson, DestinationName, JobConfPath
from swarm_runner.cli.tables import plain_table
from swarm_runner.cli.wording import format_duration, pluralize
from swarm_runner.errors import Diagnostic, InvalidInputError
from swarm_runner.hooks.manager import Hooks
from swarm_runner.model.pool import Pool
from swarm_runner.model.scaling import START_UP_S, ScalingLimits
from swarm_runner.model.text import did_you_mean, printable
from swarm_runner_simulation import generators, plot
from swarm_runner_simulation.free_capacity import Placement
from swarm_runner_simulation.report import SimulationReport, Waits
from swarm_runner_simulation.run import BASELINES, INTERVAL_S, ORACLE, SimulationConfig
from swarm_runner_simulation.run import simulate as run
from swarm_runner_simulation.trace import Trace
from swarm_runner_simulation.trace_file import read_trace

_MAX_ROWS = 50  # of a table of users
_TENTHS_BELOW_S = 60  # shorter times are shown with tenths of a second


def simulate(
    trace: Annotated[
        str,
        typer.Argument(metavar="TRACE", help=f"File, or one of {', '.join(generators.NAMES)}."),
    ],
    minimum: Annotated[
        int | None,
        typer.Option(
            "--min",
            min=0,
            metavar="N",
            help="Minimum executors of each class. Default: as configured.",
        ),
    ] = None,
    maximum: Annotated[
        int | None,
        typer.Option(
            "--max",
            min=1,
            metavar="N",
            help="Maximum executors of each class. Default: as configured.",
        ),
    ] = None,
    cooldown_s: Annotated[
        float | None,
        typer.Option(
            "--pause",
            min=0,
            metavar="SECONDS",
            help="Cooldown before scaling down. Default: as configured.",
        ),
    ] = None,
    start_up_s: Annotated[
        float,
        typer.Option(
            "--start-up", min=0, metavar="SECONDS", help="Time that an executor takes to start."
        ),
    ] = START_UP_S,
    interval_s: Annotated[
        float,
        typer.Option("--interval", min=0.1, metavar="SECONDS", help="Time between two decisions."),
    ] = INTERVAL_S,
    schedulable: Annotated[
        int | None,
        typer.Option(
            "--placeable",
            min=0,
            metavar="N",
            help="Executors of each class that fit on the nodes. Default: the class's maximum.",
        ),
    ] = None,
    retirement_s: Annotated[
        float | None,
        typer.Option(
            "--retirement",
            min=0,
            metavar="SECONDS",
            help="Time until the jobs of a stopping executor are vacated. Default: as configured.",
        ),
    ] = None,
    placement: Annotated[
        Placement,
        typer.Option("--placement", help="Which of several equally suitable executors gets a job."),
    ] = Placement.ANY,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", min=1, metavar="N", help="Number of jobs of a named trace."),
    ] = None,
    load: Annotated[
        float | None,
        typer.Option(
            "--load",
            min=0.001,
            metavar="PART",
            help="Work of a named trace, relative to the pool's capacity.",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", help="Seed of the random arrivals of a named trace.")
    ] = 1,
    lend: Annotated[
        list[str] | None,
        typer.Option(
            "--lend",
            metavar="CLASS=SECONDS",
            help="Let a class run jobs of smaller classes of at most SECONDS on free executors. "
            "Can be repeated.",
        ),
    ] = None,
    policy_only: Annotated[
        bool,
        typer.Option("--alone", help="Run the policy only, without baselines to compare it with."),
    ] = False,
    plot_file: Annotated[
        Path | None,
        typer.Option(
            "--picture",
            metavar="FILE",
            help="Plot the queue and the executors over time, as SVG or PNG.",
        ),
    ] = None,
    job_conf: JobConfPath = None,
    destination_name: DestinationName = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate the sizing policy on a trace of arrivals, with the classes of the configuration.

    Contacts no pool. An installed plugin's policy is simulated in place of the built-in one.
    """
    if plot_file is not None:
        plot.check_file(plot_file)
    pool = load_destination(job_conf, destination_name).pool
    classes = _with_lending(_scaling_limits(pool, minimum, maximum, cooldown_s), lend or ())
    retirement = {
        name: capacity_class.retirement_s if retirement_s is None else retirement_s
        for name, capacity_class in pool.classes.items()
    }
    config = SimulationConfig(start_up_s, interval_s, schedulable, placement, retirement)
    with progress(f"simulating {trace}") as step:
        arrivals = _load_trace(trace, classes, seed, load, jobs)
        report = run(
            arrivals,
            classes,
            Hooks().size_class,
            config,
            baselines=() if policy_only else BASELINES,
            progress=step,
        )
        if plot_file is not None:
            plot.draw(report, plot_file)
    if as_json:
        show_json(report)
        return
    show(report_table(report))
    if lend:
        show(waits_table("class", {n: m.waits for n, m in report.controllers[0].classes.items()}))
    if report.controllers[0].users:
        show(waits_table("user", report.controllers[0].users))
    refused = f"; {pluralize(report.refused, 'job')} fit no class and did not run"
    stdout_console().print(
        f"{pluralize(report.jobs, 'job')}, an executor starts in {report.start_up_s:g} s"
        f"{refused if report.refused else ''}",
        soft_wrap=True,
    )


def _scaling_limits(
    pool: Pool, minimum: int | None, maximum: int | None, cooldown_s: float | None
) -> dict[str, ScalingLimits]:
    limits = {}
    for name, capacity_class in pool.classes.items():
        high = capacity_class.max_replicas if maximum is None else maximum
        configured = ScalingLimits.from_capacity_class(name, capacity_class)
        low = configured.min_replicas if minimum is None else minimum
        if high is not None and low > high:
            message = f"class {name}: the minimum {low} exceeds the maximum {high}"
            raise InvalidInputError(f"{message}; change --min or --max")
        limits[name] = ScalingLimits.from_capacity_class(
            name,
            capacity_class.model_copy(update={"max_replicas": high}),
            min_replicas=low,
            cooldown_s=cooldown_s,
        )
    return limits


def _with_lending(
    classes: dict[str, ScalingLimits], lend: Sequence[str]
) -> dict[str, ScalingLimits]:
    """Return the classes, of which those of `lend` lend to smaller ones."""
    found = dict(classes)
    for text in lend:
        name, _, seconds = text.partition("=")
        if name not in classes:
            hint = did_you_mean(name, classes) or f"; the pool has {', '.join(classes)}"
            raise InvalidInputError(f"--lend {text}: {name!r} is not a class{hint}")
        if not (seconds.isascii() and seconds.isdigit() and int(seconds)):
            message = f"--lend {text}: write CLASS=SECONDS, with a number above 0: {name}=60"
            raise InvalidInputError(message)
        found[name] = found[name].model_copy(update={"lend_max_s": float(seconds)})
    return found


def _load_trace(
    name: str, classes: dict[str, ScalingLimits], seed: int, load: float | None, jobs: int | None
) -> Trace:
    if name in generators.NAMES:
        return generators.generate(name, classes, seed=seed, load=load, jobs=jobs)
    if load is not None or jobs is not None:
        raise InvalidInputError(
            f"--load and --jobs are for the named traces: {', '.join(generators.NAMES)}"
        )
    if name != STANDARD_INPUT and not Path(name).exists():
        hint = did_you_mean(name, generators.NAMES) or "."
        names = ", ".join(generators.NAMES)
        message = f"is neither a file nor a named trace{hint} The named traces are {names}"
        raise InvalidInputError([Diagnostic(message, source=name)])
    return read_trace(*read_text(name))


def report_table(report: SimulationReport) -> Table:
    """Return a table with a line per controller, and with ratios to the oracle if it was run."""
    oracle = next((c.total for c in report.controllers if c.controller == ORACLE), None)
    columns = ("wait mean", "p50", "p95", "max", "executor-h", "scalings", "evictions", "most")
    table = plain_table("controller", *columns)
    for column in table.columns[1:]:
        column.justify = "right"
        column.no_wrap = True
    for result in report.controllers:
        metrics = result.total
        hours = f"{metrics.executor_hours:.1f}"
        mean = _format_time(metrics.waits.mean_s)
        if oracle is not None:
            mean += _format_ratio(metrics.waits.mean_s, oracle.waits.mean_s)
            hours += _format_ratio(metrics.executor_hours, oracle.executor_hours)
        table.add_row(
            result.controller,
            mean,
            *map(_format_time, (metrics.waits.p50_s, metrics.waits.p95_s, metrics.waits.max_s)),
            hours,
            str(metrics.scale_operations),
            str(metrics.evictions),
            str(metrics.peak_executors),
        )
    return table


def waits_table(what: str, waits: Mapping[str, Waits]) -> Table:
    """Return a table with the waits under the policy, of each class or user; the longest first."""
    table = plain_table(what, "wait mean", "p50", "p95", "max")
    for name, each in sorted(waits.items(), key=lambda item: -item[1].mean_s)[:_MAX_ROWS]:
        times = (each.mean_s, each.p50_s, each.p95_s, each.max_s)
        table.add_row(printable(name) or "-", *map(_format_time, times))
    return table


def _format_time(seconds: float) -> str:
    return f"{seconds:.1f}s" if seconds < _TENTHS_BELOW_S else format_duration(seconds)


def _format_ratio(value: float, base: float) -> str:
    """Return a ratio, or nothing if the base is too small for it to mean anything."""
    return f" x{value / base:.2f}" if base >= 1 else ""
