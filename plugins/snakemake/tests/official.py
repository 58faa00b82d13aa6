"""Snakemake's own test classes for executors, for any pool."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from snakemake.common.tests import TestWorkflowsLocalStorageBase
from snakemake_executor_plugin_swarm_runner import ExecutorSettings


class OfficialTests(TestWorkflowsLocalStorageBase):
    """Runs on the pool of `job_conf`, in the directory `volume`, with `image` for nested jobs."""

    mode = "auto"
    destination = "swarm"
    job_conf: Path
    volume: Path
    image: str

    def _copy_test_files(self, test_path: Path, tmp_path: Path) -> None:
        super()._copy_test_files(test_path, tmp_path)
        tmp_path.chmod(0o777)  # jobs write here as the pool's user

    def get_executor(self) -> str:
        return "swarm-runner"

    def get_executor_settings(self) -> ExecutorSettings:
        return ExecutorSettings(
            job_conf=self.job_conf,
            destination=self.destination,
            mode=self.mode,
            snakemake_image=self.image,
        )

    def run_workflow(self, test_name: str, tmp_path: Path, **kwargs: Any) -> None:
        del tmp_path  # not on a pool volume
        super().run_workflow(test_name, self.volume, **kwargs)
