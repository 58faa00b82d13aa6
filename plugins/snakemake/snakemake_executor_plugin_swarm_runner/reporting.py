"""The messages that users read in Snakemake's log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from snakemake_executor_plugin_swarm_runner.invocations import Submission
    from swarm_runner import Job, JobChange, JobId

# A shell's exit code for a program that it cannot find.
COMMAND_NOT_FOUND = 127
# A round of at most this many jobs is listed job by job.
MAX_JOBS_LISTED = 25
_NESTED_IMAGE_HINT = (
    "A nested job needs an image that contains Snakemake: set --swarm-runner-snakemake-image."
)
_SHELL_HINT = (
    "Snakemake runs shell commands in bash. If the image does not contain bash, set "
    "shell.executable('sh') in the Snakefile, or resources: shell_exec='sh' in the rule."
)
_RESUME_HINT = "The next start in this directory adopts the remaining jobs."


class Notice(NamedTuple):
    """What users must know about the jobs of a rule, as a sentence without its end."""

    rule: str
    text: str


class Reporter:
    """Reports each event once, and names jobs as Snakemake does."""

    def __init__(self, logger: Any) -> None:
        self._logger = logger
        self._jobs: dict[JobId, Any] = {}
        self._unreachable = False
        self._reported_notices: set[Notice] = set()

    def report_notices(self, notices: Iterable[Notice]) -> None:
        """Report what users must know before jobs are submitted, once for each rule.

        Rules with the same notice share a message: default resources are those of every rule.
        """
        rules: dict[str, list[str]] = {}
        for notice in notices:
            if notice not in self._reported_notices:
                self._reported_notices.add(notice)
                rules.setdefault(notice.text, []).append(notice.rule)
        for text, names in rules.items():
            noun = "rule" if len(names) == 1 else "rules"
            self._logger.warning(f"swarm-runner: {noun} {', '.join(sorted(names))}: {text}.")

    def report_resumed(self, name: str, active: int, other_runs: int) -> None:
        """Report that this start resumes an interrupted run."""
        self._logger.info(
            f"swarm-runner: resuming run {name}, which was interrupted. Jobs still in the queue: "
            f"{active}."
        )
        if other_runs:
            self._logger.warning(
                f"swarm-runner: {_count(other_runs, 'more run')} in this directory "
                f"{'was' if other_runs == 1 else 'were'} interrupted. Their jobs continue; each "
                "further start resumes one run."
            )

    def report_adopted(self, job: Any, previous: Job) -> None:
        """Report that a job of the interrupted run is tracked instead of submitted again."""
        state = "has already ended" if previous.state.ended else f"is {previous.state}"
        self._logger.info(
            f"swarm-runner: {job_title(job)}: adopted job {previous.id}, which {state}."
        )

    def report_replaced(self, job: Any, previous: Job) -> None:
        """Report that a job of the interrupted run, with the same outputs, must end first."""
        self._logger.info(
            f"swarm-runner: {job_title(job)} has changed since it was submitted as job "
            f"{previous.id}; removing that job first."
        )

    def report_submitted(self, submitted: Sequence[tuple[Submission, Job]]) -> None:
        """Report the HTCondor job IDs: one by one for a small round, else their range."""
        if len(submitted) <= MAX_JOBS_LISTED:
            for submission, job in submitted:
                self._logger.info(f"swarm-runner: {job_title(submission.job)} is job {job.id}.")
        else:
            first, last = submitted[0][1].id, submitted[-1][1].id
            self._logger.info(f"swarm-runner: submitted {len(submitted)} jobs, {first} to {last}.")

    def register(self, job: Any, submitted: Job) -> None:
        """Report changes of this job from now on."""
        self._jobs[submitted.id] = job

    def unregister(self, job: Job) -> None:
        """Report no more changes of this job."""
        self._jobs.pop(job.id, None)

    def report_change(self, change: JobChange) -> None:
        """Report a change that matters to users: a hold, a release, an eviction, a further run."""
        job = change.job
        if job.id not in self._jobs:
            return
        event, name = change.event.value, f"{job_title(self._jobs[job.id])} (job {job.id})"
        if event == "held":
            self._logger.warning(f"swarm-runner: {name} is held: {change.reason}")
        elif event == "released":
            self._logger.info(f"swarm-runner: {name} was released: {change.reason}")
        elif event == "evicted":
            self._logger.info(f"swarm-runner: {name} was evicted: {change.reason}")
        elif event == "started" and job.starts > 1:
            self._logger.info(
                f"swarm-runner: {name} runs again, in class {job.capacity_class}, with "
                f"{job.memory_mb} MB of memory."
            )

    def report_failed(self, job: Any, message: str, logs: list[str]) -> None:
        """Report why a job failed, and which files contain its output."""
        hint = f" See {' and '.join(logs)}." if logs else ""
        self._logger.error(f"swarm-runner: {job_title(job)}: {message}{hint}")

    def report_unreachable(self, error: Exception) -> None:
        """Report that the access point does not answer, or accepts no jobs."""
        if not self._unreachable:
            self._unreachable = True
            message = str(error).rstrip(".")
            self._logger.warning(
                f"swarm-runner: {message}. Running jobs continue; the workflow waits."
            )

    def report_reachable(self) -> None:
        """Report that the access point answers again."""
        if self._unreachable:
            self._unreachable = False
            self._logger.info("swarm-runner: the access point is reachable again.")

    def report_removed(self, count: int) -> None:
        """Report that the workflow was stopped and its jobs were removed."""
        self._logger.info(
            f"swarm-runner: removed {_count(count, 'job')} of this workflow from the queue; "
            "waiting for them to stop."
        )

    def report_still_in_queue(self, count: int, after_s: float) -> None:
        """Report removed jobs that have not left the queue."""
        if count:
            self._logger.warning(
                f"swarm-runner: {_count(count, 'removed job')} did not stop within {after_s:.0f} "
                f"s; a node may be lost. The pool stops them as soon as it can. {_RESUME_HINT}"
            )

    def report_removal_unconfirmed(self, error: Exception) -> None:
        """Report that it is unknown whether the removed jobs have left the queue."""
        self._logger.warning(
            "swarm-runner: the jobs were removed, but the access point did not confirm that they "
            f"stopped: {error} {_RESUME_HINT}"
        )

    def report_removal_failed(self, error: Exception) -> None:
        """Report that the workflow was stopped and its jobs may continue."""
        self._logger.error(
            "swarm-runner: the jobs of this workflow could not be removed and may continue: "
            f"{error} {_RESUME_HINT}"
        )


def job_title(job: Any) -> str:
    """Return the name that Snakemake's log uses for a job."""
    if job.is_group():
        return f"group {job.groupid}"
    return f"rule {job.name}, jobid {job.jobid}"


def failure_message(job: Job, *, direct: bool) -> str:
    """Return why a job failed, with a hint if the cause is a common mistake."""
    outcome = job.outcome
    if outcome is None:
        return ""
    message = outcome.message
    if outcome.exit_code == COMMAND_NOT_FOUND:
        message += f" {_SHELL_HINT if direct else _NESTED_IMAGE_HINT}"
    return message


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
