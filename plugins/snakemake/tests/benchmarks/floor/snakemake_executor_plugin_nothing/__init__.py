"""An executor that does nothing at all with its jobs: what is left is Snakemake's own cost.

With NOTHING_ENDS_PER_S it makes so many jobs' outputs itself each second, so that the workflow
comes to its end, and not all at once.
"""

from __future__ import annotations

import os
import time
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


ENDED_PER_S = float(os.environ.get("NOTHING_ENDS_PER_S", "0"))


class Executor(RemoteExecutor):
    """Takes jobs, as any executor must, and leaves them lying."""

    _began: float | None = None
    _ended = 0

    def run_job(self, job: Any) -> None:
        """Say that it was submitted; it never was."""
        self._began = self._began or time.monotonic()
        self.report_job_submission(SubmittedJobInfo(job, "none"))

    async def check_active_jobs(
        self, active_jobs: list[SubmittedJobInfo]
    ) -> AsyncGenerator[SubmittedJobInfo, None]:
        """Nothing ends, or what is due by now."""
        due = ENDED_PER_S * (time.monotonic() - (self._began or time.monotonic()))
        for info in active_jobs:
            if self._ended >= due:
                yield info
                continue
            self._ended += 1
            for output in map(Path, info.job.output):
                output.parent.mkdir(parents=True, exist_ok=True)
                output.touch()
            self.report_job_success(info)

    def cancel_jobs(self, active_jobs: list[SubmittedJobInfo]) -> None:
        """There is nothing to cancel."""
