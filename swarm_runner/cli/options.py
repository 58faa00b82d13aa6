"""The options that commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

JOB_CONF_VARIABLE = "SWARM_RUNNER_JOB_CONF"

JobConfPath = Annotated[
    Path | None,
    typer.Option(
        "--job-conf",
        envvar=JOB_CONF_VARIABLE,
        metavar="PATH",
        help="Configuration file. Without one: that of the last `pool up`; else a pool "
        "'swarm-runner' on this machine.",
    ),
]
DestinationName = Annotated[
    str | None,
    typer.Option(
        "--destination",
        metavar="NAME",
        help="The environment of the configuration to use, if not its default.",
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        min=1,
        metavar="SECONDS",
        help="End the wait, not the work, after that long; else never.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
RunnerName = Annotated[
    str,
    typer.Option("--runner", metavar="NAME", help="The runner whose jobs are meant."),
]
JobNames = Annotated[
    list[str] | None,
    typer.Argument(metavar="JOB", help="cluster.proc, or an invocation's key."),
]
