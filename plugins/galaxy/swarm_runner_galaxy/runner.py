"""Galaxy's job runner: `load: swarm_runner_galaxy.runner:SwarmJobRunner`.

Three kinds of threads meet here. Galaxy's worker threads prepare jobs and use the database
(`finishing`). The submitter's thread submits them (`submitter`). Galaxy's monitor thread tracks the
jobs in the pool (`monitor`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from time import monotonic
from typing import Any
from weakref import WeakSet

from galaxy.exceptions import ConfigurationError
from galaxy.jobs.runners.util.job_script import ScriptIntegrityChecks
from pydantic import ValidationError

from swarm_runner import (
    Diagnostic,
    InvalidInputError,
    Job,
    JobQuery,
    MeteredRunner,
    MetricsServer,
    SwarmRunnerError,
    classify_keys,
    get_logger,
    parse_parameters,
)
from swarm_runner_galaxy import metrics
from swarm_runner_galaxy.config import RUNNER_PARAM_SPECS, RunnerConfig
from swarm_runner_galaxy.exposure import find_exposed_files
from swarm_runner_galaxy.finishing import DELETED_STATES, STATES, JobFinisher
from swarm_runner_galaxy.handlers import HandlerRegistry, build_record
from swarm_runner_galaxy.invocation import (
    SHELL,
    RawCommands,
    build_invocation,
    expand_cgroup_braces,
    find_image,
    slots_statement,
    variable_statements,
)
from swarm_runner_galaxy.keys import build_job_key
from swarm_runner_galaxy.metadata import MetadataSetter
from swarm_runner_galaxy.monitor import JobMonitor
from swarm_runner_galaxy.state import SwarmJobState
from swarm_runner_galaxy.submitter import BatchSubmitter
from swarm_runner_galaxy.work_queue import RetryQueue, StateUpdatesFirst, Step

__all__ = ("SwarmJobRunner",)
log = get_logger(__name__)
STOPPED_STATES = (STATES.STOPPED, STATES.STOPPING)
STOP_TIMEOUT_S = 5.0
MAX_LOGGED_KEYS = 100
# Until then, the first jobs after a boot have the processors. Most need nothing else.
WARM_UP_DELAY_S = 30.0
# Short: the submitter retries by itself, and other threads must not wait for a submission.
OUTAGE_TIMEOUT_S = 2.0

# The runners of this process. A Galaxy may have one for each of its pools.
_ACTIVE_RUNNERS: WeakSet[SwarmJobRunner] = WeakSet()


class SwarmJobRunner(JobFinisher):
    """Runs each tool in its own container, in HTCondor's docker universe on a Swarm pool."""

    runner_name = "SwarmJobRunner"

    def __init__(self, app: Any, nworkers: int | str, **kwargs: Any) -> None:
        """Create the runner, as Galaxy does when it boots.

        Raise ConfigurationError, which stops the boot, if the runner's section is invalid.
        """
        nworkers = int(nworkers)  # Galaxy passes a number in quotes as a text
        config = RunnerConfig(app, kwargs)
        self._work_queue = StateUpdatesFirst()
        super().__init__(app, nworkers, runner_param_specs=dict(RUNNER_PARAM_SPECS), **kwargs)
        self._config = config
        self._raw_commands: dict[str, Mapping[str, str]] = {}
        self._logged_keys: dict[str, set[str]] = {}  # by destination
        try:
            self._access_point = config.access_point()
            self._runner = MeteredRunner(
                config.destination,
                name=config.name,
                access_point=self._access_point,
                plugins=[RawCommands(self._raw_commands)],
                outage_timeout_s=OUTAGE_TIMEOUT_S,
            )
        except SwarmRunnerError as error:
            raise ConfigurationError(f"runners.{config.runner_id}: {error}") from error
        record = build_record(config, app.config.server_name, self._runner.event_log)
        self._handlers = HandlerRegistry(app.model.engine, config.runner_id, record)
        self._handlers.register()
        self._job_monitor = JobMonitor(
            self._runner, self._enqueue_step, self._requeue, app.config.job_runner_monitor_sleep
        )
        self._retry_queue = RetryQueue(self._enqueue_step)
        self._submitter = BatchSubmitter(
            self._runner, self._on_submitted, self._on_rejected, self._on_cancelled, self._is_queued
        )
        self._metadata_setter = MetadataSetter(
            lambda path: app.datatypes_registry.to_xml_file(path=path), nworkers
        )
        self._is_warm, self._warm_up_time = False, monotonic() + WARM_UP_DELAY_S
        self._metrics_server: MetricsServer | None = None
        metrics.register(app.job_metrics)
        log.info(
            "Runner created",
            runner=config.runner_id,
            name=config.name,
            pool=config.destination.pool.name,
            address=config.destination.pool.address,
        )
        for message in find_exposed_files(app.config, config.destination.pool):
            log.warning(
                f"Any tool may change Galaxy itself: {message}, which each job may write. Mount "
                "only directories that jobs need, or set read_only for that volume",
                runner=config.runner_id,
            )

    @property
    def work_queue(self) -> StateUpdatesFirst:
        """The queue of the worker threads."""
        return self._work_queue

    @work_queue.setter
    def work_queue(self, queue: object) -> None:
        """Ignore the plain queue that Galaxy assigns when it starts the threads."""

    @property
    def monitor_sleep_time(self) -> float:
        """Seconds between two polls: Galaxy's, or fewer while a poll only reads the event log."""
        return self._job_monitor.poll_interval_s

    def start(self) -> None:
        """Start the threads."""
        _ACTIVE_RUNNERS.add(self)
        super().start()
        self._submitter.start()
        self._serve_metrics()

    def shutdown(self) -> None:
        """Stop the threads. Jobs in the pool continue, and the next Galaxy finds them."""
        _ACTIVE_RUNNERS.discard(self)
        self._should_stop = True
        self._submitter.stop(STOP_TIMEOUT_S)
        # Ends the calls of threads that wait for an unreachable pool.
        self._access_point.close()
        super().shutdown()
        if self._metrics_server is not None:
            self._metrics_server.close()
        self._metadata_setter.close()
        self._runner.close()
        self._handlers.unregister()

    def _serve_metrics(self) -> None:
        """Serve the runner's metrics. Galaxy works without: of several handlers, one has a port."""
        address, pool = self._config.metrics_address, self._config.destination.pool.name
        if address is None:
            return
        source = f"runners.{self._config.runner_id}.metrics"
        try:
            self._metrics_server = MetricsServer.listen(
                pool, [self._runner.metrics.store], address, source
            )
        except SwarmRunnerError as error:
            log.warning(f"Metrics are not served: {error}", runner=self._config.runner_id)

    # What the other runners of the same Galaxy call.

    @property
    def polled(self) -> bool:
        """Whether this runner has polled its pool, even if the pool was unreachable."""
        return self._job_monitor.polled

    def adopt(self, job_wrapper: Any, job_key: str) -> bool:
        """Track a job that a previous Galaxy process submitted to this runner's pool.

        A dynamic rule may have chosen another runner for it since. Return whether the pool has the
        job.
        """
        jobs = self._runner.find(job_key) if self._job_monitor.is_recovered else []
        if not jobs:
            return False
        job = job_wrapper.get_job()
        # Galaxy sends later requests for the job to this runner. This change is committed together
        # with the job's ID in the pool.
        job.job_runner_name = self._config.runner_id
        state = SwarmJobState(job_wrapper, job_key, STATES.QUEUED, job_id=str(jobs[0].id))
        log.info("Adopted a job that is already in the pool", **state.log_fields)
        self._job_monitor.register(state)
        job_wrapper.set_external_id(state.job_id, job=job)
        self._apply_galaxy_state(state, job_wrapper.get_state())
        self._on_submitted(state, jobs[0])
        return True

    # What Galaxy calls.

    def queue_job(self, job_wrapper: Any) -> None:
        """Prepare a job and pass it to the submitter."""
        others = [runner for runner in _ACTIVE_RUNNERS if runner is not self]
        if not (self._job_monitor.is_recovered and all(other.polled for other in others)):
            # A previous Galaxy process may have submitted it. Only the pool has that information.
            self._job_monitor.park(job_wrapper)
            return
        job_key = build_job_key(job_wrapper)
        for runner in (self, *others):
            if runner.adopt(job_wrapper, job_key):
                return
        try:
            self._prepare(job_wrapper, job_key)
        except InvalidInputError as error:
            self._fail_before_submit(job_wrapper, error)

    def stop_job(self, job_wrapper: Any) -> None:
        """Remove a job from the pool, if it is there. The monitor removes many jobs at once."""
        job = job_wrapper.get_job()
        state = self._job_monitor.find(job_wrapper.get_id_tag())
        if state is not None:
            state.stopped_keep_outputs = job.state in STOPPED_STATES
            state.cancelled = True
            self._job_monitor.schedule_removal(state.key)
        elif job.job_runner_external_id is not None:
            self._job_monitor.schedule_removal(build_job_key(job_wrapper))

    def recover(self, job: Any, job_wrapper: Any) -> None:
        """Track a job that a previous Galaxy process submitted."""
        if job.job_runner_external_id is None:
            self.put(job_wrapper)
            return
        state = SwarmJobState(
            job_wrapper, build_job_key(job_wrapper), job.state, job_id=job.job_runner_external_id
        )
        self._apply_galaxy_state(state, job.state)
        self._job_monitor.track(state)
        if state.cancelled:
            self._job_monitor.schedule_removal(state.key)

    def check_watched_items(self) -> None:
        """Poll the pool, in the monitor thread. This does not query Galaxy's database."""
        if not self._should_stop:
            self._retry_queue.enqueue_due()
            self._job_monitor.poll()
            if not self._is_warm and monotonic() >= self._warm_up_time:
                self._warm_up()

    def _warm_up(self) -> None:
        """Start what sets metadata, so that no job has to wait for it."""
        self._is_warm = True
        if "celery" not in self.app.config.metadata_strategy:
            self._metadata_setter.warm_up()

    def _prepare(self, job_wrapper: Any, job_key: str) -> None:
        destination = job_wrapper.job_destination
        pool, name = self._config.destination.pool, destination.id or "destination"
        self._log_foreign_keys(name, destination.params)
        job_parameters = parse_parameters(destination.params, name, pool)
        destination.shell = SHELL
        if not self.prepare_job(
            job_wrapper, include_metadata=False, modify_command_for_container=False
        ):
            return
        if not self._is_warm and self._needs_metadata_server(job_wrapper, job_wrapper.get_job()):
            self._warm_up()
        allowed = job_parameters.singularity_to_docker
        image = find_image(job_wrapper, singularity_to_docker=allowed)
        state = SwarmJobState(job_wrapper, job_key, STATES.QUEUED)
        state.unpublished_container = job_wrapper.swarm_container
        script = self.get_job_file(
            job_wrapper,
            exit_code_path=state.exit_code_file,
            env_setup_commands=variable_statements(destination.params),
            slots_statement=slots_statement(job_parameters),
            memory_statement="",
            shell=SHELL,
            # The container has neither.
            galaxy_lib=None,
            galaxy_virtual_env=None,
        )
        # Galaxy runs a script once, to see that it can be executed. A shell reads this one.
        unchecked = ScriptIntegrityChecks(check_job_script_integrity=False)
        self.write_executable_script(state.job_file, expand_cgroup_braces(script), job_io=unchecked)
        try:
            invocation = build_invocation(job_key, state, image, job_parameters)
        except ValidationError as error:
            raise InvalidInputError(
                Diagnostic(detail["msg"], path=str(detail["loc"][0]))
                for detail in error.errors(include_url=False)
            ) from error
        # From here on, stop_job finds the job. A user may have deleted it before.
        self._job_monitor.register(state)
        if job_wrapper.get_state() in (*DELETED_STATES, *STOPPED_STATES):
            self._job_monitor.unregister(state)
            self.clean_up(state)
            return
        if job_parameters.raw_commands:
            self._raw_commands[job_key] = job_parameters.raw_commands
        self._submitter.put(state, invocation)

    def _log_foreign_keys(self, destination: str, params: Mapping[str, Any]) -> None:
        """Log each key without effect once for each destination. None of them fails a job."""
        foreign = classify_keys(params, self._config.destination.pool)
        found = {*foreign.ignored, *(key for key, _ in foreign.warnings)}
        logged = self._logged_keys.setdefault(destination, set())
        # A rule may make up names without end.
        if found <= logged or len(logged) > MAX_LOGGED_KEYS:
            return
        for key, message in foreign.warnings:
            if key not in logged:
                log.warning(
                    "Destination has a key without effect",
                    destination=destination,
                    key=key,
                    reason=message,
                )
        ignored = sorted(set(foreign.ignored) - logged)
        if ignored:
            log.info(
                "Keys of other programs are ignored",
                destination=destination,
                keys=", ".join(ignored[:MAX_LOGGED_KEYS]),
            )
        logged |= found

    def _apply_galaxy_state(self, state: SwarmJobState, galaxy_state: str) -> None:
        """Note whether a user deleted or stopped the job while no Galaxy process tracked it."""
        state.stopped_keep_outputs |= galaxy_state in STOPPED_STATES
        state.cancelled |= galaxy_state in (*DELETED_STATES, *STOPPED_STATES)

    def _find_container(self, job_wrapper: Any, *args: Any, **kwargs: Any) -> Any:
        """Remember the container that Galaxy finds while it builds the command.

        It is written to the database later, together with the job's ID, to save a transaction.
        """
        job_wrapper.swarm_container = None
        job_wrapper.set_container = partial(setattr, job_wrapper, "swarm_container")
        # Galaxy's own way to find the ports of interactive tools: its program, run by the job.
        job_wrapper.container_monitor_command = lambda *_args, **_kwargs: None
        return super()._find_container(job_wrapper, *args, **kwargs)

    def _fail_before_submit(self, job_wrapper: Any, error: InvalidInputError) -> None:
        message = "; ".join(str(diagnostic) for diagnostic in error.diagnostics)
        log.error("Job is invalid", galaxy_job=job_wrapper.get_id_tag(), reason=message)
        job_wrapper.fail(f"This job could not be started: {message}")

    def _on_submitted(self, state: SwarmJobState, job: Job) -> None:
        self._raw_commands.pop(state.key, None)
        state.job_id = str(job.id)
        log.info("Job is in the pool", **state.log_fields, state=job.state)
        self._job_monitor.track(state)
        if state.cancelled:
            self._job_monitor.schedule_removal(state.key)

    def _on_rejected(self, state: SwarmJobState, error: InvalidInputError) -> None:
        self._raw_commands.pop(state.key, None)
        self._job_monitor.unregister(state)
        message = "; ".join(diagnostic.message for diagnostic in error.diagnostics)
        log.error("Job is rejected", **state.log_fields, reason=message)
        state.fail_message = f"This job could not be started: {message}"
        self._enqueue_step(Step.REJECT, state)

    def _on_cancelled(self, state: SwarmJobState) -> None:
        self._raw_commands.pop(state.key, None)
        self._job_monitor.unregister(state)
        log.info("Job was deleted before its submission", **state.log_fields)
        self._enqueue_step(Step.CLEAN_UP, state)

    def _is_queued(self, job_key: str) -> bool:
        query = JobQuery(runner_name=self._config.name, keys=[job_key])
        return bool(self._access_point.jobs(query, ("ClusterId", "ProcId")))

    def _enqueue_step(self, step: Step, state: SwarmJobState) -> None:
        self.work_queue.put((getattr(self, step), state))

    def _requeue(self, job_wrapper: Any) -> None:
        self.mark_as_queued(job_wrapper)
