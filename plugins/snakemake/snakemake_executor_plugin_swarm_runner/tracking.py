"""Sends jobs, follows them, and tells Snakemake of each what became of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo

from snakemake_executor_plugin_swarm_runner.earlier import Earlier
from snakemake_executor_plugin_swarm_runner.invocations import Call, Caller
from snakemake_executor_plugin_swarm_runner.runs import Run
from snakemake_executor_plugin_swarm_runner.sending import send, troubles
from snakemake_executor_plugin_swarm_runner.sites import Site
from snakemake_executor_plugin_swarm_runner.telling import Teller, said_of

if TYPE_CHECKING:
    from snakemake_executor_plugin_swarm_runner.executor import Executor
    from swarm_runner import Job, JobId, Runner
    from swarm_runner.condor.apart import AccessPointApart

# Between two tries to reach an access point that is away, in seconds.
RETRY_S = 5.0
# For how long one try may reconcile, and removed jobs may take to go.
PATIENCE_S, REMOVAL_S = 10.0, 60.0
# In SubmittedJobInfo.aux.
ID, CALL = "id", "call"


class Tracker:
    """Follows the jobs of one run. The scheduler's thread sends, another one looks."""

    def __init__(self, site: Site, run: Run, caller: Caller, executor: Executor) -> None:
        self._site = site
        self._run = run
        self._caller = caller
        self._executor = executor
        self._teller = Teller(executor.logger)
        self._lock = threading.RLock()
        self._access_point = site.access_point()
        self._runner = _runner(site, run, self._access_point)
        self._earlier = Earlier([])
        self._unsent: list[Call] = []
        # Calls that would write to the same files as a job of an earlier run, until it has ended.
        self._behind: dict[JobId, Call] = {}
        self._next_try_at = 0.0
        # Jobs that have ended, until Snakemake has been told.
        self._ended: dict[JobId, Job] = {}
        self._stopped = False

    def open(self) -> None:
        """Reach the access point, and find what a run that was killed has left there.

        Raises WorkflowError when nobody answers.
        """
        from swarm_runner import SwarmRunnerError

        runner = self._runner
        try:
            self._earlier = Earlier(runner.recover() if self._run.resumed else runner.jobs())
        except SwarmRunnerError as error:
            raise WorkflowError(
                f"swarm-runner: {error} A pool is brought up with `swarm-runner pool up "
                "--job-conf FILE`; the same file goes to --swarm-runner-job-conf, or its name "
                "into SWARM_RUNNER_JOB_CONF."
            ) from error
        if self._run.resumed:
            self._teller.resumes(self._run.name, self._earlier.active, self._run.others)

    @property
    def polling(self) -> bool:
        """Whether a look asks the access point."""
        return not self._site.shared or self._runner.event_log is None

    def send(self, jobs: Sequence[Any]) -> None:
        """Submit jobs together; those of a run that was killed are taken up instead."""
        with self._lock:
            calls = []
            for job in jobs:
                try:
                    call = self._call(job)
                except Exception as error:  # noqa: BLE001 (one job's trouble is that job's alone)
                    self._fail(job, _said(error))
                else:
                    if call is not None:
                        calls.append(call)
            for call in self._prepared(calls):
                if call.after is None:
                    self._unsent.append(call)
                else:
                    self._earlier.take(call.place)
                    self._behind[call.after] = call
            self._go_on()

    def look(self, active: list[SubmittedJobInfo]) -> list[SubmittedJobInfo]:
        """Tell Snakemake what has ended; those that have not."""
        with self._lock:
            if self._stopped:
                return active
            self._learn()
            freed = [which for which in self._behind if which in self._ended]
            for which in freed:
                del self._ended[which]
                self._unsent.append(self._behind.pop(which))
            if freed or time.monotonic() >= self._next_try_at:
                self._go_on()
            if not self._ended:
                return active
            return [info for info in active if not self._tell(info)]

    def remove_all(self) -> None:
        """Take every job of this run out of the queue, and wait until they are gone."""
        self._stopped = True
        try:
            # A look that is on its way may still submit; after it nobody does.
            with self._lock:
                self._unsent.clear()
                self._behind.clear()
                count = self._runner.remove_all("the workflow was stopped")
        except troubles() as error:
            self._teller.cannot_remove(error)
            return
        self._teller.removes(count)
        try:
            jobs = self._runner.wait(timeout_s=REMOVAL_S)
        except troubles() as error:
            self._teller.cannot_see_them_go(error)
        else:
            self._teller.are_not_gone(sum(not job.state.ended for job in jobs), REMOVAL_S)

    def close(self) -> None:
        """Forget a run of which nothing is left; one with jobs can be taken up again."""
        try:
            if self._left and not self._stopped:
                self.remove_all()
            left = self._left
        except troubles():
            left = True
        self._end(leave=left)

    def abandon(self) -> None:
        """Leave without having asked for anything."""
        self._end(leave=self._run.resumed)

    @property
    def _left(self) -> bool:
        return any(not job.state.ended for job in self._runner.jobs())

    def _end(self, *, leave: bool) -> None:
        self._runner.close()
        self._access_point.close()
        if leave:
            self._run.leave()
        else:
            self._runner.discard()
            self._run.end()

    def _call(self, job: Any) -> Call | None:
        """The job's call; None when it was submitted by a run that was killed."""
        shellcmd = None if job.is_group() else job.shellcmd
        key = self._earlier.next_key(job, shellcmd)
        before = self._earlier.latest(key.place)
        if before is None:
            return self._caller.call(job, str(key), shellcmd)
        old, ended = before.job, before.job.state.ended
        if before.key.work == key.work and (not ended or self._unseen(job, old)):
            call = self._caller.call(job, str(before.key), shellcmd)
            self._earlier.take(key.place)
            if ended:
                self._ended[old.id] = old
            self._teller.takes_up(job, old)
            self._submitted(call, old)
            return None
        if ended:
            self._earlier.take(key.place)
            return self._caller.call(job, str(key), shellcmd)
        call = self._caller.call(job, str(key), shellcmd)
        self._teller.replaces(job, old)
        return replace(call, after=old.id)

    def _unseen(self, job: Any, ended: Job) -> bool:
        good = ended.outcome is not None and ended.outcome.ok
        return good and self._executor.unseen(job, ended)

    def _prepared(self, calls: list[Call]) -> list[Call]:
        """Those that may be sent."""
        direct = [call for call in calls if call.direct]
        found = self._executor.prepare([call.job for call in direct])
        troubles = dict(zip((call.invocation.key for call in direct), found, strict=True))
        ready = []
        for call in calls:
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
                self._fail(call.job, _said(trouble))
        return ready

    def _go_on(self) -> None:
        """Send what is not sent yet; what nobody takes now, a later look tries again."""
        if self._stopped:
            return
        if self._behind:
            self._clear_way()
        if self._unsent:
            self._submit()
        self._next_try_at = time.monotonic() + RETRY_S

    def _clear_way(self) -> None:
        """Remove jobs whose rules have changed since. Once they have ended others may begin."""
        try:
            self._runner.remove(self._behind, "the rule has changed since")
        except troubles() as error:
            self._teller.is_away(error)

    def _submit(self) -> None:
        sent = send(self._runner, self._unsent)
        self._unsent = sent.late
        for call, why in sent.refused:
            self._fail(call.job, why)
        if sent.trouble is not None:
            self._teller.is_away(sent.trouble)
        elif sent.queued:
            self._teller.is_back()
        if sent.queued:
            self._teller.submits(sent.queued)
        for call, job in sent.queued:
            self._submitted(call, job)

    def _submitted(self, call: Call, job: Job) -> None:
        self._teller.follows(call.job, job)
        info = SubmittedJobInfo(call.job, str(job.id), {ID: job.id, CALL: call})
        self._executor.report_job_submission(info, register_job=False)

    def _learn(self) -> None:
        """Look once at what has changed. What goes wrong now may go well at the next look."""
        try:
            changes = self._runner.poll()
        except troubles() as error:
            self._teller.is_away(error)
            return
        if not (self._unsent or self._behind):
            self._teller.is_back()
        for change in changes:
            self._teller.tells(change)
            if change.job.state.ended:
                self._ended[change.job.id] = change.job

    def _tell(self, info: SubmittedJobInfo) -> bool:
        """Tell Snakemake of a job if it has ended."""
        aux = info.aux or {}
        job, call = self._ended.pop(aux[ID], None), aux[CALL]
        if job is None:
            return False
        self._teller.forgets(job)
        if job.outcome is not None and job.outcome.ok:
            call.drop_empty_streams()
            self._executor.report_job_success(info)
        else:
            self._failed(info, said_of(job, direct=call.direct), call.written_streams)
        return True

    def _fail(self, job: Any, message: str) -> None:
        """Tell Snakemake of a job that could not be submitted."""
        self._failed(SubmittedJobInfo(job), f"Not submitted: {message.rstrip('.')}.", [])

    def _failed(self, info: SubmittedJobInfo, message: str, logs: list[str]) -> None:
        if info.job.is_group():
            # Snakemake shows no message of a group's.
            self._teller.fails(info.job, message, logs)
        self._executor.report_job_error(info, msg=f"{message} ", aux_logs=logs)


def _runner(site: Site, run: Run, access_point: AccessPointApart) -> Runner:
    """Raises WorkflowError when its state cannot be kept."""
    from swarm_runner import InvalidInputError, Runner

    try:
        return Runner(
            site.destination, name=run.name, access_point=access_point, patience_s=PATIENCE_S
        )
    except InvalidInputError as error:
        raise WorkflowError(f"swarm-runner: {error}") from error


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__
