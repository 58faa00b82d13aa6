"""Snakemake's own test classes for executors, on a real pool."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import Pool
from tests.official import OfficialTests


class TestAuto(OfficialTests):
    """All jobs run nested, because no rule has an image."""

    __test__ = True

    @pytest.fixture(autouse=True)
    def _use_pool(self, pool: Pool) -> Iterator[None]:
        umask, directory = (
            os.umask(0),
            Path.cwd(),
        )  # jobs write to the directories that Snakemake creates
        self.volume = pool.volume / f"official-{uuid.uuid4().hex[:6]}"
        self.volume.mkdir()
        self.job_conf, self.image = pool.job_conf, pool.image
        yield
        os.chdir(directory)
        os.umask(umask)
