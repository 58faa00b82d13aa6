"""Galaxy's job runner: `load: swarm_runner_galaxy.runner:SwarmJobRunner`.

Three kinds of threads meet here. Galaxy's worker threads prepare jobs, and do whatever touches
its database (`collecting`). The sender submits. Galaxy's monitor thread follows the pool
(`following`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any
from weakref import WeakSet

from galaxy.exceptions import ConfigurationError
from pydantic import ValidationError

from swarm_runner import Job, Runner
from swarm_runner.condor.ports import JobQuery
from swarm_runner.errors import Diagnostic, InvalidInputError, SwarmRunnerError
from swarm_runner_galaxy import container, metrics, parameters
from swarm_runner_galaxy.config import RUNNER_PARAM_SPECS, RunnerConfig
from swarm_runner_galaxy.finishing import DELETED_STATES, STATES, JobFinisher
from swarm_runner_galaxy.keys import build_job_key
from swarm_runner_galaxy.metadata import MetadataSetter
from swarm_runner_galaxy.monitor import JobMonitor
from swarm_runner_galaxy.raw_commands import RawCommands
from swarm_runner_galaxy.retry_queue import RetryQueue
from swarm_runner_galaxy.script import (
    SHELL,
    build_invocation,
    expand_cgroup_braces,
    slots_statement,
)
from swarm_runner_galaxy.state import SwarmJobState
from swarm_runner_galaxy.submitter import BatchSubmitter
from swarm_runner_galaxy.work_queue import StateUpdatesFirst

__all__ = ("SwarmJobRunner",)
log = logging.getLogger(__name__)
STOPPED_STATES = (STATES.STOPPED, STATES.STOPPING)
STOP_TIMEOUT_S = 5.0
# The sender tries again by itself. Whoever else asks the pool is not to wait for a submit.
OUTAGE_TIMEOUT_S = 2.0

# Those of this process: a Galaxy may have one for each of its pools.
_ACTIVE_RUNNERS: WeakSet[SwarmJobRunner] = WeakSet()


class SwarmJobRunner(JobFinisher):
    """Runs each tool in its own container, in HTCondor's docker universe on the Swarm pool."""

    runner_name = "SwarmJobRunner"

    def __init__(self, app: Any, nworkers: int, **kwargs: Any) -> None:
        """Galaxy's call. A wrong section raises ConfigurationError, which stops the boot."""
        section = RunnerConfig(app, kwargs)
        self._work_queue = StateUpdatesFirst()
        super().__init__(app, nworkers, runner_param_specs=dict(RUNNER_PARAM_SPECS), **kwargs)
        self._config = section
        self._raw_commands: dict[str, Mapping[str, str]] = {}
        try:
            self._access_point = section.access_point()
            self._runner = Runner(
                section.destination,
                name=section.name,
                access_point=self._access_point,
                plugins=[RawCommands(self._raw_commands)],
                outage_timeout_s=OUTAGE_TIMEOUT_S,
            )
        except SwarmRunnerError as error:
            raise ConfigurationError(f"runners.{section.runner_id}: {error}") from error
        self._job_monitor = JobMonitor(self._runner, self._enqueue_step, self._requeue)
        self._retry_queue = RetryQueue(self._enqueue_step)
        self._submitter = BatchSubmitter(
            self._runner, self._on_submitted, self._on_rejected, self._on_cancelled, self._is_queued
        )
        self._metadata_setter = MetadataSetter(
            lambda path: app.datatypes_registry.to_xml_file(path=path), nworkers
        )
        metrics.register(app.job_metrics)
        log.info(
            "Runner %s is %s in pool %s at %s",
            section.runner_id,
            section.name,
            section.destination.pool.name,
            section.destination.pool.address,
        )

    @property
    def work_queue(self) -> StateUpdatesFirst:
        """What the worker threads are to do."""
        return self._work_queue

    @work_queue.setter
    def work_queue(self, queue: object) -> None:
        """Galaxy brings a plain one when it starts the threads."""

    def start(self) -> None:
        """Start the threads."""
        _ACTIVE_RUNNERS.add(self)
        super().start()
        self._submitter.start()

    def shutdown(self) -> None:
        """Stop them. The jobs go on, and the next Galaxy finds them."""
        _ACTIVE_RUNNERS.discard(self)
        self._should_stop = True
        self._submitter.stop(STOP_TIMEOUT_S)
        # A pool that does not answer keeps no thread.
        self._access_point.close()
        super().shutdown()
        self._metadata_setter.close()
        self._runner.close()

    # What the runners of one Galaxy ask of each other.

    @property
    def polled(self) -> bool:
        """Whether the pool was asked what earlier Galaxies have sent, even if it is away."""
        return self._job_monitor.polled

    def adopt(self, job_wrapper: Any, job_key: str) -> bool:
        """Follow a job that an earlier Galaxy has sent to this runner's pool; whether there is one.

        Since then a rule may have chosen another runner for it.
        """
        found = self._runner.find(job_key) if self._job_monitor.is_recovered else []
        if not found:
            return False
        log.info("(%s) is in the pool already, as %s", job_wrapper.get_id_tag(), found[0].id)
        job = job_wrapper.get_job()
        # Galaxy asks this one to stop it; the number of the job in the pool is told with it.
        job.job_runner_name = self._config.runner_id
        state = SwarmJobState(job_wrapper, job_key, STATES.QUEUED, job_id=str(found[0].id))
        self._job_monitor.register(state)
        job_wrapper.set_external_id(state.job_id, job=job)
        self._apply_galaxy_state(state, job_wrapper.get_state())
        self._on_submitted(state, found[0])
        return True

    # What Galaxy asks of a runner.

    def queue_job(self, job_wrapper: Any) -> None:
        """Prepare a job and give it to the sender."""
        others = [runner for runner in _ACTIVE_RUNNERS if runner is not self]
        if not (self._job_monitor.is_recovered and all(other.polled for other in others)):
            # An earlier Galaxy may have sent it: only the pool knows.
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
        """Take a job out of the pool, if it is there. The monitor does it, for many at once."""
        job = job_wrapper.get_job()
        state = self._job_monitor.find(job_wrapper.get_id_tag())
        if state is not None:
            state.stopped_keep_outputs = job.state in STOPPED_STATES
            state.cancelled = True
            self._job_monitor.schedule_removal(state.key)
        elif job.job_runner_external_id is not None:
            self._job_monitor.schedule_removal(build_job_key(job_wrapper))

    def recover(self, job: Any, job_wrapper: Any) -> None:
        """Follow again a job that an earlier Galaxy has sent."""
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
        """The monitor's look at the pool. It asks Galaxy's database nothing."""
        if not self._should_stop:
            self._retry_queue.enqueue_due()
            self._job_monitor.poll()

    def _prepare(self, job_wrapper: Any, job_key: str) -> None:
        destination = job_wrapper.job_destination
        wanted = parameters.parse_parameters(
            destination.params, destination.id or "destination", self._config.destination.pool
        )
        destination.shell = SHELL
        if not self.prepare_job(
            job_wrapper, include_metadata=False, modify_command_for_container=False
        ):
            return
        image = container.find_image(job_wrapper)
        state = SwarmJobState(job_wrapper, job_key, STATES.QUEUED)
        state.unpublished_container = job_wrapper.swarm_container
        script = self.get_job_file(
            job_wrapper,
            exit_code_path=state.exit_code_file,
            slots_statement=slots_statement(wanted),
            memory_statement="",
            shell=SHELL,
            # Neither is in the container.
            galaxy_lib=None,
            galaxy_virtual_env=None,
        )
        self.write_executable_script(
            state.job_file, expand_cgroup_braces(script), job_io=job_wrapper.job_io
        )
        try:
            made = build_invocation(job_key, state, image, wanted)
        except ValidationError as error:
            raise InvalidInputError(
                Diagnostic(detail["msg"], path=str(detail["loc"][0]))
                for detail in error.errors(include_url=False)
            ) from error
        # Whoever deletes the job from now on finds it.
        self._job_monitor.register(state)
        if job_wrapper.get_state() in (*DELETED_STATES, *STOPPED_STATES):
            self._job_monitor.unregister(state)
            self.clean_up(state)
            return
        if wanted.raw_commands:
            self._raw_commands[job_key] = wanted.raw_commands
        self._submitter.put(state, made)

    def _apply_galaxy_state(self, state: SwarmJobState, galaxy_state: str) -> None:
        """Somebody may have deleted or stopped the job while nobody followed it."""
        state.stopped_keep_outputs |= galaxy_state in STOPPED_STATES
        state.cancelled |= galaxy_state in (*DELETED_STATES, *STOPPED_STATES)

    def _find_container(self, job_wrapper: Any, *args: Any, **kwargs: Any) -> Any:
        """Galaxy looks for it while it builds the command; once is enough.

        It is written down later, with other news: by itself it would be a transaction more.
        """
        job_wrapper.swarm_container = None
        job_wrapper.set_container = partial(setattr, job_wrapper, "swarm_container")
        return super()._find_container(job_wrapper, *args, **kwargs)

    def _fail_before_submit(self, job_wrapper: Any, error: InvalidInputError) -> None:
        said = "; ".join(str(fault) for fault in error.diagnostics)
        log.error("(%s) cannot run: %s", job_wrapper.get_id_tag(), said)
        job_wrapper.fail(f"This job could not be started: {said}")

    def _on_submitted(self, state: SwarmJobState, job: Job) -> None:
        self._raw_commands.pop(state.key, None)
        state.job_id = str(job.id)
        self._job_monitor.track(state)
        if state.cancelled:
            self._job_monitor.schedule_removal(state.key)

    def _on_rejected(self, state: SwarmJobState, error: InvalidInputError) -> None:
        self._raw_commands.pop(state.key, None)
        self._job_monitor.unregister(state)
        said = "; ".join(fault.message for fault in error.diagnostics)
        log.error("(%s) the pool refuses it: %s", state.job_wrapper.get_id_tag(), said)
        state.fail_message = f"This job could not be started: {said}"
        self._enqueue_step("reject", state)

    def _is_queued(self, job_key: str) -> bool:
        wanted = JobQuery(runner_name=self._config.name, keys=[job_key])
        return bool(self._access_point.jobs(wanted, ("ClusterId", "ProcId")))

    def _on_cancelled(self, state: SwarmJobState) -> None:
        self._raw_commands.pop(state.key, None)
        self._job_monitor.unregister(state)
        self._enqueue_step("discard", state)

    def _enqueue_step(self, step: str, state: SwarmJobState) -> None:
        self.work_queue.put((getattr(self, step), state))

    def _requeue(self, job_wrapper: Any) -> None:
        self.mark_as_queued(job_wrapper)
