"""Snakemake's own test classes for executors, on the fake pool."""

from __future__ import annotations

import pytest

from tests.official import OfficialTests
from tests.unit.conftest import WorkflowHarness


class FakePoolTests(OfficialTests):
    image = "snakemake:fake"

    @pytest.fixture(autouse=True)
    def _use_harness(self, harness: WorkflowHarness) -> None:
        self.job_conf, self.volume = harness.job_conf, harness.volume


class TestNested(FakePoolTests):
    """All jobs run nested."""

    __test__ = True
    mode = "nested"


class TestAuto(FakePoolTests):
    """Rules run in the destination's image, groups in the image with Snakemake."""

    __test__ = True
    destination = "imaged"
