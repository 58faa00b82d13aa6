"""What the user is told in Snakemake's log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snakemake_executor_plugin_swarm_runner.invocations import Submission
    from swarm_runner import Job, JobChange, JobId

COMMAND_NOT_FOUND = 127
# So many jobs of one round are named one by one.
MAX_JOBS_LISTED = 25
_NESTED_IMAGE_HINT = (
    "A nested job needs an image with Snakemake: --swarm-runner-snakemake-image names one."
)
_SHELL_HINT = (
    "Snakemake's shell commands run in bash; for an image without it, say "
    "shell.executable('sh') in the Snakefile, or resources: shell_exec='sh' in the rule."
)

_RESUME_HINT = "The next start in this directory takes up what is left."


class Reporter:
    """Says each thing once, and of a job by the name that Snakemake gives it."""

    def __init__(self, logger: Any) -> None:
        self._logger = logger
        self._jobs: dict[JobId, Any] = {}
        self._unreachable = False

    def report_resumed(self, name: str, active: int, other_runs: int) -> None:
        """An earlier run of this directory was broken off."""
        self._logger.info(
            f"swarm-runner: takes up run {name}, which was broken off; {active} of its jobs are "
            "still in the queue."
        )
        if other_runs:
            self._logger.warning(
                f"swarm-runner: {other_runs} more runs in this directory were broken off. Their jobs "
                "go on until another start takes them up."
            )

    def report_adopted(self, job: Any, previous: Job) -> None:
        """A job need not be submitted again."""
        how = "has ended meanwhile" if previous.state.ended else f"is {previous.state}"
        self._logger.info(f"swarm-runner: {job_title(job)} {how} as job {previous.id}: taken up.")

    def report_replaced(self, job: Any, previous: Job) -> None:
        """A job of an earlier run would write to the same files."""
        self._logger.info(
            f"swarm-runner: {job_title(job)} has changed since it was submitted as job {previous.id}; "
            "that is removed first."
        )

    def report_submitted(self, submitted: Sequence[tuple[Submission, Job]]) -> None:
        """What Snakemake's jobs are called by HTCondor: each if they are few."""
        if len(submitted) <= MAX_JOBS_LISTED:
            for call, job in submitted:
                self._logger.info(f"swarm-runner: {job_title(call.job)} is job {job.id}.")
        else:
            first, last = submitted[0][1].id, submitted[-1][1].id
            self._logger.info(f"swarm-runner: submitted {len(submitted)} jobs, {first} to {last}.")

    def register(self, job: Any, submitted: Job) -> None:
        """From now on changes of this job may come."""
        self._jobs[submitted.id] = job

    def unregister(self, job: Job) -> None:
        """No more changes of this job come."""
        self._jobs.pop(job.id, None)

    def report_change(self, change: JobChange) -> None:
        """What a user would want to know while a job has not ended."""
        job = change.job
        if job.id not in self._jobs:
            return
        event, name = change.event.value, f"{job_title(self._jobs[job.id])} (job {job.id})"
        if event == "held":
            self._logger.warning(f"swarm-runner: {name} is held: {change.reason}")
        elif event == "released":
            self._logger.info(f"swarm-runner: {name} is released: {change.reason}")
        elif event == "evicted":
            self._logger.info(f"swarm-runner: {name} was stopped: {change.reason}")
        elif event == "started" and job.starts > 1:
            self._logger.info(
                f"swarm-runner: {name} runs again, in class {job.capacity_class}, with "
                f"{job.memory_mb} MB."
            )

    def report_failed(self, job: Any, message: str, logs: list[str]) -> None:
        """Why a job failed, and where it says more."""
        where = f" See {' and '.join(logs)}." if logs else ""
        self._logger.error(f"swarm-runner: {job_title(job)}: {message}{where}")

    def report_unreachable(self, error: Exception) -> None:
        """The access point does not answer, or takes nothing."""
        if not self._unreachable:
            self._unreachable = True
            said = str(error).rstrip(".")
            self._logger.warning(f"swarm-runner: {said}. Jobs that run go on; the workflow waits.")

    def report_reachable(self) -> None:
        """It answers again."""
        if self._unreachable:
            self._unreachable = False
            self._logger.info("swarm-runner: the access point answers again.")

    def report_removed(self, count: int) -> None:
        """The workflow was stopped."""
        self._logger.info(
            f"swarm-runner: removed {count} jobs of this workflow from the queue; "
            "waiting until they are gone."
        )

    def report_still_in_queue(self, count: int, after_s: float) -> None:
        """They were removed, but what runs them did not let them go yet."""
        if count:
            self._logger.warning(
                f"swarm-runner: {count} of them are not gone after {after_s:.0f} s; a node may be "
                f"lost. The pool stops them as soon as it can. {_RESUME_HINT}"
            )

    def report_removal_unconfirmed(self, error: Exception) -> None:
        """They were removed, and nobody can be asked whether they are gone."""
        self._logger.warning(
            f"swarm-runner: they are removed, but whether they are gone nobody can tell now: "
            f"{error} {_RESUME_HINT}"
        )

    def report_removal_failed(self, error: Exception) -> None:
        """The workflow was stopped, and its jobs go on."""
        self._logger.error(
            "swarm-runner: jobs of this workflow could not be removed and may go on: "
            f"{error} {_RESUME_HINT}"
        )


def job_title(job: Any) -> str:
    """A job, as Snakemake's log names it."""
    if job.is_group():
        return f"group {job.groupid}"
    return f"rule {job.name}, jobid {job.jobid}"


def failure_message(job: Job, *, direct: bool) -> str:
    """Why a job failed, and what to do where that is known."""
    outcome = job.outcome
    if outcome is None:
        return ""
    said = outcome.message
    if outcome.exit_code == COMMAND_NOT_FOUND:
        said += f" {_SHELL_HINT if direct else _NESTED_IMAGE_HINT}"
    return said
