"""Sends jobs, follows them, and tells Snakemake of each what became of it."""

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
    from swarm_runner import Job, JobId, Runner
    from swarm_runner.condor.access_point_process import AccessPointProcess

# Between two tries to reach an access point that is away, in seconds.
RETRY_INTERVAL_S = 5.0
# For how long one try may reconcile, and removed jobs may take to go.
OUTAGE_TIMEOUT_S, REMOVAL_TIMEOUT_S = 10.0, 60.0
# In SubmittedJobInfo.aux.
JOB_ID, SUBMISSION = "id", "call"


class Tracker:
    """Follows the jobs of one run. The scheduler's thread sends, another one looks."""

    def __init__(
        self,
        target: ExecutionTarget,
        run: WorkflowRun,
        builder: InvocationBuilder,
        executor: Executor,
    ) -> None:
        self._target = target
        self._run = run
        self._builder = builder
        self._executor = executor
        self._reporter = Reporter(executor.logger)
        self._lock = threading.RLock()
        self._access_point = target.access_point()
        self._runner = _make_runner(target, run, self._access_point)
        self._previous_jobs = PreviousJobs([])
        self._pending: list[Submission] = []
        # Calls that would write to the same files as a job of an earlier run, until it has ended.
        self._blocked: dict[JobId, Submission] = {}
        self._next_retry_at = 0.0
        # Jobs that have ended, until Snakemake has been told.
        self._ended_jobs: dict[JobId, Job] = {}
        self._stopped = False

    def open(self) -> None:
        """Reach the access point, and find what a run that was killed has left there.

        Raises WorkflowError when nobody answers.
        """
        from swarm_runner import SwarmRunnerError

        runner = self._runner
        try:
            self._previous_jobs = PreviousJobs(
                runner.recover() if self._run.resumed else runner.jobs()
            )
        except SwarmRunnerError as error:
            raise WorkflowError(
                f"swarm-runner: {error} A pool is brought up with `swarm-runner pool up "
                "--job-conf FILE`; the same file goes to --swarm-runner-job-conf, or its name "
                "into SWARM_RUNNER_JOB_CONF."
            ) from error
        if self._run.resumed:
            self._reporter.report_resumed(
                self._run.name, self._previous_jobs.active_count, self._run.other_runs
            )

    @property
    def queries_access_point(self) -> bool:
        """Whether a look asks the access point."""
        return not self._target.shared or self._runner.event_log is None

    def submit(self, jobs: Sequence[Any]) -> None:
        """Submit jobs together; those of a run that was killed are taken up instead."""
        with self._lock:
            calls = []
            for job in jobs:
                try:
                    call = self._build_or_adopt(job)
                except Exception as error:  # noqa: BLE001 (one job's trouble is that job's alone)
                    self._report_not_submitted(job, _error_message(error))
                else:
                    if call is not None:
                        calls.append(call)
            for call in self._prepare_and_register(calls):
                if call.waits_for is None:
                    self._pending.append(call)
                else:
                    self._previous_jobs.claim(call.outputs_digest)
                    self._blocked[call.waits_for] = call
            self._submit_pending()

    def poll(self, active: list[SubmittedJobInfo]) -> list[SubmittedJobInfo]:
        """Tell Snakemake what has ended; those that have not."""
        with self._lock:
            if self._stopped:
                return active
            self._poll_changes()
            freed = [which for which in self._blocked if which in self._ended_jobs]
            for which in freed:
                del self._ended_jobs[which]
                self._pending.append(self._blocked.pop(which))
            if freed or time.monotonic() >= self._next_retry_at:
                self._submit_pending()
            if not self._ended_jobs:
                return active
            return [info for info in active if not self._report_if_ended(info)]

    def remove_all(self) -> None:
        """Take every job of this run out of the queue, and wait until they are gone."""
        self._stopped = True
        try:
            # A look that is on its way may still submit; after it nobody does.
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
        """Forget a run of which nothing is left; one with jobs can be taken up again."""
        try:
            if self._has_active_jobs and not self._stopped:
                self.remove_all()
            left = self._has_active_jobs
        except access_point_errors():
            left = True
        self._shut_down(keep_run=left)

    def abandon(self) -> None:
        """Leave without having asked for anything."""
        self._shut_down(keep_run=self._run.resumed)

    @property
    def _has_active_jobs(self) -> bool:
        return any(not job.state.ended for job in self._runner.jobs())

    def _shut_down(self, *, keep_run: bool) -> None:
        self._runner.close()
        self._access_point.close()
        if keep_run:
            self._run.release()
        else:
            self._runner.discard()
            self._run.delete()

    def _build_or_adopt(self, job: Any) -> Submission | None:
        """The job's call; None when it was submitted by a run that was killed."""
        shellcmd = None if job.is_group() else job.shellcmd
        key = self._previous_jobs.next_key(job, shellcmd)
        before = self._previous_jobs.latest(key.outputs_digest)
        if before is None:
            return self._builder.build(job, str(key), shellcmd)
        old, ended = before.job, before.job.state.ended
        if before.key.command_digest == key.command_digest and (
            not ended or self._is_unrecorded_success(job, old)
        ):
            call = self._builder.build(job, str(before.key), shellcmd)
            self._previous_jobs.claim(key.outputs_digest)
            if ended:
                self._ended_jobs[old.id] = old
            self._reporter.report_adopted(job, old)
            self._report_submission(call, old)
            return None
        if ended:
            self._previous_jobs.claim(key.outputs_digest)
            return self._builder.build(job, str(key), shellcmd)
        call = self._builder.build(job, str(key), shellcmd)
        self._reporter.report_replaced(job, old)
        return replace(call, after=old.id)

    def _is_unrecorded_success(self, job: Any, ended_job: Job) -> bool:
        good = ended_job.outcome is not None and ended_job.outcome.ok
        return good and self._executor.unrecorded_success(job, ended_job)

    def _prepare_and_register(self, submissions: list[Submission]) -> list[Submission]:
        """Those that may be sent."""
        direct = [call for call in submissions if call.direct]
        found = self._executor.prepare([call.job for call in direct])
        troubles = dict(zip((call.invocation.key for call in direct), found, strict=True))
        ready = []
        for call in submissions:
            trouble = troubles.get(call.invocation.key)
            if trouble is None:
                try:
                    # Before it is sent: a run that is killed must not take half an output for a
                    # whole one.
                    call.job.register(external_jobid=call.invocation.key)
                except Exception as error:  # noqa: BLE001 (one job's trouble is that job's alone)
                    trouble = error
            if trouble is None:
                ready.append(call)
            else:
                self._report_not_submitted(call.job, _error_message(trouble))
        return ready

    def _submit_pending(self) -> None:
        """Send what is not sent yet; what nobody takes now, a later look tries again."""
        if self._stopped:
            return
        if self._blocked:
            self._remove_replaced()
        if self._pending:
            self._submit_batch()
        self._next_retry_at = time.monotonic() + RETRY_INTERVAL_S

    def _remove_replaced(self) -> None:
        """Remove jobs whose rules have changed since. Once they have ended others may begin."""
        try:
            self._runner.remove(self._blocked, "the rule has changed since")
        except access_point_errors() as error:
            self._reporter.report_unreachable(error)

    def _submit_batch(self) -> None:
        sent = submit_batch(self._runner, self._pending)
        self._pending = sent.deferred
        for call, why in sent.rejected:
            self._report_not_submitted(call.job, why)
        if sent.problem is not None:
            self._reporter.report_unreachable(sent.problem)
        elif sent.submitted:
            self._reporter.report_reachable()
        if sent.submitted:
            self._reporter.report_submitted(sent.submitted)
        for call, job in sent.submitted:
            self._report_submission(call, job)

    def _report_submission(self, submission: Submission, job: Job) -> None:
        self._reporter.register(submission.job, job)
        info = SubmittedJobInfo(
            submission.job, str(job.id), {JOB_ID: job.id, SUBMISSION: submission}
        )
        self._executor.report_job_submission(info, register_job=False)

    def _poll_changes(self) -> None:
        """Look once at what has changed. What goes wrong now may go well at the next look."""
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
        """Tell Snakemake of a job if it has ended."""
        aux = info.aux or {}
        job, call = self._ended_jobs.pop(aux[JOB_ID], None), aux[SUBMISSION]
        if job is None:
            return False
        self._reporter.unregister(job)
        if job.outcome is not None and job.outcome.ok:
            call.drop_empty_streams()
            self._executor.report_job_success(info)
        else:
            self._report_failure(
                info, failure_message(job, direct=call.direct), call.written_streams
            )
        return True

    def _report_not_submitted(self, job: Any, message: str) -> None:
        """Tell Snakemake of a job that could not be submitted."""
        self._report_failure(SubmittedJobInfo(job), f"Not submitted: {message.rstrip('.')}.", [])

    def _report_failure(self, info: SubmittedJobInfo, message: str, logs: list[str]) -> None:
        if info.job.is_group():
            # Snakemake shows no message of a group's.
            self._reporter.report_failed(info.job, message, logs)
        self._executor.report_job_error(info, msg=f"{message} ", aux_logs=logs)


def _make_runner(
    target: ExecutionTarget, run: WorkflowRun, access_point: AccessPointProcess
) -> Runner:
    """Raises WorkflowError when its state cannot be kept."""
    from swarm_runner import InvalidInputError, Runner

    try:
        return Runner(
            target.destination,
            name=run.name,
            access_point=access_point,
            outage_timeout_s=OUTAGE_TIMEOUT_S,
        )
    except InvalidInputError as error:
        raise WorkflowError(f"swarm-runner: {error}") from error


def _error_message(error: BaseException) -> str:
    return str(error) or type(error).__name__
