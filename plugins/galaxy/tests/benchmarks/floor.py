"""A runner that runs nothing: what Galaxy itself spends on a containerised job, whoever runs it.

No metadata is set outside of it, which each runner has a way of its own to do: when the job is
finished, Galaxy itself looks at an empty file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from galaxy import model
from galaxy.jobs.runners import AsynchronousJobRunner, AsynchronousJobState

__all__ = ("FloorRunner",)


class FloorRunner(AsynchronousJobRunner):  # type: ignore[misc]
    """Prepares a job, calls it running, and finishes it."""

    runner_name = "FloorRunner"

    def queue_job(self, job_wrapper: Any) -> None:
        """All that becomes of a job, but its end."""
        # Here Galaxy finds the tool's container and records it; nothing is to start it.
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
