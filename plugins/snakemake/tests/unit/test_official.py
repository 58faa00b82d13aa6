"""The test classes that Snakemake ships for executors, on the fake pool."""

from __future__ import annotations

import pytest

from tests.official import Official
from tests.unit.conftest import Place


class Base(Official):
    image = "snakemake:fake"

    @pytest.fixture(autouse=True)
    def _on(self, place: Place) -> None:
        self.job_conf, self.volume = place.job_conf, place.volume


class TestNested(Base):
    """As when no rule has an image."""

    __test__ = True
    mode = "nested"


class TestAuto(Base):
    """Rules run in the destination's image, groups in one that has Snakemake."""

    __test__ = True
    destination = "imaged"
