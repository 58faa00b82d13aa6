"""JSON Schemas of swarm_runner's input and output, for editors and other programs."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import models_json_schema

from swarm_runner.config.destination_parameters import DestinationParameters
from swarm_runner.config.galaxy_keys import RUNNER_KEYS
from swarm_runner.config.job_conf import MODULE_PREFIX, RunnerSection
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.job import Job, Outcome
from swarm_runner.model.pool_status import PoolStatus

_HEAD = {"$schema": "https://json-schema.org/draft/2020-12/schema"}


def schemas() -> dict[str, dict[str, Any]]:
    """Return the schemas by their file names in `schemas/`.

    `swarm-runner schema --write schemas/` writes the files.
    """
    invocations: TypeAdapter[Any] = TypeAdapter(Invocation | list[Invocation])
    return {
        "invocation.schema.json": _HEAD
        | {"title": "An invocation, or a list of them"}
        | invocations.json_schema(),
        "job_conf.schema.json": _job_conf(),
        "job.schema.json": _HEAD | TypeAdapter(Job).json_schema(mode="serialization"),
        "outcome.schema.json": _HEAD | TypeAdapter(Outcome).json_schema(mode="serialization"),
        "pool_status.schema.json": _HEAD | PoolStatus.model_json_schema(mode="serialization"),
    }


def _job_conf() -> dict[str, Any]:
    """Return the schema of job_conf.yml. Sections of other programs may contain anything.

    A schema cannot tell which environments belong to swarm_runner, because that depends on the
    names of runners. It describes the keys in all environments, and only `swarm-runner validate`
    finds unknown ones.
    """
    definitions = models_json_schema(
        [(RunnerSection, "validation"), (DestinationParameters, "validation")],
        ref_template="#/$defs/{model}",
    )[1]["$defs"]
    definitions["RunnerSection"]["properties"] |= {key: {} for key in sorted(RUNNER_KEYS)}
    for name in ("volumes", "sources"):  # a text may stand for an item
        listed = definitions["Pool"]["properties"][name]
        listed["items"] = {"anyOf": [{"type": "string"}, listed["items"]]}
    parameters = definitions["DestinationParameters"]
    parameters["additionalProperties"] = True
    del parameters["properties"]["raw_commands"]
    is_swarm_runner = {
        "anyOf": [
            {"required": ["pool"]},
            {"required": ["load"], "properties": {"load": {"pattern": f"^{MODULE_PREFIX}"}}},
        ]
    }
    section = {"$ref": "#/$defs/RunnerSection"}
    environment = {"$ref": "#/$defs/DestinationParameters"}
    execution = {
        "type": "object",
        "properties": {
            "default": {"type": "string", "description": "the environment used by default"},
            "environments": {
                "anyOf": [
                    {"type": "object", "additionalProperties": environment},
                    {"type": "array", "items": environment | {"required": ["id"]}},
                ]
            },
        },
    }
    return _HEAD | {
        "title": "Galaxy's job_conf.yml with a runner of swarm_runner",
        "type": "object",
        "required": ["runners"],
        "properties": {
            "runners": {
                "type": "object",
                "additionalProperties": {"type": "object", "if": is_swarm_runner, "then": section},
            },
            "execution": execution,
        },
        "$defs": definitions,
    }
