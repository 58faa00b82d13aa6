"""Sends jobs, follows them, and tells Snakemake of each what became of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo

from snakemake_executor_plugin_swarm_runner.earlier import Earlier
from snakemake_executor_plugin_swarm_runner.invocations import Call, Caller
from snakemake_executor_plugin_swarm_runner.runs import Run
from snakemake_executor_plugin_swarm_runner.sites import Site
from snakemake_executor_plugin_swarm_runner.telling import Teller, said_of

if TYPE_CHECKING:
    from snakemake_executor_plugin_swarm_runner.executor import Executor
    from swarm_runner import InvalidInputError, Job, JobId, Runner

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
        self._runner = _runner(site, run)
        self._earlier = Earlier([])
        self._unsent: list[Call] = []
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
            self._unsent += self._prepared(calls)
            self._submit()

    def look(self, active: Sequence[SubmittedJobInfo]) -> list[SubmittedJobInfo]:
        """Tell Snakemake what has ended; those that have not."""
        with self._lock:
            if self._stopped:
                return list(active)
            self._learn()
            if self._unsent and time.monotonic() >= self._next_try_at:
                self._submit()
            still = []
            for info in active:
                aux = info.aux or {}
                job = self._ended.pop(aux[ID], None)
                if job is None:
                    still.append(info)
                else:
                    self._report(info, job)
            return still

    def remove_all(self) -> None:
        """Take every job of this run out of the queue, and wait until they are gone."""
        from swarm_runner import SwarmRunnerError

        self._stopped = True
        try:
            count = self._runner.remove_all("the workflow was stopped")
            self._teller.removes(count)
            self._runner.wait(timeout_s=REMOVAL_S)
        except SwarmRunnerError as error:
            self._teller.cannot_remove(error)

    def close(self) -> None:
        """Forget a run of which nothing is left; one with jobs can be taken up again."""
        from swarm_runner import SwarmRunnerError

        try:
            left = any(not job.state.ended for job in self._runner.jobs())
            if left and not self._stopped:
                self.remove_all()
                left = any(not job.state.ended for job in self._runner.jobs())
        except SwarmRunnerError:
            left = True
        self._runner.close()
        if left:
            self._run.leave()
        else:
            self._runner.discard()
            self._run.end()

    def abandon(self) -> None:
        """Leave without having asked for anything."""
        self._runner.close()
        if self._run.resumed:
            self._run.leave()
        else:
            self._runner.discard()
            self._run.end()

    def _call(self, job: Any) -> Call | None:
        """The job's call; None when it was submitted by a run that was killed."""
        shellcmd = None if job.is_group() else job.shellcmd
        key = self._earlier.next_key(job, shellcmd)
        before = self._earlier.take(key.place)
        if before is None:
            return self._caller.call(job, str(key), shellcmd)
        if before.key.work == key.work:
            attach = not before.job.state.ended
            if attach or (before.job.outcome and before.job.outcome.ok and self._unseen(job)):
                if not attach:
                    self._ended[before.job.id] = before.job
                self._teller.takes_up(job, before.job)
                self._submitted(self._caller.call(job, str(before.key), shellcmd), before.job)
                return None
        if not before.job.state.ended:
            # It would write to the same files.
            self._runner.remove([before.job.id], "the rule has changed since")
            self._runner.wait([before.job.id], timeout_s=REMOVAL_S)
        return self._caller.call(job, str(key), shellcmd)

    def _unseen(self, job: Any) -> bool:
        return self._executor.unseen(job)

    def _prepared(self, calls: list[Call]) -> list[Call]:
        """Those that may be sent."""
        direct = [call for call in calls if call.direct]
        troubles = self._executor.prepare([call.job for call in direct])
        failed = set()
        for call, trouble in zip(direct, troubles, strict=True):
            if trouble is not None:
                self._fail(call.job, _said(trouble))
                failed.add(call.invocation.key)
        ready = [call for call in calls if call.invocation.key not in failed]
        for call in ready:
            # Before it is sent: a run that is killed must not take half an output for a whole one.
            call.job.register(external_jobid=call.invocation.key)
        return ready

    def _submit(self) -> None:
        """Send what is not sent yet; what nobody takes now, a later look tries again."""
        if self._unsent:
            self._unsent = self._send(self._unsent)
            self._next_try_at = time.monotonic() + RETRY_S

    def _send(self, calls: list[Call]) -> list[Call]:
        """Submit, and refuse what is refused; those that nobody takes now."""
        from swarm_runner import (
            InvalidInputError,
            OutOfReachError,
            RefusedError,
            UnknownSubmitError,
        )

        if not calls:
            return []
        try:
            jobs = self._runner.submit([call.invocation for call in calls])
        except InvalidInputError as error:
            faults = _by_key(error)
            refused = [call for call in calls if call.invocation.key in faults]
            for call in refused:
                self._fail(call.job, "; ".join(faults[call.invocation.key]))
            if refused:
                return self._send([call for call in calls if call not in refused])
            if len(calls) > 1:
                return [late for call in calls for late in self._send([call])]
            self._fail(calls[0].job, str(error))
            return []
        except (OutOfReachError, RefusedError, UnknownSubmitError) as error:
            self._teller.is_away(error)
            return calls
        self._teller.is_back()
        self._teller.submits([call.job for call in calls], jobs)
        for call, job in zip(calls, jobs, strict=True):
            self._submitted(call, job)
        return []

    def _submitted(self, call: Call, job: Job) -> None:
        self._teller.follows(call.job, job)
        info = SubmittedJobInfo(call.job, str(job.id), {ID: job.id, CALL: call})
        self._executor.report_job_submission(info, register_job=False)

    def _learn(self) -> None:
        """Look once at what has changed."""
        from swarm_runner import OutOfReachError

        try:
            changes = self._runner.poll()
        except OutOfReachError as error:
            self._teller.is_away(error)
            return
        if not self._unsent:
            self._teller.is_back()
        for change in changes:
            self._teller.tells(change)
            if change.job.state.ended:
                self._ended[change.job.id] = change.job

    def _report(self, info: SubmittedJobInfo, job: Job) -> None:
        """Tell Snakemake of a job that has ended."""
        aux = info.aux or {}
        call: Call = aux[CALL]
        self._teller.forgets(job)
        if job.outcome is not None and job.outcome.ok:
            for stream in call.streams:
                _drop_if_empty(stream)
            self._executor.report_job_success(info)
        else:
            written = [str(stream) for stream in call.streams if stream.exists()]
            self._failed(info, said_of(job, direct=call.direct), written)

    def _fail(self, job: Any, message: str) -> None:
        """Tell Snakemake of a job that could not be submitted."""
        self._failed(SubmittedJobInfo(job), f"Not submitted: {message.rstrip('.')}.", [])

    def _failed(self, info: SubmittedJobInfo, message: str, logs: list[str]) -> None:
        if info.job.is_group():
            # Snakemake shows no message of a group's.
            self._teller.fails(info.job, message, logs)
        self._executor.report_job_error(info, msg=f"{message} ", aux_logs=logs)


def _runner(site: Site, run: Run) -> Runner:
    """Raises WorkflowError when its state cannot be kept."""
    from swarm_runner import InvalidInputError, Runner

    try:
        return Runner(site.destination, name=run.name, patience_s=PATIENCE_S)
    except InvalidInputError as error:
        raise WorkflowError(f"swarm-runner: {error}") from error


def _by_key(error: InvalidInputError) -> dict[str, list[str]]:
    """The faults of each invocation; a fault's place begins with its key."""
    faults: dict[str, list[str]] = {}
    for fault in error.faults:
        key, _, field = fault.where.partition(": ")
        faults.setdefault(key, []).append(f"{field}: {fault.message}" if field else fault.message)
    return faults


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _drop_if_empty(stream: Path) -> None:
    try:
        if stream.stat().st_size == 0:
            stream.unlink()
    except OSError:
        return  # it is another user's, or gone
