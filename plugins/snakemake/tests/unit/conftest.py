"""A harness for workflows whose jobs run on a fake pool."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from snakemake_executor_plugin_swarm_runner import executor
from snakemake_executor_plugin_swarm_runner.target import ExecutionTarget

from tests.unit.local_pool import LocalAccessPoint


@dataclass(frozen=True)
class WorkflowHarness:
    """A fake pool, its configuration and its volume."""

    access_point: LocalAccessPoint
    job_conf: Path
    volume: Path

    def run(self, snakefile: str, *options: str) -> tuple[int, str]:
        """Run Snakemake in this process, on the volume; return its exit code and its log."""
        from snakemake.cli import main

        os.chdir(self.volume)
        (self.volume / "Snakefile").write_text(snakefile)
        command = ["--executor", "swarm-runner", "--swarm-runner-job-conf", str(self.job_conf)]
        previous_handler, log = signal.getsignal(signal.SIGTERM), io.StringIO()
        try:
            with contextlib.redirect_stderr(log):
                main([*command, "--jobs", "20", "--latency-wait", "1", *options])
        except SystemExit as error:
            return int(error.code or 0), log.getvalue()
        finally:
            signal.signal(signal.SIGTERM, previous_handler)
        return 0, log.getvalue()


@pytest.fixture
def harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkflowHarness]:
    volume = tmp_path / "volume"
    volume.mkdir()
    user = {"name": "somebody", "uid": os.getuid() or 1000, "gid": os.getgid() or 1000}
    classes = {
        "normal": {"cpus": 4, "memory_mb": 1024, "replicas": 1},
        "big": {"cpus": 4, "memory_mb": 2048, "replicas": 1},
    }
    pool = {"name": "fake", "user": user, "volumes": [str(volume)], "classes": classes}
    conf = {
        "runners": {"swarm": {"pool": pool}},
        "execution": {
            "environments": {
                "swarm": {"runner": "swarm"},
                "imaged": {"runner": "swarm", "docker_default_container_id": "debian:trixie"},
            },
            "default": "swarm",
        },
    }
    file = tmp_path / "job_conf.yml"
    file.write_text(yaml.safe_dump(conf, sort_keys=False))
    access_point = LocalAccessPoint()
    monkeypatch.setattr(executor, "LOG_POLL_INTERVAL_S", 0.2)
    monkeypatch.setattr(ExecutionTarget, "access_point", lambda _: access_point)
    # Nested jobs run this Snakemake.
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    umask, directory = os.umask(0), Path.cwd()
    volume.chmod(0o777)
    yield WorkflowHarness(access_point, file, volume)
    os.chdir(directory)
    os.umask(umask)
