"""The user's settings. The defaults fit a pool that `swarm-runner pool up` created."""

# Snakemake reads the types of the fields at run time, so annotations are not postponed.

from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from snakemake_interface_executor_plugins.settings import ExecutorSettingsBase

AUTO, DIRECT, NESTED = "auto", "direct", "nested"


@dataclass
class ExecutorSettings(ExecutorSettingsBase):
    """The settings, each of which is the command-line option `--swarm-runner-<name>`."""

    job_conf: Optional[Path] = field(  # noqa: UP045 (Snakemake reads no other form)
        default=None,
        metadata={
            "help": "The job_conf YAML file that describes the pool. Default: the file that "
            "SWARM_RUNNER_JOB_CONF names; otherwise the file of the most recent `swarm-runner "
            "pool up`; otherwise the default pool on this host.",
        },
    )
    destination: Optional[str] = field(  # noqa: UP045
        default=None,
        metadata={
            "help": "The environment in job_conf to run in. Default: job_conf's default.",
        },
    )
    mode: str = field(
        default=AUTO,
        metadata={
            "help": "How jobs run: 'direct' (the shell command in the rule's own image), "
            "'nested' (Snakemake, in an image that contains it), or 'auto': direct for shell "
            "rules with an image, nested for all others.",
            "choices": [AUTO, DIRECT, NESTED],
        },
    )
    snakemake_image: Optional[str] = field(  # noqa: UP045
        default=None,
        metadata={
            "help": "The image for nested jobs, with Snakemake and the storage plugins that the "
            "workflow uses. Default: snakemake/snakemake of this version.",
        },
    )
    no_escalation: bool = field(
        default=False,
        metadata={
            "help": "Let a job that exceeds its memory fail, instead of running it once more with "
            "the memory of the largest class.",
        },
    )
    account: Optional[str] = field(  # noqa: UP045
        default=None,
        metadata={
            "help": "The user for whom the jobs run, [GROUP/]USER, who has a share of their own. A "
            "rule's resource `account` replaces it. Default: job_conf's.",
        },
    )
    lease_s: Optional[int] = field(  # noqa: UP045
        default=None,
        metadata={
            "help": "Seconds after losing contact with its node when a job runs again elsewhere, "
            "at least 60. Default: job_conf's.",
        },
    )
    state_directory: Optional[Path] = field(  # noqa: UP045
        default=None,
        metadata={
            "help": "The directory for the event log while the workflow runs. Default: "
            ".snakemake/swarm-runner in the working directory, if that is on a pool volume.",
        },
    )
    metrics: Optional[str] = field(  # noqa: UP045
        default=None,
        metadata={
            "help": "Serve the run's metrics for Prometheus at this HOST:PORT while it lasts. "
            "Default: not served.",
        },
    )
