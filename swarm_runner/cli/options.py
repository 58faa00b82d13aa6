"""Options that several commands share."""

from __future__ import annotations

import getpass
import os
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

JOB_CONF_VARIABLE = "SWARM_RUNNER_JOB_CONF"
LOG_LEVEL_VARIABLE = "SWARM_RUNNER_LOG_LEVEL"
LOG_JSON_VARIABLE = "SWARM_RUNNER_LOG_JSON"


def default_runner_name() -> str:
    """Return the name of this user's own runner: the user's name, as far as it is valid."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        user = str(os.getuid())
    return re.sub(r"[^A-Za-z0-9._-]", "-", user)[:100].lstrip("._-") or "default"


class LogLevel(StrEnum):
    """The lowest level of the log records that are printed."""

    DEBUG = "DEBUG"
    """Each poll and each retry, too."""
    INFO = "INFO"
    """Each change of a job or a service, too."""
    WARNING = "WARNING"
    """What an administrator may have to look into, and errors."""
    ERROR = "ERROR"
    """Only what has failed for good."""


LogLevelOption = Annotated[
    LogLevel | None,
    typer.Option(
        "--log-level",
        envvar=LOG_LEVEL_VARIABLE,
        case_sensitive=False,
        help="Log this level and above to standard error. Default: WARNING; "
        "of `pool autoscale`: INFO.",
    ),
]
LogJson = Annotated[
    bool,
    typer.Option("--log-json", envvar=LOG_JSON_VARIABLE, help="Log JSON, one object per line."),
]
JobConfPath = Annotated[
    Path | None,
    typer.Option(
        "--job-conf",
        envvar=JOB_CONF_VARIABLE,
        metavar="PATH",
        help="Configuration file. Default: the file of the last `pool up`, or else a pool "
        "'swarm-runner' on this host.",
    ),
]
DestinationName = Annotated[
    str | None,
    typer.Option(
        "--destination",
        metavar="NAME",
        help="Environment of the configuration to use. Default: the configuration's default.",
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        min=1,
        metavar="SECONDS",
        help="Stop waiting after this time; the work continues. Default: no limit.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
RunnerName = Annotated[
    str,
    typer.Option(
        "--runner", metavar="NAME", help="Runner that the jobs belong to. Default: the user's name."
    ),
]
JobNames = Annotated[
    list[str] | None,
    typer.Argument(metavar="JOB", help="Job ID (cluster.proc) or an invocation's key."),
]
InvocationFiles = Annotated[
    list[str],
    typer.Argument(metavar="FILE", help="YAML or JSON file; - is standard input."),
]
