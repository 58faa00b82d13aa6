"""The state of one Galaxy job that is in the pool, or on its way there."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

from galaxy.jobs.runners import AsynchronousJobState

from swarm_runner import Job, Outcome, PublishedPort, schedd_escalates
from swarm_runner_galaxy.entry_points import is_interactive
from swarm_runner_galaxy.keys import id_tag


class SwarmJobState(AsynchronousJobState):  # type: ignore[misc]
    """What the runner knows of one attempt of a Galaxy job.

    - `galaxy_state`, `info`: the state that the job should have in Galaxy, and a message about it.
    - `published`: the pair of the two that was last written to Galaxy's database.
    - `id_published`: whether the job's ID in the pool was written to Galaxy's database.
    - `cancelled`: a user deleted or stopped the job.
    - `stopped_keep_outputs`: a user stopped the job and keeps the outputs that it has made.
    - `ended_job`: the job as it ended in the pool, or None before its end.
    - `closed`: Galaxy has finished with this attempt; no further step runs.
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
        # Galaxy's own method queries the database, and Galaxy calls it for every log line.
        job_wrapper.get_id_tag = partial(id_tag, key)
        self.galaxy_state, self.info = galaxy_state, ""
        self.published = (galaxy_state, "")
        self.id_published = job_id is not None
        self.cancelled = self.stopped_keep_outputs = self.closed = False
        self.ended_job: Job | None = None
        # Where an interactive tool's ports are, while it runs.
        self.has_ports = is_interactive(job_wrapper)
        self.published_ports: tuple[PublishedPort, ...] = ()
        # The container, until it is written to the database together with the job's ID.
        self.unpublished_container: Any = None
        self.metadata_set = False
        # How often the access point rejected this job while it accepted others.
        self.rejections = 0
        self.limits_check_queued = False
        self.schedd_escalates = schedd_escalates(job_wrapper.job_destination.params)
        # Galaxy removes these files while it finishes a job. If Galaxy is killed then, the next one
        # needs the exit code. Galaxy removes them later with the job's directory.
        self.cleanup_file_attributes: list[str] = []
        # How many steps in a row have failed.
        self.failed_attempts = 0
        # Only one worker thread at a time runs a step of this job.
        self.lock = threading.RLock()

    @property
    def log_fields(self) -> dict[str, Any]:
        """The fields that identify the job in a log record."""
        return {"galaxy_job": id_tag(self.key), "job_id": self.job_id, "key": self.key}

    @property
    def outcome(self) -> Outcome:
        """How the job ended. Raises ValueError while it has not."""
        if self.ended_job is None or self.ended_job.outcome is None:
            raise ValueError(f"Job {self.key} has not ended")
        return self.ended_job.outcome
