"""Runners without a batch system.

`FloorRunner` runs nothing: it measures Galaxy's own cost of a containerised job.
`DockerFloorRunner` also starts a container for each job, with `docker run`, and waits for its end:
what a machine needs for both.

Each runner sets metadata in its own way; these do not. When a job is finished, Galaxy reads an
empty file.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from galaxy import model
from galaxy.jobs.runners import AsynchronousJobRunner, AsynchronousJobState

__all__ = ("DockerFloorRunner", "FloorRunner")


class FloorRunner(AsynchronousJobRunner):  # type: ignore[misc]
    """Prepares a job, marks it as running, and finishes it."""

    runner_name = "FloorRunner"

    def queue_job(self, job_wrapper: Any) -> None:
        """Prepare a job and mark it as running and as finished."""
        # Galaxy finds and records the tool's container here. Nothing starts it.
        if not self.prepare_job(
            job_wrapper, include_metadata=False, modify_command_for_container=False
        ):
            return
        state = AsynchronousJobState(
            files_dir=job_wrapper.working_directory,
            job_wrapper=job_wrapper,
            job_destination=job_wrapper.job_destination,
            job_id="0",
        )
        Path(state.exit_code_file).write_text("0")
        outputs = Path(job_wrapper.working_directory, "outputs")
        tools = (outputs / "tool_stdout", outputs / "tool_stderr")
        for stream in (Path(state.output_file), Path(state.error_file), *tools):
            stream.touch()
        job_wrapper.change_state(model.Job.states.RUNNING)
        self._run(job_wrapper.job_destination.params)
        self.mark_as_finished(state)

    def _run(self, params: dict[str, Any]) -> None:
        """Run the job, in one of the worker threads."""


class DockerFloorRunner(FloorRunner):
    """Does the same, and starts a container of the destination's `image` meanwhile."""

    runner_name = "DockerFloorRunner"

    def _run(self, params: dict[str, Any]) -> None:
        command = ["docker", "run", "--rm", "--network", "none", params["image"], "true"]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
