"""An executor that does nothing with its jobs. What remains is the cost of Snakemake itself.

If NOTHING_ENDS_PER_S is set, it creates the outputs of that many jobs a second, so the workflow
ends, and not all of its jobs at once.
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
    """Accepts jobs, and does not run them."""

    _started_at: float | None = None
    _ended = 0

    def run_job(self, job: Any) -> None:
        """Report the job as submitted, without submitting it."""
        self._started_at = self._started_at or time.monotonic()
        self.report_job_submission(SubmittedJobInfo(job, "none"))

    async def check_active_jobs(
        self, active_jobs: list[SubmittedJobInfo]
    ) -> AsyncGenerator[SubmittedJobInfo, None]:
        """End as many jobs as NOTHING_ENDS_PER_S requires by now, and yield the others."""
        due = ENDED_PER_S * (time.monotonic() - (self._started_at or time.monotonic()))
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
        """Do nothing, because no job exists."""
