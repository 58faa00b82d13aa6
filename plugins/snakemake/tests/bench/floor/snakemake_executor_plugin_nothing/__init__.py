"""An executor that does nothing at all with its jobs: what is left is Snakemake's own cost.

With NOTHING_ENDS=1 it makes their outputs itself, so that the workflow comes to its end.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.settings import CommonSettings

__all__ = ["Executor", "common_settings"]

common_settings = CommonSettings(
    non_local_exec=True,
    implies_no_shared_fs=False,
    job_deploy_sources=False,
)


class Executor(RemoteExecutor):
    """Takes jobs, as any executor must, and leaves them lying."""

    def run_job(self, job: Any) -> None:
        """Say that it was submitted; it never was."""
        self.report_job_submission(SubmittedJobInfo(job, "none"))

    async def check_active_jobs(
        self, active_jobs: list[SubmittedJobInfo]
    ) -> AsyncGenerator[SubmittedJobInfo, None]:
        """Nothing ends, or all at once."""
        for info in active_jobs:
            if "NOTHING_ENDS" not in os.environ:
                yield info
                continue
            for output in map(Path, info.job.output):
                output.parent.mkdir(parents=True, exist_ok=True)
                output.touch()
            self.report_job_success(info)

    def cancel_jobs(self, active_jobs: list[SubmittedJobInfo]) -> None:
        """There is nothing to cancel."""
