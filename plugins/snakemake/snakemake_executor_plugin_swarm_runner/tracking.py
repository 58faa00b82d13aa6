"""Submits the jobs of a run, tracks them, and notifies Snakemake when they end."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo

from snakemake_executor_plugin_swarm_runner.invocations import InvocationBuilder, Submission
from snakemake_executor_plugin_swarm_runner.previous_jobs import PreviousJobs
from snakemake_executor_plugin_swarm_runner.reporting import Reporter, failure_message
from snakemake_executor_plugin_swarm_runner.submitter import access_point_errors, submit_batch
from snakemake_executor_plugin_swarm_runner.target import ExecutionTarget
from snakemake_executor_plugin_swarm_runner.workflow_run import WorkflowRun

if TYPE_CHECKING:
    from snakemake_executor_plugin_swarm_runner.executor import Executor
    from swarm_runner import AccessPointProcess, Job, JobId, MeteredRunner, MetricsServer

# Seconds between two attempts to submit while the access point is unreachable.
RETRY_INTERVAL_S = 5.0
# Seconds for which one call retries an unreachable access point, and seconds within which removed
# jobs must leave the queue.
OUTAGE_TIMEOUT_S, REMOVAL_TIMEOUT_S = 10.0, 60.0
# In metrics: each run has a name of its own, which must not be a label.
METRICS_LABEL = "snakemake"
# Keys of SubmittedJobInfo.aux.
JOB_ID, SUBMISSION = "job_id", "submission"


class Tracker:
    """Tracks the jobs of one run.

    Snakemake's scheduler thread submits jobs, and another thread polls them.
    """

    def __init__(
        self,
        target: ExecutionTarget,
        run: WorkflowRun,
        builder: InvocationBuilder,
        executor: Executor,
        metrics_address: str | None = None,
    ) -> None:
        self._target = target
        self._run = run
        self._builder = builder
        self._executor = executor
        self._reporter = Reporter(executor.logger)
        self._lock = threading.RLock()
        self._access_point = target.access_point()
        self._runner = _make_runner(target, run, self._access_point)
        self._metrics_server = self._serve_metrics(metrics_address)
        self._previous_jobs = PreviousJobs([])
        self._pending: list[Submission] = []
        # Submissions that wait for the end of a previous job with the same outputs, by its ID.
        self._blocked: dict[JobId, Submission] = {}
        self._next_retry_at = 0.0
        # Jobs that have ended, until Snakemake is notified.
        self._ended_jobs: dict[JobId, Job] = {}
        self._stopped = False

    def _serve_metrics(self, address: str | None) -> MetricsServer | None:
        """Raise WorkflowError when the address cannot be used."""
        from swarm_runner import MetricsServer, SwarmRunnerError

        if address is None:
            return None
        try:
            return MetricsServer.listen(
                self._target.destination.pool.name,
                [self._runner.metrics.store],
                address,
                "--swarm-runner-metrics",
            )
        except SwarmRunnerError as error:
            self._access_point.close()
            raise WorkflowError(f"swarm-runner: {error}") from error

    def open(self) -> None:
        """Connect to the access point, and find the jobs of an interrupted run.

        Raises WorkflowError when the access point is unreachable.
        """
        from swarm_runner import SwarmRunnerError

        runner = self._runner
        try:
            self._previous_jobs = PreviousJobs(
                runner.recover() if self._run.resumed else runner.jobs()
            )
        except SwarmRunnerError as error:
            raise WorkflowError(
                f"swarm-runner: {error} If the pool does not exist, create it with `swarm-runner "
                "pool up --job-conf FILE`. Pass the same file with --swarm-runner-job-conf or "
                "SWARM_RUNNER_JOB_CONF."
            ) from error
        if self._run.resumed:
            self._reporter.report_resumed(
                self._run.name, self._previous_jobs.active_count, self._run.other_runs
            )

    @property
    def queries_access_point(self) -> bool:
        """Whether a poll queries the access point instead of reading the event log."""
        return not self._target.shared or self._runner.event_log is None

    def submit(self, jobs: Sequence[Any]) -> None:
        """Submit jobs as one batch, and adopt those that an interrupted run has submitted."""
        with self._lock:
            submissions = []
            for job in jobs:
                try:
                    submission = self._build_or_adopt(job)
                except Exception as error:  # noqa: BLE001 (an invalid job must not affect others)
                    self._report_not_submitted(job, _error_message(error))
                else:
                    if submission is not None:
                        submissions.append(submission)
            self._reporter.report_notices(
                notice for submission in submissions for notice in submission.notices
            )
            for submission in self._prepare_and_register(submissions):
                if submission.waits_for is None:
                    self._pending.append(submission)
                else:
                    self._previous_jobs.claim(submission.outputs_digest)
                    self._blocked[submission.waits_for] = submission
            self._submit_pending()

    def poll(self, active: list[SubmittedJobInfo]) -> list[SubmittedJobInfo]:
        """Notify Snakemake of the jobs that have ended, and return the others."""
        with self._lock:
            if self._stopped:
                return active
            self._poll_changes()
            unblocked = [job_id for job_id in self._blocked if job_id in self._ended_jobs]
            for job_id in unblocked:
                del self._ended_jobs[job_id]
                self._pending.append(self._blocked.pop(job_id))
            if unblocked or time.monotonic() >= self._next_retry_at:
                self._submit_pending()
            if not self._ended_jobs:
                return active
            return [info for info in active if not self._report_if_ended(info)]

    def remove_all(self) -> None:
        """Remove every job of this run from the queue, and wait until they have stopped."""
        self._stopped = True
        try:
            # A poll in progress may still submit jobs. After it releases the lock, none does.
            with self._lock:
                self._pending.clear()
                self._blocked.clear()
                count = self._runner.remove_all("the workflow was stopped")
        except access_point_errors() as error:
            self._reporter.report_removal_failed(error)
            return
        self._reporter.report_removed(count)
        try:
            jobs = self._runner.wait(timeout_s=REMOVAL_TIMEOUT_S)
        except access_point_errors() as error:
            self._reporter.report_removal_unconfirmed(error)
        else:
            self._reporter.report_still_in_queue(
                sum(not job.state.ended for job in jobs), REMOVAL_TIMEOUT_S
            )

    def close(self) -> None:
        """Remove the remaining jobs, and delete the run unless a later start must resume it."""
        try:
            if self._has_active_jobs and not self._stopped:
                self.remove_all()
            keep_run = self._has_active_jobs
        except access_point_errors():
            keep_run = True
        self._shut_down(keep_run=keep_run)

    def abandon(self) -> None:
        """Close without querying the access point. A resumed run can be resumed again."""
        self._shut_down(keep_run=self._run.resumed)

    @property
    def _has_active_jobs(self) -> bool:
        return any(not job.state.ended for job in self._runner.jobs())

    def _shut_down(self, *, keep_run: bool) -> None:
        if self._metrics_server is not None:
            self._metrics_server.close()
        self._runner.close()
        self._access_point.close()
        if keep_run:
            self._run.release()
        else:
            self._runner.discard()
            self._run.delete()

    def _build_or_adopt(self, job: Any) -> Submission | None:
        """Return the job's submission, or None if a previous job was adopted."""
        shellcmd = None if job.is_group() else job.shellcmd
        key = self._previous_jobs.next_key(job, shellcmd)
        previous = self._previous_jobs.latest(key.outputs_digest)
        if previous is None:
            return self._builder.build(job, str(key), shellcmd)
        previous_job, ended = previous.job, previous.job.state.ended
        if previous.key.command_digest == key.command_digest and (
            not ended or self._is_unrecorded_success(job, previous_job)
        ):
            submission = self._builder.build(job, str(previous.key), shellcmd)
            self._previous_jobs.claim(key.outputs_digest)
            if ended:
                self._ended_jobs[previous_job.id] = previous_job
            self._reporter.report_adopted(job, previous_job)
            self._report_submission(submission, previous_job)
            return None
        if ended:
            self._previous_jobs.claim(key.outputs_digest)
            return self._builder.build(job, str(key), shellcmd)
        submission = self._builder.build(job, str(key), shellcmd)
        self._reporter.report_replaced(job, previous_job)
        return replace(submission, waits_for=previous_job.id)

    def _is_unrecorded_success(self, job: Any, ended_job: Job) -> bool:
        succeeded = ended_job.outcome is not None and ended_job.outcome.ok
        return succeeded and self._executor.unrecorded_success(job, ended_job)

    def _prepare_and_register(self, submissions: list[Submission]) -> list[Submission]:
        """Prepare direct jobs, record all keys in Snakemake, and return what can be submitted."""
        direct = [submission for submission in submissions if submission.direct]
        results = self._executor.prepare([submission.job for submission in direct])
        problems = dict(
            zip((submission.invocation.key for submission in direct), results, strict=True)
        )
        ready = []
        for submission in submissions:
            problem = problems.get(submission.invocation.key)
            if problem is None:
                try:
                    # Before the job is submitted. Otherwise, if this process is killed, the next
                    # start takes an incomplete output for a complete one.
                    submission.job.register(external_jobid=submission.invocation.key)
                except Exception as error:  # noqa: BLE001 (one job must not affect the others)
                    problem = error
            if problem is None:
                ready.append(submission)
            else:
                self._report_not_submitted(submission.job, _error_message(problem))
        return ready

    def _submit_pending(self) -> None:
        """Submit all pending jobs. A later poll retries those that could not be submitted."""
        if self._stopped:
            return
        if self._blocked:
            self._remove_replaced()
        if self._pending:
            self._submit_batch()
        self._next_retry_at = time.monotonic() + RETRY_INTERVAL_S

    def _remove_replaced(self) -> None:
        """Remove the previous jobs for whose end submissions wait."""
        try:
            self._runner.remove(self._blocked, "the rule has changed")
        except access_point_errors() as error:
            self._reporter.report_unreachable(error)

    def _submit_batch(self) -> None:
        result = submit_batch(self._runner, self._pending)
        self._pending = result.deferred
        for submission, message in result.rejected:
            self._report_not_submitted(submission.job, message)
        if result.problem is not None:
            self._reporter.report_unreachable(result.problem)
        elif result.submitted:
            self._reporter.report_reachable()
        if result.submitted:
            self._reporter.report_submitted(result.submitted)
        for submission, job in result.submitted:
            self._report_submission(submission, job)

    def _report_submission(self, submission: Submission, job: Job) -> None:
        self._reporter.register(submission.job, job)
        info = SubmittedJobInfo(
            submission.job, str(job.id), {JOB_ID: job.id, SUBMISSION: submission}
        )
        self._executor.report_job_submission(info, register_job=False)

    def _poll_changes(self) -> None:
        """Poll the runner once. After an error, the next poll retries."""
        try:
            changes = self._runner.poll()
        except access_point_errors() as error:
            self._reporter.report_unreachable(error)
            return
        if not (self._pending or self._blocked):
            self._reporter.report_reachable()
        for change in changes:
            self._reporter.report_change(change)
            if change.job.state.ended:
                self._ended_jobs[change.job.id] = change.job

    def _report_if_ended(self, info: SubmittedJobInfo) -> bool:
        """Notify Snakemake if the job has ended, and return whether it has."""
        aux = info.aux or {}
        submission: Submission = aux[SUBMISSION]
        job = self._ended_jobs.pop(aux[JOB_ID], None)
        if job is None:
            return False
        self._reporter.unregister(job)
        if job.outcome is not None and job.outcome.ok:
            submission.remove_empty_streams()
            self._executor.report_job_success(info)
        else:
            message = failure_message(job, direct=submission.direct)
            self._report_failure(info, message, submission.existing_streams)
        return True

    def _report_not_submitted(self, job: Any, message: str) -> None:
        """Notify Snakemake that a job could not be submitted."""
        self._report_failure(SubmittedJobInfo(job), f"Not submitted: {message.rstrip('.')}.", [])

    def _report_failure(self, info: SubmittedJobInfo, message: str, logs: list[str]) -> None:
        if info.job.is_group():
            # Snakemake does not show the message of a group.
            self._reporter.report_failed(info.job, message, logs)
        self._executor.report_job_error(info, msg=f"{message} ", aux_logs=logs)


def _make_runner(
    target: ExecutionTarget, run: WorkflowRun, access_point: AccessPointProcess
) -> MeteredRunner:
    """Raise WorkflowError if the runner's directory cannot be used."""
    from swarm_runner import InvalidInputError, MeteredRunner

    try:
        return MeteredRunner(
            target.destination,
            name=run.name,
            label=METRICS_LABEL,
            access_point=access_point,
            outage_timeout_s=OUTAGE_TIMEOUT_S,
        )
    except InvalidInputError as error:
        raise WorkflowError(f"swarm-runner: {error}") from error


def _error_message(error: BaseException) -> str:
    return str(error) or type(error).__name__
