"""`swarm-runner usage` on a history in memory."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import yaml

from swarm_runner.model.htcondor import JobStatus
from tests.unit.cli.conftest import Cli, SelfRunningAccessPoint

pytestmark = pytest.mark.usefixtures("job_conf")


@pytest.fixture(autouse=True)
def history(access_point: SelfRunningAccessPoint) -> None:
    """Fill the history with 30 jobs of each of two tools."""
    now = int(time.time())
    for number in range(60):
        ad: dict[str, Any] = {
            "ClusterId": number,
            "ProcId": 0,
            "SwarmRunnerTool": "bwa" if number % 2 else "\x1b[31mred",
            "DockerImage": "bwa:1",
            "SwarmRunnerClass": "normal",
            "JobStatus": JobStatus.COMPLETED,
            "EnteredCurrentStatus": now - 100,
            "RequestCpus": 1,
            "RequestMemory": 1024,
            "MemoryUsage": 100,
            "QDate": now - 300,
            "JobStartDate": now - 290,
            "JobCurrentStartDate": now - 290,
            "CompletionDate": now - 100,
        }
        access_point.history_ads.append(ad)


def test_the_table_shows_hostile_names_as_text(cli: Cli) -> None:
    done = cli("usage")
    assert done.code == 0
    assert "128 MB frees 88%; 0.0% would exceed it" in done.out
    assert "\x1b" not in done.out
    assert "60 jobs of the last 7 days" in done.err


def test_json_and_the_files_of_other_programs(cli: Cli) -> None:
    (bwa,) = [group for group in json.loads(cli("usage", "--json").out) if group["name"] == "bwa"]
    assert bwa["advice"]["memory_mb"] == 128
    assert yaml.safe_load(cli("usage", "--format", "tpv").out)["tools"]["bwa"] == {"mem": 0.13}
    profile = yaml.safe_load(cli("usage", "--format", "snakemake").out)
    assert profile["set-resources"]["bwa"] == {"mem_mb": 128}
    assert "bwa:1" in cli("usage", "--by", "image").out


def test_a_trace_that_the_simulator_replays(cli: Cli, tmp_path: Any) -> None:
    for name, memory in (("trace", "1024"), ("advised-trace", "128")):
        text = cli("usage", "--format", name).out
        assert text.splitlines()[1].endswith(f",1,{memory},normal")
        file = tmp_path / f"{name}.csv"
        file.write_text(text)
        assert cli("pool", "simulate", str(file)).code == 0
