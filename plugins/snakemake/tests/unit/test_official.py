"""The test classes that Snakemake ships for executors, on the fake pool."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from snakemake.common.tests import TestWorkflowsLocalStorageBase
from snakemake_executor_plugin_swarm_runner import ExecutorSettings

from tests.unit.conftest import Place


class Base(TestWorkflowsLocalStorageBase):
    mode = "auto"
    destination = "swarm"

    @pytest.fixture(autouse=True)
    def _on(self, place: Place) -> None:
        self.place = place

    def _copy_test_files(self, test_path: Path, tmp_path: Path) -> None:
        super()._copy_test_files(test_path, tmp_path)
        tmp_path.chmod(0o777)  # jobs write here as a user of their own

    def get_executor(self) -> str:
        return "swarm-runner"

    def get_executor_settings(self) -> ExecutorSettings:
        return ExecutorSettings(
            job_conf=self.place.job_conf,
            destination=self.destination,
            mode=self.mode,
            snakemake_image="snakemake:fake",
        )

    def run_workflow(self, test_name: str, tmp_path: Path, **more: Any) -> None:
        del tmp_path  # on no volume
        super().run_workflow(test_name, self.place.volume, **more)


class TestNested(Base):
    """As when no rule has an image."""

    __test__ = True
    mode = "nested"


class TestAuto(Base):
    """Rules run in the destination's image, groups in one that has Snakemake."""

    __test__ = True
    destination = "imaged"
