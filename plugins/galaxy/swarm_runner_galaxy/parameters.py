"""What a destination asks for, from Galaxy's parameters.

Destinations come from job_conf.yml with YAML's types, and from dynamic rules (TPV) as texts, with
keys of others among them. So numbers may be texts, and a key that is not ours is passed over,
unless it is a slip of the pen or a raw HTCondor command that would have no effect.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_core import PydanticCustomError

from swarm_runner.config.galaxy_keys import is_environment_key
from swarm_runner.errors import Diagnostic, InvalidInputError
from swarm_runner.model.pool import Pool
from swarm_runner.model.resources import (
    MAXIMUM_DISK_MB,
    MAXIMUM_MEMORY_MB,
    MINIMUM_MEMORY_MB,
    Resources,
)
from swarm_runner.model.text import FrozenModel, did_you_mean, reject_control_characters
from swarm_runner.model.units import QUANTITY_EXAMPLES, megabytes
from swarm_runner.submit.translation import CLASS_REQUIREMENT

RAW_PREFIX = "htcondor_"
_NUMBER = re.compile(r"\s*[0-9]{1,15}(\.[0-9]{1,9})?\s*")
_COMMAND_NAME = re.compile(r"(\+|My\.)?[A-Za-z_][A-Za-z0-9_]*", re.IGNORECASE)
# What the runner writes into each submit description itself, by the names of the commands and of
# the job ad's attributes, which HTCondor takes for commands too; and what is no command at all.
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
# Those of them that stand in old destinations.
_OBSOLETE_COMMANDS = re.compile(
    r"executable|transfer_\w+|arguments|environment|getenv|initialdir|input|output|error|log|hold|"
    r"queue|leave_in_queue|should_transfer_files|when_to_transfer_output|submit_event_notes|"
    r"job_lease_duration|retry_request_\w+",
    re.IGNORECASE,
)
# Raw commands of Galaxy's older HTCondor runners, which this one takes with the prefix alone.
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
    "is an HTCondor command: here each tool brings its own image. Remove the line; "
    "docker_default_container_id names the image of tools without one, and "
    "docker_container_id_override that of all"
)
_UNIVERSE_MESSAGE = (
    "is {}, a setting of Galaxy's older HTCondor runners. This one runs every tool in its "
    "container, in the docker universe: remove the line, and set docker_enabled: true"
)
_POOL_MISMATCH_MESSAGE = (
    "is {}, but this destination's runner has the pool {}: pools are named under runners. Remove "
    "the line, or name another runner"
)
_POOL_COMMANDS = ("collector", "schedd", "config")


def _parse_whole_number(value: Any) -> Any:
    """A whole number, also as TPV writes one: "4" or "4.0"."""
    if isinstance(value, bool):
        raise PydanticCustomError("number", "needs a whole number, not true or false")
    if isinstance(value, str):
        if not _NUMBER.fullmatch(value):
            raise PydanticCustomError(
                "number", "needs a whole number, not {value}", {"value": repr(value)}
            )
        value = float(value)
    if isinstance(value, float):
        if not value.is_integer():
            raise PydanticCustomError(
                "number", "needs a whole number, not {value}", {"value": value}
            )
        return int(value)
    return value


def _parse_megabytes(value: Any) -> Any:
    """MB, from a number or a text. A number without a unit is MB, as HTCondor takes it."""
    if isinstance(value, bool):
        raise PydanticCustomError(
            "quantity", "needs an amount, such as {forms}", {"forms": QUANTITY_EXAMPLES}
        )
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        return megabytes(value)
    return math.ceil(float(value)) if isinstance(value, str | float) else value


def _parse_memory(value: Any) -> Any:
    amount = _parse_megabytes(value)
    if isinstance(amount, int) and amount < MINIMUM_MEMORY_MB:
        raise PydanticCustomError(
            "quantity",
            "is {amount} MB, below the least that runs a container ({least} MB); a number without "
            "a unit means MB. Write for example {forms}",
            {"amount": amount, "least": MINIMUM_MEMORY_MB, "forms": QUANTITY_EXAMPLES},
        )
    return amount


WholeNumber = Annotated[int, BeforeValidator(_parse_whole_number)]
Memory = Annotated[int, BeforeValidator(_parse_memory), Field(le=MAXIMUM_MEMORY_MB)]
Disk = Annotated[int, BeforeValidator(_parse_megabytes), Field(ge=1, le=MAXIMUM_DISK_MB)]
SCHEDD, GALAXY = "schedd", "galaxy"


class Parameters(FrozenModel):
    """One job's destination, as far as it concerns us.

    `escalation` names the one owner of another try after a job was ended for its memory: the
    schedd, which then asks for `max_memory`, or Galaxy with its `resubmit`.
    """

    request_cpus: WholeNumber = Field(1, ge=1, le=4096)
    request_memory: Memory = Field(512, description="MB, or a text with a unit")
    max_memory: Memory | None = Field(None, description="MB, or a text with a unit")
    request_disk: Disk = Field(1024, description="MB, or a text with a unit")
    request_gpus: WholeNumber = Field(0, ge=0, le=1024)
    time_limit_s: WholeNumber | None = Field(None, ge=1, le=10 * 365 * 86400)
    capacity_class: str | None = None
    escalation: Literal["schedd", "galaxy"] | None = None
    raw_commands: dict[str, str] = Field(default_factory=dict, description="raw HTCondor commands")

    @property
    def schedd_escalates(self) -> bool:
        """Whether the schedd, not Galaxy, gives a job that ran out of memory another try."""
        return schedd_escalates(self.model_dump(include={"escalation", "max_memory"}))

    @property
    def resources(self) -> Resources:
        """The same in the core's words."""
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
    """Whether the schedd owns another try, by a destination's parameters as Galaxy keeps them."""
    return (params.get("escalation") or SCHEDD) == SCHEDD and bool(params.get("max_memory"))


def parse_parameters(params: Mapping[str, Any], destination: str, pool: Pool) -> Parameters:
    """The parameters of a destination of that name, for a pool.

    Raises InvalidInputError with every fault, each with the name of its key.
    """
    faults: list[Diagnostic] = []
    given = {key: value for key, value in params.items() if value is not None and value != ""}
    faults += [
        Diagnostic(said, source=destination, path=key)
        for key, said in _unsupported_keys(given, pool)
    ]
    raw, wrong = _parse_raw_commands(given)
    faults += [Diagnostic(said, source=destination, path=key) for key, said in wrong]
    settings = {key: given[key] for key in PARAMETER_KEYS if key in given} | {"raw_commands": raw}
    parameters: Parameters | None = None
    try:
        parameters = Parameters.model_validate(settings)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            said = detail["msg"]
            if detail["type"] == "literal_error":
                said = f"must be {detail['ctx']['expected']}, not {detail['input']!r}"
            faults.append(Diagnostic(said, source=destination, path=str(detail["loc"][0])))
    if parameters is not None:
        faults += [
            Diagnostic(said, source=destination, path=k)
            for k, said in _find_contradictions(parameters, pool)
        ]
    if faults or parameters is None:
        raise InvalidInputError(faults)
    return parameters


def _unsupported_keys(params: Mapping[str, Any], pool: Pool) -> Iterator[tuple[str, str]]:
    """Keys that are not ours, but would have been meant for us."""
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
            yield key, "is not known here: write time_limit_s, in seconds"
        elif _IMAGE_COMMANDS.fullmatch(key):
            yield key, _IMAGE_COMMAND_MESSAGE
        elif _OBSOLETE_COMMANDS.fullmatch(key):
            yield key, "is an HTCondor command that the runner sets itself: remove the line"
        elif _UNPREFIXED_COMMANDS.fullmatch(key):
            yield key, f"is a raw HTCondor command: write {RAW_PREFIX}{key} to pass it on"
        else:
            hint = did_you_mean(key, PARAMETER_KEYS)
            if hint and not key.startswith(("tpv_", "docker_", "__")):
                yield key, f"is not known here{hint}"


def _parse_raw_commands(params: Mapping[str, Any]) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """The commands with the prefix, and what is wrong with others."""
    commands: dict[str, str] = {}
    faults = []
    for key, value in params.items():
        if not key.startswith(RAW_PREFIX):
            continue
        name = key.removeprefix(RAW_PREFIX)
        text = str(value).strip()
        try:
            reject_control_characters(text)
        except PydanticCustomError as error:
            faults.append((key, str(error)))
            continue
        if name in _POOL_COMMANDS:
            faults.append((key, "is of Galaxy's htcondor runner: the pool is named under runners"))
        elif _RESERVED_COMMANDS.fullmatch(name):
            faults.append((key, "is set by the runner itself"))
        elif not _COMMAND_NAME.fullmatch(name):
            faults.append((key, f"{name!r} is no submit command"))
        elif name.lower() == "requirements":
            commands["requirements"] = f"({CLASS_REQUIREMENT}) && ({text})"
        else:
            commands[re.sub(r"^\+", "My.", name)] = text
    return commands, faults


def _find_contradictions(parameters: Parameters, pool: Pool) -> Iterator[tuple[str, str]]:
    wanted, most = parameters.capacity_class, parameters.max_memory
    if wanted is not None and wanted not in pool.classes:
        hint = did_you_mean(wanted, pool.classes)
        yield (
            "capacity_class",
            f"{wanted!r} is no class of pool {pool.name}{hint}; it has {pool.describe_classes()}",
        )
    if most is not None and most < parameters.request_memory:
        yield (
            "max_memory",
            f"is {most} MB, less than request_memory ({parameters.request_memory} MB)",
        )
    if parameters.escalation == SCHEDD and most is None:
        yield "escalation", "is schedd: say in max_memory what it is to ask for"
    if parameters.escalation == GALAXY and most is not None:
        yield (
            "escalation",
            "is galaxy, and max_memory lets the schedd try again too: remove one of the two",
        )
