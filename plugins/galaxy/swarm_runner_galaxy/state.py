"""One Galaxy job that is in the pool, or on its way there."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

from galaxy.jobs.runners import AsynchronousJobState

from swarm_runner import Job, Outcome
from swarm_runner_galaxy.keys import id_tag
from swarm_runner_galaxy.parameters import schedd_escalates


class SwarmJobState(AsynchronousJobState):  # type: ignore[misc]
    """What the monitor knows of a job.

    `wanted` is the Galaxy state that the pool's news ask for, and `why` a word about it; `told` is
    what Galaxy was given of the two. `cancelled` says that somebody deleted the job, `kept` that
    he stopped it and wants the outputs it has made. `ended` is the pool's job when it has ended.
    `over` says that Galaxy has done with this attempt: no step is taken any more.
    """

    def __init__(
        self, job_wrapper: Any, key: str, galaxy_state: str, job_id: str | None = None
    ) -> None:
        super().__init__(
            files_dir=job_wrapper.working_directory,
            job_wrapper=job_wrapper,
            job_destination=job_wrapper.job_destination,
            job_id=job_id,
        )
        self.key = key
        # Galaxy asks its database for this whenever it names the job in its log.
        job_wrapper.get_id_tag = partial(id_tag, key)
        self.galaxy_state, self.info = galaxy_state, ""
        self.published = (galaxy_state, "")
        self.id_published = job_id is not None
        self.cancelled = self.stopped_keep_outputs = self.closed = False
        self.ended_job: Job | None = None
        # What Galaxy is to be told of with the job's number in the pool.
        self.unpublished_container: Any = None
        self.metadata_set = False
        # How often the pool did not take it, and took others.
        self.rejections = 0
        # Whether Galaxy's limits are about to be looked at.
        self.limits_check_queued = False
        self.schedd_escalates = schedd_escalates(job_wrapper.job_destination.params)
        # They lie in the job's directory, which Galaxy removes whole. Galaxy removes these while it
        # finishes a job, and one that is killed then is to find the exit code when it starts again.
        self.cleanup_file_attributes: list[str] = []
        # Steps in a row that have failed.
        self.failed_attempts = 0
        # Worker threads take steps of one job in turns.
        self.lock = threading.RLock()

    @property
    def outcome(self) -> Outcome:
        """How it ended. Raises ValueError while it has not."""
        if self.ended_job is None or self.ended_job.outcome is None:
            raise ValueError(f"{self.key} has not ended")
        return self.ended_job.outcome
