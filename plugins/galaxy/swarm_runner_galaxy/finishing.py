"""The steps that Galaxy's worker threads take for jobs in the pool: telling, finishing, failing."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from galaxy import model
from galaxy.jobs.runners import AsynchronousJobRunner

from swarm_runner.model.job import OutcomeKind
from swarm_runner_galaxy import metrics, runner_states
from swarm_runner_galaxy.metadata import MetadataSetter
from swarm_runner_galaxy.monitor import JobMonitor
from swarm_runner_galaxy.retry_queue import RetryQueue
from swarm_runner_galaxy.state import SwarmJobState

log = logging.getLogger(__name__)
STATES = model.Job.states
DELETED_STATES = (STATES.DELETED, STATES.DELETING)


class JobFinisher(AsynchronousJobRunner):  # type: ignore[misc]
    """What touches Galaxy's database once a job has been sent."""

    _job_monitor: JobMonitor
    _retry_queue: RetryQueue
    _metadata_setter: MetadataSetter

    def publish_state(self, state: SwarmJobState) -> None:
        """Tell Galaxy what has become of a job, as far as that is news."""
        self._run_step("advance", self._publish_state, state)

    def complete(self, state: SwarmJobState) -> None:
        """A job has ended in the pool: finish it, fail it, or drop it."""
        self._run_step("conclude", self._complete, state)

    def clean_up(self, state: SwarmJobState) -> None:
        """Somebody deleted the job: only its files are left to see to."""
        self._run_step("discard", self._clean_up, state)

    def reject(self, state: SwarmJobState) -> None:
        """The pool refuses the job for good."""
        self._run_step("reject", lambda state: state.job_wrapper.fail(state.fail_message), state)

    def check_limits(self, state: SwarmJobState) -> None:
        """Galaxy's own limits, of job_conf's `limits` and of the tool."""
        try:
            # Galaxy looks at every twentieth call, and this one is asked for less often.
            state.check_count = 19
            if not state.closed and state.check_limits():
                self.fail_job(state)
        finally:
            state.limits_check_queued = False

    def finish_job(self, job_state: SwarmJobState) -> None:
        """Collect what a job has made."""
        self._set_metadata(job_state)
        self._record_metrics(job_state)
        super().finish_job(job_state)

    def fail_job(
        self,
        job_state: Any,
        exception: bool = False,
        message: str = "Job failed",
        full_status: dict[str, Any] | None = None,
    ) -> None:
        """End a job that did not end by itself, with what it has said so far.

        Galaxy calls it too, with a state of its own, for a job whose step has raised.
        """
        wrapper = job_state.job_wrapper
        state = job_state
        if not isinstance(state, SwarmJobState):
            state = self._job_monitor.find(wrapper.get_id_tag())
        if state is None:
            super().fail_job(job_state, exception, message, full_status)
            return
        with state.lock:
            if state.closed:
                return
            # What the pool says of this attempt is no news any more: the next may use the files.
            self._job_monitor.unregister(state)
            if job_state.stop_job and state.ended_job is None:
                state.cancelled = True
                self._job_monitor.schedule_removal(state.key)
            if full_status is None:
                full_status = self._read_streams(wrapper)
            super().fail_job(job_state, exception, message, full_status)
            state.closed = True

    def mark_as_failed(self, job_state: Any) -> None:
        """Galaxy's, while it collects a job: in this step, not in one of its own."""
        self.fail_job(job_state)

    def _run_step(
        self, step_name: str, step: Callable[[SwarmJobState], None], state: SwarmJobState
    ) -> None:
        """One step of a job, after the others. One that raises is taken again after a pause."""
        with state.lock:
            if state.closed:
                return
            try:
                step(state)
            except Exception as error:
                with contextlib.suppress(Exception):  # the database may be away
                    self.sa_session.rollback()
                if self._should_stop:
                    log.info("(%s) is left to the next Galaxy: %r", state.key, error)
                    return
                if not self._retry_queue.put(step_name, state):
                    raise
                log.warning(
                    "(%s/%s) Trouble with the step %s; it is tried again: %r",
                    state.job_wrapper.get_id_tag(),
                    state.job_id,
                    step_name,
                    error,
                    exc_info=state.failed_attempts == 1,
                )
            else:
                state.failed_attempts = 0

    def _publish_state(self, state: SwarmJobState) -> None:
        """All that is news is one transaction."""
        wrapper, wanted, why = state.job_wrapper, state.galaxy_state, state.info
        news = state.ended_job is None and (wanted, why) != state.published
        if state.id_published and not news:
            return
        job = wrapper.get_job()
        if not state.id_published:
            wrapper.set_external_id(state.job_id, job=job, flush=False)
        if news:
            wrapper.change_state(wanted, info=why or False, flush=False, job=job)
        if state.unpublished_container is None:
            self.sa_session.commit()
        else:
            type(wrapper).set_container(wrapper, state.unpublished_container)  # which commits
        state.id_published, state.unpublished_container = True, None
        if news:
            state.published = (wanted, why)

    def _complete(self, state: SwarmJobState) -> None:
        if state.failed_attempts and not state.cancelled and state.job_wrapper.get_job().finished:
            state.closed = True  # the try before has failed when its work was done
            return
        self._publish_state(state)
        outcome = state.outcome
        if state.cancelled and not state.stopped_keep_outputs:
            self._clean_up(state)
        elif state.stopped_keep_outputs or (
            outcome.kind is OutcomeKind.EXITED and Path(state.exit_code_file).exists()
        ):
            self.finish_job(state)
        else:
            log.warning("(%s/%s) %s", state.job_wrapper.get_id_tag(), state.job_id, outcome.message)
            state.runner_state = runner_states.runner_state(
                outcome, schedd_escalates=state.schedd_escalates
            )
            state.fail_message = runner_states.user_message(outcome)
            state.stop_job = False
            self._record_metrics(state)
            self.fail_job(state)
        state.closed = True

    def _clean_up(self, state: SwarmJobState) -> None:
        if state.job_wrapper.cleanup_job in ("always", "onsuccess"):
            state.job_wrapper.cleanup()

    def _set_metadata(self, state: SwarmJobState) -> None:
        wrapper = state.job_wrapper
        job = wrapper.get_job()
        if state.metadata_set or job.state in (STATES.ERROR, *DELETED_STATES):
            return
        strategy = wrapper.metadata_strategy
        if "celery" in strategy:
            self._handle_metadata_externally(wrapper, resolve_requirements=True)
        else:
            wrapper.setup_external_metadata(
                output_fnames=wrapper.job_io.get_output_fnames(),
                # Galaxy commits for this, and loads the job anew.
                set_extension=any(output.dataset.ext == "auto" for output in job.output_datasets),
                tmp_dir=wrapper.working_directory,
                datatypes_config=self._metadata_setter.datatypes_path,
                include_command=False,
                # What was copied over when the outputs were made stays.
                kwds={"overwrite": False},
            )
            self._metadata_setter.set_metadata(
                wrapper.working_directory, extended="extended" in strategy
            )
        state.metadata_set = True

    def _record_metrics(self, state: SwarmJobState) -> None:
        if state.ended_job is not None:
            metrics.record_metrics(self.sa_session, state.job_wrapper.get_job().id, state.ended_job)

    def _read_streams(self, job_wrapper: Any) -> dict[str, str]:
        """What the tool has written so far."""
        found = {}
        for name in ("stdout", "stderr"):
            file = Path(job_wrapper.working_directory, "outputs", f"tool_{name}")
            if file.exists():
                with file.open("rb") as stream:
                    found[name] = self._job_io_for_db(stream)
        return found
