"""An executor that does nothing at all with its jobs: what is left is Snakemake's own cost."""

from __future__ import annotations

from collections.abc import AsyncGenerator
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
        """Nothing ends."""
        for info in active_jobs:
            yield info

    def cancel_jobs(self, active_jobs: list[SubmittedJobInfo]) -> None:
        """There is nothing to cancel."""
