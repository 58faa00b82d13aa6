from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from pydantic import TypeAdapter

from swarm_runner.config.schemas import schemas
from swarm_runner.model.job import Job, JobId, JobState, Outcome, OutcomeKind

DIRECTORY = Path(__file__).parents[3] / "schemas"
GOLDEN = Path(__file__).parents[1] / "golden"


def invalid_paths(name: str, data: Any) -> list[str]:
    return [error.json_path for error in Draft202012Validator(schemas()[name]).iter_errors(data)]


def test_the_files_are_those_of_the_models() -> None:
    written = {path.name: json.loads(path.read_text()) for path in DIRECTORY.glob("*.json")}
    assert written == schemas(), "stale: run `swarm-runner schema --write schemas/`"


@pytest.mark.parametrize("name", schemas())
def test_each_is_a_json_schema(name: str) -> None:
    Draft202012Validator.check_schema(schemas()[name])


def test_an_invocation_and_a_list_of_them() -> None:
    invocation = {"image": "debian", "command": ["x"], "resources": {"memory": "1 GB", "cpus": 2}}
    assert invalid_paths("invocation.schema.json", invocation) == []
    assert invalid_paths("invocation.schema.json", [invocation, invocation]) == []
    for invalid in ({"imag": "x"}, {"command": "x"}, {"resources": {"memory": "1"}}, {"repeat": 0}):
        assert invalid_paths("invocation.schema.json", invocation | invalid), invalid


def test_a_job_conf() -> None:
    conf = {
        "runners": {
            "local": {"load": "galaxy.jobs.runners.local:LocalJobRunner", "anything": 1},
            "swarm": {"load": "swarm_runner_galaxy.runner:SwarmJobRunner", "pool": {"name": "p"}},
        },
        "execution": {
            "default": "a",
            "environments": {"a": {"runner": "swarm", "request_memory": "1G", "tags": []}},
        },
        "tools": [],
    }
    assert invalid_paths("job_conf.schema.json", conf) == []
    assert invalid_paths("job_conf.schema.json", {"execution": {}})
    invalid = yaml.safe_load((GOLDEN / "job_conf_wrong.yml").read_text())
    paths = invalid_paths("job_conf.schema.json", invalid)
    for path in ("$.runners.swarm", "$.runners.bare", "$.execution.environments"):
        assert any(found.startswith(path) for found in paths), paths


def test_short_forms_of_a_pools_lists() -> None:
    pool = {
        "volumes": ["/data:ro", {"path": "/refs"}],
        "sources": ["https://h.org", {"url": "https://*.i.org", "private": True}],
    }
    assert invalid_paths("job_conf.schema.json", {"runners": {"swarm": {"pool": pool}}}) == []
    for wrong in ({"volumes": [7]}, {"sources": [{"host": "h.org"}]}):
        assert invalid_paths("job_conf.schema.json", {"runners": {"swarm": {"pool": wrong}}})


def test_inputs_by_url() -> None:
    url = {"source": "https://h.org/a", "checksum": "md5:" + "0" * 32}
    invocation = {"image": "debian", "command": ["x"], "inputs": ["https://h.org/a", url]}
    assert invalid_paths("invocation.schema.json", invocation) == []


def test_what_is_printed_of_a_job() -> None:
    outcome = Outcome(OutcomeKind.EXITED, "It ended with exit code 3.", exit_code=3)
    job = Job(id=JobId(1, 0), key="k", state=JobState.COMPLETED, outcome=outcome)
    printed = json.loads(TypeAdapter(Job).dump_json(job))
    assert invalid_paths("job.schema.json", printed) == []
    assert invalid_paths("outcome.schema.json", printed["outcome"]) == []
    assert invalid_paths("outcome.schema.json", printed["outcome"] | {"kind": "fine"}) == ["$.kind"]
