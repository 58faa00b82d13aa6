"""`swarm-runner pool simulate`: the sizing policy on a fake clock and a fake pool."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from swarm_runner.cli.config_files import STANDARD_INPUT, load_destination, read_text
from swarm_runner.cli.console import progress, show, show_json, stdout_console
from swarm_runner.cli.options import AsJson, DestinationName, JobConfPath
from swarm_runner.cli.tables import format_duration, plain_table, pluralize
from swarm_runner.errors import InvalidInputError
from swarm_runner.hooks.manager import plugin_manager
from swarm_runner.model.pool import Pool
from swarm_runner.model.scaling import START_UP_S, ScalingLimits
from swarm_runner.model.text import did_you_mean
from swarm_runner_simulation import generators, plot
from swarm_runner_simulation.free_capacity import Placement
from swarm_runner_simulation.report import SimulationReport
from swarm_runner_simulation.run import BASELINES, INTERVAL_S, ORACLE, SimulationConfig
from swarm_runner_simulation.run import simulate as run
from swarm_runner_simulation.trace import Trace
from swarm_runner_simulation.trace_file import read_trace

_TENTHS_BELOW_S = 60


def simulate(
    trace: Annotated[
        str,
        typer.Argument(metavar="TRACE", help=f"A file, or one of {', '.join(generators.NAMES)}."),
    ],
    minimum: Annotated[
        int | None,
        typer.Option("--min", min=0, metavar="N", help="The least executors of each class."),
    ] = None,
    maximum: Annotated[
        int | None,
        typer.Option("--max", min=1, metavar="N", help="The most executors of each class."),
    ] = None,
    cooldown_s: Annotated[
        float | None,
        typer.Option("--pause", min=0, metavar="SECONDS", help="The pause before shrinking."),
    ] = None,
    start_up_s: Annotated[
        float,
        typer.Option("--start-up", min=0, metavar="SECONDS", help="How long a start takes."),
    ] = START_UP_S,
    interval_s: Annotated[
        float,
        typer.Option("--interval", min=0.1, metavar="SECONDS", help="Between two decisions."),
    ] = INTERVAL_S,
    schedulable: Annotated[
        int | None,
        typer.Option(
            "--placeable",
            min=0,
            metavar="N",
            help="The executors of each class that the nodes have room for; else as its maximum.",
        ),
    ] = None,
    retirement_s: Annotated[
        float | None,
        typer.Option(
            "--retirement",
            min=0,
            metavar="SECONDS",
            help="How long a leaving executor's jobs have before they are vacated.",
        ),
    ] = None,
    placement: Annotated[
        Placement, typer.Option("--placement", help="Which of equal executors gets a job.")
    ] = Placement.ANY,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", min=1, metavar="N", help="How many jobs a named trace has."),
    ] = None,
    load: Annotated[
        float | None,
        typer.Option("--load", min=0.001, metavar="PART", help="The load of a named trace."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Another day of a named trace.")] = 1,
    policy_only: Annotated[
        bool, typer.Option("--alone", help="Run the policy only, nothing to compare it with.")
    ] = False,
    plot_file: Annotated[
        Path | None,
        typer.Option("--picture", metavar="FILE", help="Draw it, as SVG or PNG."),
    ] = None,
    job_conf: JobConfPath = None,
    destination_name: DestinationName = None,
    as_json: AsJson = False,
) -> None:
    """Judge the sizing policy on a trace of arrivals, with the classes of the configuration.

    It touches no pool. A plugin's policy is simulated in place of the built-in one.
    """
    if plot_file is not None:
        plot.check_file(plot_file)
    pool = load_destination(job_conf, destination_name).pool
    classes = _scaling_limits(pool, minimum, maximum, cooldown_s)
    limits = {
        name: shape.retirement_s if retirement_s is None else retirement_s
        for name, shape in pool.classes.items()
    }
    setting = SimulationConfig(start_up_s, interval_s, schedulable, placement, limits)
    size = plugin_manager().hook.swarm_runner_size_class
    with progress(f"simulating {trace}") as step:
        arrivals = _load_trace(trace, classes, seed, load, jobs)
        report = run(
            arrivals,
            classes,
            lambda each, status: size(capacity_class=each, status=status),
            setting,
            baselines=() if policy_only else BASELINES,
            progress=step,
        )
        if plot_file is not None:
            plot.draw(report, plot_file)
    if as_json:
        show_json(report)
        return
    show(report_table(report))
    refused = f"; {pluralize(report.refused, 'job')} fit no class and did not run"
    stdout_console().print(
        f"{pluralize(report.jobs, 'job')}, an executor starts in {report.start_up_s:g} s"
        f"{refused if report.refused else ''}",
        soft_wrap=True,
    )


def _scaling_limits(
    pool: Pool, minimum: int | None, maximum: int | None, cooldown_s: float | None
) -> dict[str, ScalingLimits]:
    found = {}
    for name, shape in pool.classes.items():
        limit = shape.max_replicas if maximum is None else maximum
        sized = ScalingLimits.from_capacity_class(name, shape)
        floor = sized.min_replicas if minimum is None else minimum
        if limit is not None and floor > limit:
            raise InvalidInputError(f"class {name} is to have at least {floor} and at most {limit}")
        found[name] = ScalingLimits.from_capacity_class(
            name,
            shape.model_copy(update={"max_replicas": limit}),
            min_replicas=floor,
            cooldown_s=cooldown_s,
        )
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
        raise InvalidInputError(f"{name} is no file, and no named trace{hint} They are {names}")
    return read_trace(*read_text(name))


def report_table(report: SimulationReport) -> Table:
    """A line for each controller; ratios are to the oracle, where it is there."""
    oracle = next((each for each in report.controllers if each.controller == ORACLE), None)
    columns = ("wait mean", "p50", "p95", "max", "executor-h", "scalings", "evictions", "most")
    shown = plain_table("controller", *columns)
    for column in shown.columns[1:]:
        column.justify = "right"
        column.no_wrap = True
    for each in report.controllers:
        figures = each.total
        hours = f"{figures.executor_hours:.1f}"
        mean = _format_time(figures.waits.mean_s)
        if oracle is not None:
            mean += _format_ratio(figures.waits.mean_s, oracle.total.waits.mean_s)
            hours += _format_ratio(figures.executor_hours, oracle.total.executor_hours)
        shown.add_row(
            each.controller,
            mean,
            *map(_format_time, (figures.waits.p50_s, figures.waits.p95_s, figures.waits.max_s)),
            hours,
            str(figures.scale_operations),
            str(figures.evictions),
            str(figures.peak_executors),
        )
    return shown


def _format_time(seconds: float) -> str:
    return f"{seconds:.1f}s" if seconds < _TENTHS_BELOW_S else format_duration(seconds)


def _format_ratio(value: float, base: float) -> str:
    """What is compared with next to nothing has no ratio worth telling."""
    return f" x{value / base:.2f}" if base >= 1 else ""
