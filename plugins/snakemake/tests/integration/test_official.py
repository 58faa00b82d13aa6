"""The test classes that Snakemake ships for executors, on a real pool."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from snakemake.common.tests import TestWorkflowsLocalStorageBase
from snakemake_executor_plugin_swarm_runner import ExecutorSettings

from tests.integration.conftest import Pool


@pytest.fixture
def tmp_path(pool: Pool) -> Iterator[Path]:
    """On the pool's volume, and what Snakemake makes there is the jobs' to write."""
    umask, directory = os.umask(0), Path.cwd()
    path = pool.volume / f"official-{uuid.uuid4().hex[:6]}"
    path.mkdir()
    yield path
    os.chdir(directory)
    os.umask(umask)


class Base(TestWorkflowsLocalStorageBase):
    mode: str

    @pytest.fixture(autouse=True)
    def _on(self, pool: Pool) -> None:
        self.pool = pool

    def _copy_test_files(self, test_path: Path, tmp_path: Path) -> None:
        super()._copy_test_files(test_path, tmp_path)
        tmp_path.chmod(0o777)  # jobs write here as a user of their own

    def get_executor(self) -> str:
        return "swarm-runner"

    def get_executor_settings(self) -> ExecutorSettings:
        return ExecutorSettings(
            job_conf=self.pool.job_conf, snakemake_image=self.pool.image, mode=self.mode
        )


class TestAuto(Base):
    """No rule has an image, so all are nested."""

    __test__ = True
    mode = "auto"
