"""Makes job ads from submit descriptions, for the subset of the language that we write."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from swarm_runner.model.htcondor import Universe
from swarm_runner.submit.description import SubmitBatch

_MACRO = re.compile(r"\$\((\w+)\)")
_CLASS_EXPRESSION = re.compile(r'ifThenElse\(RequestMemory <= (\d+), ("[^"]*"), (.*)\)')
# Submit commands and the attributes that they become.
_STRING_ATTRIBUTES = {
    "container_service_names": "ContainerServiceNames",
    "concurrency_limits": "ConcurrencyLimits",
    "initialdir": "Iwd",
    "log": "UserLog",
    "submit_event_notes": "SubmitEventNotes",
    "docker_image": "DockerImage",
    "input": "In",
    "output": "Out",
    "error": "Err",
    "transfer_input_files": "TransferInput",
    "transfer_output_files": "TransferOutput",
    "transfer_output_remaps": "TransferOutputRemaps",
    "should_transfer_files": "ShouldTransferFiles",
}
_UNIVERSES = {"docker": Universe.VANILLA, "vm": Universe.VM}
_MEMORY_ATTRIBUTES = {
    "request_memory": "RequestMemory",
    "retry_request_memory": "RetryRequestMemory",
}
_CONTAINER_PORT = "_container_port"
_INTEGER_ATTRIBUTES = {"request_cpus": "RequestCpus", "priority": "JobPrio"}


def make_job_ads(batch: SubmitBatch, cluster: int) -> list[dict[str, Any]]:
    """Return the job ads of a batch, in the order of their procs."""
    rows: list[Mapping[str, str]] = list(batch.rows) or [{}] * batch.count
    return [_make_job_ad(batch.common, row, cluster, proc) for proc, row in enumerate(rows)]


def _make_job_ad(
    common: Mapping[str, str], row: Mapping[str, str], cluster: int, proc: int
) -> dict[str, Any]:
    ad: dict[str, Any] = {"ClusterId": cluster, "ProcId": proc, "RequestCpus": 1}
    for name, raw in common.items():
        value = _expand_macros(_expand_macros(raw, row), {"Process": str(proc), "DOLLAR": "$"})
        if name in _STRING_ATTRIBUTES:
            ad[_STRING_ATTRIBUTES[name]] = value
        elif name in _MEMORY_ATTRIBUTES:
            ad[_MEMORY_ATTRIBUTES[name]] = int(value.removesuffix("M"))
        elif name == "request_disk":
            ad["RequestDisk"] = int(value.removesuffix("M")) * 1024
        elif name == "universe":
            ad["JobUniverse"] = _UNIVERSES[value]
        elif name in _INTEGER_ATTRIBUTES:
            ad[_INTEGER_ATTRIBUTES[name]] = int(value)
        elif name.endswith(_CONTAINER_PORT):
            ad[f"{name.removesuffix(_CONTAINER_PORT)}_ContainerPort"] = int(value)
        elif name.startswith("My."):
            ad[name.removeprefix("My.")] = value
    return {name: parse_string_literal(value) for name, value in ad.items()}


def _expand_macros(text: str, macros: Mapping[str, str]) -> str:
    return _MACRO.sub(lambda match: macros.get(match[1], match[0]), text)


def parse_string_literal(value: Any) -> Any:
    """Return the value of a ClassAd string literal; anything else unchanged."""
    if isinstance(value, str) and len(value) > 1 and value[0] == value[-1] == '"':
        return json.loads(value)
    return value


def evaluate(ad: Mapping[str, Any], name: str) -> Any:
    """Return an attribute's value. `SwarmRunnerClass` may be an expression of RequestMemory."""
    value = ad[name]
    choice = _CLASS_EXPRESSION.fullmatch(value) if isinstance(value, str) else None
    while choice:
        if ad["RequestMemory"] <= int(choice[1]):
            return parse_string_literal(choice[2])
        value, choice = parse_string_literal(choice[3]), _CLASS_EXPRESSION.fullmatch(choice[3])
    return value
