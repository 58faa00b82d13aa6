"""What the user may set, each with a default that fits a pool of `swarm-runner pool up`."""

# No postponed annotations: Snakemake reads the types of the fields as they stand.

from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from snakemake_interface_executor_plugins.settings import ExecutorSettingsBase

AUTO, DIRECT, NESTED = "auto", "direct", "nested"


@dataclass
class ExecutorSettings(ExecutorSettingsBase):
    """On the command line each is `--swarm-runner-<name>`."""

    job_conf: Optional[Path] = field(  # noqa: UP045 (Snakemake takes no other form)
        default=None,
        metadata={
            "help": "The job_conf YAML file that describes the pool. Without it the file that "
            "SWARM_RUNNER_JOB_CONF names; without that, the file of the last `swarm-runner pool "
            "up`; without that, the default pool on this machine.",
        },
    )
    destination: Optional[str] = field(  # noqa: UP045
        default=None,
        metadata={
            "help": "The environment in job_conf to run in; job_conf's default when absent.",
        },
    )
    mode: str = field(
        default=AUTO,
        metadata={
            "help": "How a job runs: 'direct' (the shell command in the rule's own image), "
            "'nested' (Snakemake in an image that has it), or 'auto': direct for a shell rule "
            "with an image, nested for every other.",
            "choices": [AUTO, DIRECT, NESTED],
        },
    )
    snakemake_image: Optional[str] = field(  # noqa: UP045
        default=None,
        metadata={
            "help": "The image for nested jobs, with Snakemake and the storage plugins that the "
            "workflow uses; snakemake/snakemake of this version when absent.",
        },
    )
    no_escalation: bool = field(
        default=False,
        metadata={
            "help": "A job that is killed for its memory fails, instead of running once more with "
            "as much as the largest class has.",
        },
    )
    lease_s: Optional[int] = field(  # noqa: UP045
        default=None,
        metadata={
            "help": "Seconds without its node after which a job runs again elsewhere (from 60); "
            "job_conf's when absent.",
        },
    )
    state_directory: Optional[Path] = field(  # noqa: UP045
        default=None,
        metadata={
            "help": "Where the event log lies while the workflow runs; .snakemake/swarm-runner "
            "in the working directory when that is on a volume of the pool.",
        },
    )
