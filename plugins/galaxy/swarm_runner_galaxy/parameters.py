"""The parameters of a Galaxy destination.

Destinations come from job_conf.yml, with YAML's types, and from dynamic rules such as TPV, which
write numbers as strings and add keys of their own. Unknown keys are therefore ignored, except
likely typing errors and raw HTCondor commands, which would have no effect.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_core import PydanticCustomError

from swarm_runner import (
    CLASS_REQUIREMENT,
    MAXIMUM_DISK_MB,
    MAXIMUM_MEMORY_MB,
    MINIMUM_MEMORY_MB,
    QUANTITY_EXAMPLES,
    Diagnostic,
    FrozenModel,
    InvalidInputError,
    Pool,
    Resources,
    did_you_mean,
    is_environment_key,
    megabytes,
    reject_control_characters,
)

RAW_PREFIX = "htcondor_"
_NUMBER = re.compile(r"\s*[0-9]{1,15}(\.[0-9]{1,9})?\s*")
_COMMAND_NAME = re.compile(r"(\+|My\.)?[A-Za-z_][A-Za-z0-9_]*", re.IGNORECASE)
# The runner sets these itself, or they are not valid in a submit description. HTCondor also accepts
# the names of the job ad's attributes as commands.
_RESERVED_COMMANDS = re.compile(
    r"(\+|My\.)?(universe|jobuniverse|wantdocker|docker_?image|container_?image|executable|cmd|"
    r"transfer_?executable|arguments|args|environment|env|getenv|initial_?dir|job_iwd|iwd|input|in|"
    r"output|out|error|err|log|userlog|(retry_?)?request_?\w+|allowed_?\w+_?duration|"
    r"job_?lease_?duration|should_?transfer_?files|when_?to_?transfer_?output|"
    r"transfer_?(input|output)\w*|submit_?event_?notes|ulog_?execute_?attrs|swarmrunner\w*|"
    r"galaxyjobid|galaxydestination|hold|leave_?(job_?)?in_?queue|owner|user|clusterid|procid|"
    r"jobstatus|queue|include|use|if|elif|else|endif|warning)|(\+|My\.)Requirements",
    re.IGNORECASE,
)
# Those of them that destinations of older runners contain, without the prefix.
_OBSOLETE_COMMANDS = re.compile(
    r"executable|transfer_\w+|arguments|environment|getenv|initialdir|input|output|error|log|hold|"
    r"queue|leave_in_queue|should_transfer_files|when_to_transfer_output|submit_event_notes|"
    r"job_lease_duration|retry_request_\w+",
    re.IGNORECASE,
)
# Commands that Galaxy's older HTCondor runners pass on. This runner requires the prefix.
_UNPREFIXED_COMMANDS = re.compile(
    r"requirements|rank|periodic_\w+|on_exit_\w+|accounting_group\w*|priority|nice_user|"
    r"concurrency_limits\w*|(\+|My\.)\w+|max_retries|retry_until|success_exit_code|notification|"
    r"notify_user|email_attributes|job_max_vacate_time|max_idle|max_materialize|want_\w+|"
    r"job_prio|batch_name|stream_(output|error|input)|docker_network_type|docker_pull_policy|"
    r"docker_override_entrypoint|container_service_names|keep_claim_idle|kill_sig\w*|"
    r"deferral_\w+|cron_\w+|job_machine_attrs\w*|use_x509userproxy|x509userproxy|coresize|"
    r"encrypt_\w+|dont_encrypt_\w+|max_transfer_\w+|noop_job\w*|priority_\w+|gpus_\w+|"
    r"require_gpus|stack_size|use_oauth_services|\w+_oauth_\w+",
    re.IGNORECASE,
)
_IMAGE_COMMANDS = re.compile("docker_image|container_image", re.IGNORECASE)
_IMAGE_COMMAND_MESSAGE = (
    "is an HTCondor command, but in Galaxy each tool names its own image: remove the line. "
    "docker_default_container_id sets the image of tools that name none, and "
    "docker_container_id_override sets the image of all tools"
)
_UNIVERSE_MESSAGE = (
    "is {}, a setting of Galaxy's older HTCondor runners. This runner runs every tool in a "
    "container, in the docker universe: remove the line and set docker_enabled: true"
)
_POOL_MISMATCH_MESSAGE = (
    "is {}, but the runner of this destination uses pool {}. Pools are configured under runners: "
    "remove the line, or name another runner"
)
_POOL_COMMANDS = ("collector", "schedd", "config")


def _parse_integer(value: Any) -> Any:
    """Return an integer from a number or from a string as TPV writes it: "4" or "4.0"."""
    if isinstance(value, bool):
        raise PydanticCustomError("number", "must be an integer, not true or false")
    if isinstance(value, str):
        if not _NUMBER.fullmatch(value):
            raise PydanticCustomError(
                "number", "must be an integer, not {value}", {"value": repr(value)}
            )
        value = float(value)
    if isinstance(value, float):
        if not value.is_integer():
            raise PydanticCustomError("number", "must be an integer, not {value}", {"value": value})
        return int(value)
    return value


def _parse_megabytes(value: Any) -> Any:
    """Return MB from a number or a string. A number without a unit is MB, as in HTCondor."""
    if isinstance(value, bool):
        raise PydanticCustomError(
            "quantity",
            "must be a quantity such as {examples}, not true or false",
            {"examples": QUANTITY_EXAMPLES},
        )
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        return megabytes(value)
    return math.ceil(float(value)) if isinstance(value, str | float) else value


def _parse_memory(value: Any) -> Any:
    amount = _parse_megabytes(value)
    if isinstance(amount, int) and amount < MINIMUM_MEMORY_MB:
        raise PydanticCustomError(
            "quantity",
            "is {amount} MB, but a container needs at least {minimum} MB. A number without a unit "
            "means MB; write for example {examples}",
            {"amount": amount, "minimum": MINIMUM_MEMORY_MB, "examples": QUANTITY_EXAMPLES},
        )
    return amount


Integer = Annotated[int, BeforeValidator(_parse_integer)]
Memory = Annotated[int, BeforeValidator(_parse_memory), Field(le=MAXIMUM_MEMORY_MB)]
Disk = Annotated[int, BeforeValidator(_parse_megabytes), Field(ge=1, le=MAXIMUM_DISK_MB)]
SCHEDD, GALAXY = "schedd", "galaxy"


class Parameters(FrozenModel):
    """The parameters of one job's destination.

    `escalation` names the single owner of the retry after a job exceeded its memory: the schedd,
    which then requests `max_memory`, or Galaxy with `resubmit`.
    """

    request_cpus: Integer = Field(1, ge=1, le=4096)
    request_memory: Memory = Field(512, description="MB, or a string with a unit")
    max_memory: Memory | None = Field(None, description="MB, or a string with a unit")
    request_disk: Disk = Field(1024, description="MB, or a string with a unit")
    request_gpus: Integer = Field(0, ge=0, le=1024)
    time_limit_s: Integer | None = Field(None, ge=1, le=10 * 365 * 86400)
    capacity_class: str | None = None
    escalation: Literal["schedd", "galaxy"] | None = None
    raw_commands: dict[str, str] = Field(default_factory=dict, description="raw HTCondor commands")

    @property
    def schedd_escalates(self) -> bool:
        """Whether the schedd, not Galaxy, retries a job that exceeded its memory."""
        return schedd_escalates(self.model_dump(include={"escalation", "max_memory"}))

    @property
    def resources(self) -> Resources:
        """The resources that the job requests."""
        return Resources(
            cpus=self.request_cpus,
            memory_mb=self.request_memory,
            max_memory_mb=self.max_memory,
            disk_mb=self.request_disk,
            gpus=self.request_gpus,
            time_limit_s=self.time_limit_s,
        )


PARAMETER_KEYS = frozenset(Parameters.model_fields) - {"raw_commands"}


def schedd_escalates(params: Mapping[str, Any]) -> bool:
    """Return whether the schedd retries a job that exceeded its memory.

    `params` are a destination's parameters as Galaxy stores them.
    """
    return (params.get("escalation") or SCHEDD) == SCHEDD and bool(params.get("max_memory"))


def parse_parameters(params: Mapping[str, Any], destination: str, pool: Pool) -> Parameters:
    """Return the parameters of a destination of that name, for jobs in a pool.

    Raise InvalidInputError with a diagnostic for every invalid key.
    """
    given = {key: value for key, value in params.items() if value is not None and value != ""}
    raw_commands, problems = _parse_raw_commands(given)
    problems = [*_unsupported_keys(given, pool), *problems]
    settings = {key: given[key] for key in PARAMETER_KEYS if key in given}
    parameters: Parameters | None = None
    try:
        parameters = Parameters.model_validate(settings | {"raw_commands": raw_commands})
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            message = detail["msg"]
            if detail["type"] == "literal_error":
                message = f"must be {detail['ctx']['expected']}, not {detail['input']!r}"
            problems.append((str(detail["loc"][0]), message))
    if parameters is not None:
        problems += _find_contradictions(parameters, pool)
    if problems or parameters is None:
        raise InvalidInputError(
            Diagnostic(message, source=destination, path=key) for key, message in problems
        )
    return parameters


def _unsupported_keys(params: Mapping[str, Any], pool: Pool) -> Iterator[tuple[str, str]]:
    """Yield keys that an administrator meant for this runner and that it does not support."""
    for key, value in params.items():
        if key in PARAMETER_KEYS or key.startswith(RAW_PREFIX) or is_environment_key(key):
            continue
        if key == "universe":
            if str(value).strip().lower() not in ("docker", "container"):
                yield key, _UNIVERSE_MESSAGE.format(repr(value))
        elif key == "pool":
            if value != pool.name:
                yield key, _POOL_MISMATCH_MESSAGE.format(repr(value), pool.name)
        elif key == "request_walltime":
            yield key, "is not supported: use time_limit_s, in seconds"
        elif _IMAGE_COMMANDS.fullmatch(key):
            yield key, _IMAGE_COMMAND_MESSAGE
        elif _OBSOLETE_COMMANDS.fullmatch(key):
            yield key, "is an HTCondor command that the runner sets itself: remove the line"
        elif _UNPREFIXED_COMMANDS.fullmatch(key):
            yield key, f"is a raw HTCondor command: write {RAW_PREFIX}{key} to pass it on"
        else:
            hint = did_you_mean(key, PARAMETER_KEYS)
            if hint and not key.startswith(("tpv_", "docker_", "__")):
                yield key, f"is not a known parameter{hint}"


def _parse_raw_commands(params: Mapping[str, Any]) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Return the raw commands without their prefix, and the problems of invalid ones."""
    commands: dict[str, str] = {}
    problems = []
    for key, value in params.items():
        if not key.startswith(RAW_PREFIX):
            continue
        name = key.removeprefix(RAW_PREFIX)
        text = str(value).strip()
        try:
            reject_control_characters(text)
        except PydanticCustomError as error:
            problems.append((key, str(error)))
            continue
        if name in _POOL_COMMANDS:
            message = (
                "is a setting of Galaxy's htcondor runner. The pool is configured under runners: "
                "remove the line"
            )
            problems.append((key, message))
        elif _RESERVED_COMMANDS.fullmatch(name):
            problems.append((key, "is set by the runner itself: remove the line"))
        elif not _COMMAND_NAME.fullmatch(name):
            problems.append((key, f"{name!r} is not a valid name of a submit command"))
        elif name.lower() == "requirements":
            commands["requirements"] = f"({CLASS_REQUIREMENT}) && ({text})"
        else:
            commands[re.sub(r"^\+", "My.", name)] = text
    return commands, problems


def _find_contradictions(parameters: Parameters, pool: Pool) -> Iterator[tuple[str, str]]:
    class_name, max_memory = parameters.capacity_class, parameters.max_memory
    if class_name is not None and class_name not in pool.classes:
        hint = did_you_mean(class_name, pool.classes)
        yield (
            "capacity_class",
            f"{class_name!r} is not a class of pool {pool.name} ({pool.describe_classes()}){hint}",
        )
    if max_memory is not None and max_memory < parameters.request_memory:
        yield (
            "max_memory",
            f"is {max_memory} MB, less than request_memory ({parameters.request_memory} MB)",
        )
    if parameters.escalation == SCHEDD and max_memory is None:
        yield (
            "escalation",
            "is schedd, which requires max_memory: set max_memory to the memory of the retry",
        )
    if parameters.escalation == GALAXY and max_memory is not None:
        yield (
            "escalation",
            "is galaxy, but max_memory makes the schedd retry the job too: remove one of the two",
        )
