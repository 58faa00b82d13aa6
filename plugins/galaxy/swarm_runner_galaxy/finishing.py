"""The steps that Galaxy's worker threads run for jobs in the pool.

Everything that uses Galaxy's database after the submission is here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from galaxy import model
from galaxy.jobs.runners import AsynchronousJobRunner
from sqlalchemy.exc import SQLAlchemyError
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_delay,
    wait_exponential,
)

from swarm_runner import OutcomeKind, get_logger
from swarm_runner_galaxy import entry_points, metrics, runner_states
from swarm_runner_galaxy.metadata import MetadataSetter
from swarm_runner_galaxy.monitor import JobMonitor
from swarm_runner_galaxy.small_texts import may_set_metadata
from swarm_runner_galaxy.state import SwarmJobState
from swarm_runner_galaxy.work_queue import RetryQueue, Step

log = get_logger(__name__)
STATES = model.Job.states
DELETED_STATES = (STATES.DELETED, STATES.DELETING)
# Galaxy checks a job's limits at every twentieth call.
_CALLS_BEFORE_LIMITS_CHECK = 19
# How long a worker thread waits for the database before it begins a step.
DATABASE_TIMEOUT_S = 300.0
DATABASE_MAX_BACKOFF_S = 5.0


class JobFinisher(AsynchronousJobRunner):  # type: ignore[misc]
    """Publishes the states of jobs, finishes them, and fails them."""

    _job_monitor: JobMonitor
    _retry_queue: RetryQueue
    _metadata_setter: MetadataSetter

    def publish_state(self, state: SwarmJobState) -> None:
        """Write the job's state and its ID in the pool to Galaxy's database, if they changed."""
        self._run_step(Step.PUBLISH_STATE, self._publish_state, state)

    def complete(self, state: SwarmJobState) -> None:
        """Finish, fail or clean up a job that has ended in the pool."""
        self._run_step(Step.COMPLETE, self._complete, state)

    def clean_up(self, state: SwarmJobState) -> None:
        """Remove the files of a job that a user deleted before its submission."""
        self._run_step(Step.CLEAN_UP, self._clean_up, state)

    def reject(self, state: SwarmJobState) -> None:
        """Fail a job that the access point does not accept."""
        self._run_step(Step.REJECT, lambda state: state.job_wrapper.fail(state.fail_message), state)

    def configure_entry_points(self, state: SwarmJobState) -> None:
        """Write to Galaxy's database where the ports of an interactive tool are."""
        self._run_step(Step.CONFIGURE_ENTRY_POINTS, self._configure_entry_points, state)

    def check_limits(self, state: SwarmJobState) -> None:
        """Fail a job that exceeds Galaxy's own limits: job_conf's `limits`, or the tool's."""
        try:
            state.check_count = _CALLS_BEFORE_LIMITS_CHECK
            if not state.closed and state.check_limits():
                self.fail_job(state)
        finally:
            state.limits_check_queued = False

    def finish_job(self, job_state: SwarmJobState) -> None:
        """Collect the outputs of a job whose script ran to its end."""
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
        """Fail a job whose script did not run to its end, with the output that it has written.

        Galaxy also calls this method, with a job state of its own, for a job whose step raised an
        exception.
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
            # Ignore further changes of this attempt: the next attempt may use its files.
            self._job_monitor.unregister(state)
            # Galaxy 25.0 gives this attribute to some states only.
            if getattr(job_state, "stop_job", True) and state.ended_job is None:
                state.cancelled = True
                self._job_monitor.schedule_removal(state.key)
            if full_status is None:
                full_status = self._read_streams(wrapper)
            super().fail_job(job_state, exception, message, full_status)
            state.closed = True

    def mark_as_failed(self, job_state: Any) -> None:
        """Fail a job at once. Galaxy calls this method while it finishes the job."""
        self.fail_job(job_state)

    def _ensure_db_session(self, arg: Any) -> None:
        """Wait for the database before a step.

        Galaxy does not expect an error here: its worker thread would end, and the step be lost.
        """
        timed_out = stop_after_delay(DATABASE_TIMEOUT_S)
        Retrying(
            retry=retry_if_exception_type(SQLAlchemyError),
            wait=wait_exponential(max=DATABASE_MAX_BACKOFF_S),
            stop=lambda attempt: self._should_stop or timed_out(attempt),
            before_sleep=self._roll_back,
            retry_error_callback=self._roll_back,  # the step itself raises, and is retried
        )(super()._ensure_db_session, arg)

    def _roll_back(self, attempt: RetryCallState) -> None:
        """End the session's transaction, whose connection is gone. Log the first failure."""
        with contextlib.suppress(SQLAlchemyError):
            self.sa_session.rollback()
        if attempt.attempt_number == 1 and attempt.outcome is not None:
            log.warning(
                "Galaxy's database does not answer; a worker thread waits for it",
                error=repr(attempt.outcome.exception()),
            )

    def _run_step(
        self, name: Step, function: Callable[[SwarmJobState], None], state: SwarmJobState
    ) -> None:
        """Run a step of a job after the job's other steps. Schedule a retry if it raises."""
        with state.lock:
            if state.closed:
                return
            try:
                function(state)
            except Exception as error:
                with contextlib.suppress(Exception):  # the database may be unreachable
                    self.sa_session.rollback()
                if self._should_stop:
                    log.info(
                        "Galaxy stops; the step runs again after the next start",
                        **state.log_fields,
                        step=name,
                        error=repr(error),
                    )
                    return
                if not self._retry_queue.put(name, state):
                    raise
                log.warning(
                    "Step failed and is retried",
                    **state.log_fields,
                    step=name,
                    attempt=state.failed_attempts,
                    error=repr(error),
                    exc_info=state.failed_attempts == 1,
                )
            else:
                state.failed_attempts = 0

    def _publish_state(self, state: SwarmJobState) -> None:
        """Write all changes in one transaction."""
        wrapper, current = state.job_wrapper, (state.galaxy_state, state.info)
        changed = state.ended_job is None and current != state.published
        if state.id_published and not changed:
            return
        job = wrapper.get_job()
        if not state.id_published:
            wrapper.set_external_id(state.job_id, job=job, flush=False)
        if changed:
            galaxy_state, info = current
            wrapper.change_state(galaxy_state, info=info or False, flush=False, job=job)
            if info and galaxy_state == state.published[0]:
                # Galaxy passes a job's info on to its outputs only when the job's state changes.
                job.update_output_states(self.app.application_stack.supports_skip_locked())
        if state.unpublished_container is None:
            self.sa_session.commit()
        else:
            type(wrapper).set_container(wrapper, state.unpublished_container)  # this commits
        state.id_published, state.unpublished_container = True, None
        if changed:
            state.published = current
            galaxy_state, info = state.published
            log.info(
                "Job state published",
                **state.log_fields,
                state=STATES(galaxy_state).value,
                info=info,
            )

    def _complete(self, state: SwarmJobState) -> None:
        if state.failed_attempts and not state.cancelled and state.job_wrapper.get_job().finished:
            state.closed = True  # the previous attempt failed after it had finished the job
            return
        self._publish_state(state)
        outcome = state.outcome
        if state.cancelled and not state.stopped_keep_outputs:
            log.info("Deleted job has ended", **state.log_fields)
            self._clean_up(state)
        elif state.stopped_keep_outputs or (
            outcome.kind is OutcomeKind.EXITED and Path(state.exit_code_file).exists()
        ):
            log.info("Job ended", **state.log_fields, outcome=outcome.kind)
            self.finish_job(state)
        else:
            log.warning(
                "Job failed", **state.log_fields, outcome=outcome.kind, reason=outcome.message
            )
            state.runner_state = runner_states.runner_state(
                outcome, schedd_escalates=state.schedd_escalates
            )
            state.fail_message = runner_states.user_message(outcome)
            state.stop_job = False
            self._record_metrics(state)
            self.fail_job(state)
        state.closed = True

    def _configure_entry_points(self, state: SwarmJobState) -> None:
        job, ports = state.job_wrapper.get_job(), state.published_ports
        entry_points.configure(self.app.interactivetool_manager, job, ports)
        addresses = ", ".join(port.address for port in ports) or "none"
        log.info("Entry points lead to", **state.log_fields, addresses=addresses)

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
        elif not self._needs_metadata_server(wrapper, job):
            # Galaxy asks whether it was set outside, and logs a failure for each output.
            wrapper.external_output_metadata.external_metadata_set_successfully = _is_not_set
        else:
            wrapper.setup_external_metadata(
                output_fnames=wrapper.job_io.get_output_fnames(),
                # Only where needed: Galaxy commits for this, and loads the job again.
                set_extension=any(output.dataset.ext == "auto" for output in job.output_datasets),
                tmp_dir=wrapper.working_directory,
                datatypes_config=self._metadata_setter.datatypes_path,
                include_command=False,
                # Keep the metadata that Galaxy copied when it created the outputs.
                kwds={"overwrite": False},
            )
            self._metadata_setter.set_metadata(
                wrapper.working_directory, extended="extended" in strategy
            )
        state.metadata_set = True

    def _needs_metadata_server(self, wrapper: Any, job: Any) -> bool:
        """Return whether neither celery nor Galaxy itself sets the metadata of a job."""
        strategy = wrapper.metadata_strategy
        return "celery" not in strategy and (
            "extended" in strategy or not may_set_metadata(wrapper, job)
        )

    def _record_metrics(self, state: SwarmJobState) -> None:
        if state.ended_job is not None:
            metrics.record_metrics(self.sa_session, state.job_wrapper.get_job().id, state.ended_job)

    def _read_streams(self, job_wrapper: Any) -> dict[str, str]:
        """Return what the tool has written to its standard output and standard error."""
        streams = {}
        for name in ("stdout", "stderr"):
            file = Path(job_wrapper.working_directory, "outputs", f"tool_{name}")
            if file.exists():
                with file.open("rb") as stream:
                    streams[name] = self._job_io_for_db(stream)
        return streams


def _is_not_set(*_args: Any, **_kwargs: Any) -> bool:
    return False
