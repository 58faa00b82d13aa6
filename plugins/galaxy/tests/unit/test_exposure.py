"""The warning that jobs may write Galaxy's own files."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from swarm_runner_galaxy.exposure import find_exposed_files

from swarm_runner import Pool


def _pool(*volumes: dict[str, Any]) -> Pool:
    return Pool.model_validate({"volumes": list(volumes)})


@pytest.fixture
def config(tmp_path: Path) -> SimpleNamespace:
    return SimpleNamespace(
        root=str(tmp_path / "galaxy"),
        config_file=str(tmp_path / "galaxy" / "config" / "galaxy.yml"),
        config_dir=str(tmp_path / "galaxy" / "config"),
        job_config_file=None,
        database_connection=f"sqlite:///{tmp_path}/galaxy/universe.sqlite?isolation_level=IMMEDIATE",
    )


def test_a_volume_that_has_all_of_galaxy(config: SimpleNamespace, tmp_path: Path) -> None:
    found = find_exposed_files(config, _pool({"path": str(tmp_path)}))
    assert len(found) == 4
    assert found[0] == f"Galaxy's code ({tmp_path}/galaxy) is on the volume {tmp_path}"
    assert "the database" in found[-1]
    assert "isolation_level" not in found[-1]


def test_volumes_that_jobs_need(config: SimpleNamespace, tmp_path: Path) -> None:
    pool = _pool(
        {"path": str(tmp_path / "objects")},
        {"path": str(tmp_path / "galaxy"), "read_only": True},
    )
    assert find_exposed_files(config, pool) == []


def test_a_link_to_a_volume(config: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "galaxy").symlink_to(tmp_path / "volume")
    assert len(find_exposed_files(config, _pool({"path": str(tmp_path / "volume")}))) == 4


def test_the_runner_warns_when_it_boots(
    harness: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(harness.app.config, "root", str(harness.volume / "code"), raising=False)
    with caplog.at_level(logging.WARNING):
        harness.start()
    assert "Any tool may change Galaxy itself: Galaxy's code" in caplog.text
