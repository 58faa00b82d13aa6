"""Workflows whose jobs run on a fake pool."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from swarm_runner.condor.access_point import AccessPoint
from tests.unit.local_pool import LocalPool


@dataclass(frozen=True)
class Place:
    """A fake pool, its configuration and its volume."""

    access_point: LocalPool
    job_conf: Path
    volume: Path


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    volume = tmp_path / "volume"
    volume.mkdir()
    user = {"name": "somebody", "uid": os.getuid() or 1000, "gid": os.getgid() or 1000}
    conf = {
        "runners": {"swarm": {"pool": {"name": "fake", "user": user, "volumes": [str(volume)]}}},
        "execution": {
            "environments": {
                "swarm": {"runner": "swarm"},
                "imaged": {"runner": "swarm", "docker_default_container_id": "debian:trixie"},
            },
            "default": "swarm",
        },
    }
    file = tmp_path / "job_conf.yml"
    file.write_text(yaml.safe_dump(conf))
    access_point = LocalPool()
    monkeypatch.setattr(AccessPoint, "connect", lambda *_: access_point)
    # Nested jobs are to find this Snakemake.
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    umask, directory = os.umask(0), Path.cwd()
    volume.chmod(0o777)
    yield Place(access_point, file, volume)
    os.chdir(directory)
    os.umask(umask)
