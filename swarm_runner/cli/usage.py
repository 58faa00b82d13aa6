"""`swarm-runner usage`: what jobs asked for and used, and what to ask for instead."""

from __future__ import annotations

import time
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from swarm_runner.cli import factories
from swarm_runner.cli.config_files import load_destination
from swarm_runner.cli.console import print_note, progress, show, show_json
from swarm_runner.cli.options import AsJson, DestinationName, JobConfPath
from swarm_runner.cli.wording import format_duration, pluralize

if TYPE_CHECKING:
    from rich.table import Table

    from swarm_runner.metrics.usage import Distribution, UsageGroup

MAX_JOBS = 100_000
DAY_S = 86_400


class UsageFormat(StrEnum):
    """What `usage` prints."""

    TABLE = "table"
    TPV = "tpv"
    SNAKEMAKE = "snakemake"
    TRACE = "trace"
    ADVISED_TRACE = "advised-trace"


class UsageGrouping(StrEnum):
    """What a line is about."""

    TOOL = "tool"
    IMAGE = "image"
    CLASS = "class"


def usage(
    by: Annotated[
        UsageGrouping, typer.Option("--by", help="A line for each tool (or rule), image or class.")
    ] = UsageGrouping.TOOL,
    days: Annotated[
        float, typer.Option("--days", min=0, metavar="N", help="Only jobs of the last N days.")
    ] = 7,
    limit: Annotated[
        int, typer.Option("--limit", min=1, metavar="N", help="Read at most N jobs, newest first.")
    ] = MAX_JOBS,
    output_format: Annotated[
        UsageFormat,
        typer.Option(
            "--format",
            help="The advice as a TPV file or as Snakemake's set-resources; or the jobs as a "
            "trace for `pool simulate`, as they were or as advised.",
        ),
    ] = UsageFormat.TABLE,
    job_conf: JobConfPath = None,
    destination_name: DestinationName = None,
    as_json: AsJson = False,
) -> None:
    """Compare the memory that ended jobs requested with what they used, and advise.

    The advice is the request that reserves least memory, with the second runs of jobs that
    exceed it; at most 2 of 100 jobs do.
    """
    from swarm_runner.condor.ports import JobQuery
    from swarm_runner.metrics.usage import (
        USAGE_PROJECTION,
        GroupBy,
        advised,
        job_usage_from_ad,
        summarize,
    )
    from swarm_runner.metrics.usage_formats import snakemake_profile, tpv, trace

    destination = load_destination(job_conf, destination_name)
    with progress(f"reading the history of pool {destination.pool.name}"):
        query = JobQuery(since=time.time() - days * DAY_S)
        ads = factories.access_point(destination).history(query, USAGE_PROJECTION, limit)
    jobs = [job_usage_from_ad(ad) for ad in ads]
    grouping = GroupBy(by.value)
    if output_format is UsageFormat.TRACE:
        typer.echo(trace(jobs), nl=False)
        return
    if output_format is UsageFormat.ADVISED_TRACE:
        typer.echo(trace(advised(jobs, grouping)), nl=False)
        return
    groups = summarize(jobs, grouping)
    if as_json:
        show_json(groups)
    elif output_format is UsageFormat.TPV:
        typer.echo(tpv(groups), nl=False)
    elif output_format is UsageFormat.SNAKEMAKE:
        typer.echo(snakemake_profile(groups), nl=False)
    else:
        show(_table(by, groups))
        print_note(f"{pluralize(len(jobs), 'job')} of the last {days:g} days")


def _table(by: UsageGrouping, groups: list[UsageGroup]) -> Table:
    from swarm_runner.cli.tables import nowrap, plain_table, truncated

    headers = ("jobs", "asked MB", "used MB: median, p95, max", "killed", "wait", "run", "advice")
    table = plain_table(by.value, *headers)
    for group in groups:
        used = group.used_mb
        table.add_row(
            truncated(group.name or "(none)"),
            nowrap(str(group.jobs)),
            nowrap(f"{group.requested_mb.median:.0f}" if group.requested_mb else ""),
            nowrap(f"{used.median:.0f}, {used.p95:.0f}, {used.maximum:.0f}" if used else ""),
            nowrap(str(group.memory_kills)),
            nowrap(_median_time(group.wait_s)),
            nowrap(_median_time(group.run_s)),
            truncated(_advice(group)),
        )
    return table


def _median_time(times_s: Distribution | None) -> str:
    return format_duration(times_s.median) if times_s else ""


def _advice(group: UsageGroup) -> str:
    if group.advice is None:
        return f"none: {group.reason}"
    change = group.advice.freed_share
    effect = f"frees {change:.0%}" if change >= 0 else f"reserves {-change:.0%} more"
    return (
        f"{group.advice.memory_mb} MB {effect}; {group.advice.exceeding_share:.1%} would exceed it"
    )
