"""A runner that runs nothing: it measures Galaxy's own cost of a containerised job.

Each runner sets metadata in its own way; this one does not. When a job is finished, Galaxy reads an
empty file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from galaxy import model
from galaxy.jobs.runners import AsynchronousJobRunner, AsynchronousJobState

__all__ = ("FloorRunner",)


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
        self.mark_as_finished(state)
