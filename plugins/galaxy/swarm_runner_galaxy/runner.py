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
from swarm_runner.condor.port import Selection
from swarm_runner.errors import Fault, InvalidInputError, SwarmRunnerError
from swarm_runner_galaxy import container, metrics, parameters
from swarm_runner_galaxy.collecting import GONE, STATES, Collecting
from swarm_runner_galaxy.following import Following
from swarm_runner_galaxy.keys import key
from swarm_runner_galaxy.later import Later
from swarm_runner_galaxy.metadata import MetadataSetter
from swarm_runner_galaxy.raw import RawCommands
from swarm_runner_galaxy.script import SHELL, invocation, slots_statement, without_braces
from swarm_runner_galaxy.section import SPECIFICATIONS, Section
from swarm_runner_galaxy.sending import Sender
from swarm_runner_galaxy.state import SwarmJobState
from swarm_runner_galaxy.steps import NewsFirst

__all__ = ("SwarmJobRunner",)
log = logging.getLogger(__name__)
STOPPED = (STATES.STOPPED, STATES.STOPPING)
STOP_LIMIT_S = 5.0
# The sender tries again by itself. Whoever else asks the pool is not to wait for a submit.
PATIENCE_S = 2.0

# Those of this process: a Galaxy may have one for each of its pools.
_RUNNING: WeakSet[SwarmJobRunner] = WeakSet()


class SwarmJobRunner(Collecting):
    """Runs each tool in its own container, in HTCondor's docker universe on the Swarm pool."""

    runner_name = "SwarmJobRunner"

    def __init__(self, app: Any, nworkers: int, **kwargs: Any) -> None:
        """Galaxy's call. A wrong section raises ConfigurationError, which stops the boot."""
        section = Section(app, kwargs)
        self._steps = NewsFirst()
        super().__init__(app, nworkers, runner_param_specs=dict(SPECIFICATIONS), **kwargs)
        self._section = section
        self._raw: dict[str, Mapping[str, str]] = {}
        try:
            self._access_point = section.access_point()
            self._pool = Runner(
                section.destination,
                name=section.name,
                access_point=self._access_point,
                plugins=[RawCommands(self._raw)],
                patience_s=PATIENCE_S,
            )
        except SwarmRunnerError as error:
            raise ConfigurationError(f"runners.{section.runner_id}: {error}") from error
        self._following = Following(self._pool, self._work, self._again)
        self._later = Later(self._work)
        self._sender = Sender(self._pool, self._sent, self._refused, self._dropped, self._is_queued)
        self._metadata = MetadataSetter(
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
    def work_queue(self) -> NewsFirst:
        """What the worker threads are to do."""
        return self._steps

    @work_queue.setter
    def work_queue(self, queue: object) -> None:
        """Galaxy brings a plain one when it starts the threads."""

    def start(self) -> None:
        """Start the threads."""
        _RUNNING.add(self)
        super().start()
        self._sender.start()

    def shutdown(self) -> None:
        """Stop them. The jobs go on, and the next Galaxy finds them."""
        _RUNNING.discard(self)
        self._should_stop = True
        self._sender.stop(STOP_LIMIT_S)
        # A pool that does not answer keeps no thread.
        self._access_point.close()
        super().shutdown()
        self._metadata.close()
        self._pool.close()

    # What the runners of one Galaxy ask of each other.

    @property
    def looked(self) -> bool:
        """Whether the pool was asked what earlier Galaxies have sent, even if it is away."""
        return self._following.looked

    def adopt(self, job_wrapper: Any, job_key: str) -> bool:
        """Follow a job that an earlier Galaxy has sent to this runner's pool; whether there is one.

        Since then a rule may have chosen another runner for it.
        """
        found = self._pool.find(job_key) if self._following.opened else []
        if not found:
            return False
        log.info("(%s) is in the pool already, as %s", job_wrapper.get_id_tag(), found[0].id)
        job = job_wrapper.get_job()
        # Galaxy asks this one to stop it; the number of the job in the pool is told with it.
        job.job_runner_name = self._section.runner_id
        state = SwarmJobState(job_wrapper, job_key, STATES.QUEUED, job_id=str(found[0].id))
        self._following.expect(state)
        job_wrapper.set_external_id(state.job_id, job=job)
        self._notice(state, job_wrapper.get_state())
        self._sent(state, found[0])
        return True

    # What Galaxy asks of a runner.

    def queue_job(self, job_wrapper: Any) -> None:
        """Prepare a job and give it to the sender."""
        others = [runner for runner in _RUNNING if runner is not self]
        if not (self._following.opened and all(other.looked for other in others)):
            # An earlier Galaxy may have sent it: only the pool knows.
            self._following.park(job_wrapper)
            return
        job_key = key(job_wrapper)
        for runner in (self, *others):
            if runner.adopt(job_wrapper, job_key):
                return
        try:
            self._prepare(job_wrapper, job_key)
        except InvalidInputError as error:
            self._reject(job_wrapper, error)

    def stop_job(self, job_wrapper: Any) -> None:
        """Take a job out of the pool, if it is there. The monitor does it, for many at once."""
        job = job_wrapper.get_job()
        state = self._following.find(job_wrapper.get_id_tag())
        if state is not None:
            state.kept = job.state in STOPPED
            state.cancelled = True
            self._following.remove(state.key)
        elif job.job_runner_external_id is not None:
            self._following.remove(key(job_wrapper))

    def recover(self, job: Any, job_wrapper: Any) -> None:
        """Follow again a job that an earlier Galaxy has sent."""
        if job.job_runner_external_id is None:
            self.put(job_wrapper)
            return
        state = SwarmJobState(
            job_wrapper, key(job_wrapper), job.state, job_id=job.job_runner_external_id
        )
        self._notice(state, job.state)
        self._following.follow(state)
        if state.cancelled:
            self._following.remove(state.key)

    def check_watched_items(self) -> None:
        """The monitor's look at the pool. It asks Galaxy's database nothing."""
        if not self._should_stop:
            self._later.look()
            self._following.look()

    def _prepare(self, job_wrapper: Any, job_key: str) -> None:
        destination = job_wrapper.job_destination
        wanted = parameters.parse(
            destination.params, destination.id or "destination", self._section.destination.pool
        )
        destination.shell = SHELL
        if not self.prepare_job(
            job_wrapper, include_metadata=False, modify_command_for_container=False
        ):
            return
        image = container.image(job_wrapper)
        state = SwarmJobState(job_wrapper, job_key, STATES.QUEUED)
        state.container = job_wrapper.swarm_container
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
            state.job_file, without_braces(script), job_io=job_wrapper.job_io
        )
        try:
            made = invocation(job_key, state, image, wanted)
        except ValidationError as error:
            raise InvalidInputError(
                Fault(str(detail["loc"][0]), detail["msg"])
                for detail in error.errors(include_url=False)
            ) from error
        # Whoever deletes the job from now on finds it.
        self._following.expect(state)
        if job_wrapper.get_state() in (*GONE, *STOPPED):
            self._following.drop(state)
            self.discard(state)
            return
        if wanted.raw:
            self._raw[job_key] = wanted.raw
        self._sender.put(state, made)

    def _notice(self, state: SwarmJobState, galaxy_state: str) -> None:
        """Somebody may have deleted or stopped the job while nobody followed it."""
        state.kept |= galaxy_state in STOPPED
        state.cancelled |= galaxy_state in (*GONE, *STOPPED)

    def _find_container(self, job_wrapper: Any, *arguments: Any, **more: Any) -> Any:
        """Galaxy looks for it while it builds the command; once is enough.

        It is written down later, with other news: by itself it would be a transaction more.
        """
        job_wrapper.swarm_container = None
        job_wrapper.set_container = partial(setattr, job_wrapper, "swarm_container")
        return super()._find_container(job_wrapper, *arguments, **more)

    def _reject(self, job_wrapper: Any, error: InvalidInputError) -> None:
        said = "; ".join(str(fault) for fault in error.faults)
        log.error("(%s) cannot run: %s", job_wrapper.get_id_tag(), said)
        job_wrapper.fail(f"This job could not be started: {said}")

    def _sent(self, state: SwarmJobState, job: Job) -> None:
        self._raw.pop(state.key, None)
        state.job_id = str(job.id)
        self._following.follow(state)
        if state.cancelled:
            self._following.remove(state.key)

    def _refused(self, state: SwarmJobState, error: InvalidInputError) -> None:
        self._raw.pop(state.key, None)
        self._following.drop(state)
        said = "; ".join(fault.message for fault in error.faults)
        log.error("(%s) the pool refuses it: %s", state.job_wrapper.get_id_tag(), said)
        state.fail_message = f"This job could not be started: {said}"
        self._work("reject", state)

    def _is_queued(self, job_key: str) -> bool:
        wanted = Selection(runner=self._section.name, keys=[job_key])
        return bool(self._access_point.jobs(wanted, ("ClusterId", "ProcId")))

    def _dropped(self, state: SwarmJobState) -> None:
        self._raw.pop(state.key, None)
        self._following.drop(state)
        self._work("discard", state)

    def _work(self, step: str, state: SwarmJobState) -> None:
        self.work_queue.put((getattr(self, step), state))

    def _again(self, job_wrapper: Any) -> None:
        self.mark_as_queued(job_wrapper)
