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

from swarm_runner.errors import Fault, InvalidInputError
from swarm_runner.model.document import suggestion
from swarm_runner.model.galaxy_keys import is_environment_key
from swarm_runner.model.pool import Pool
from swarm_runner.model.quantity import FORMS, megabytes
from swarm_runner.model.resources import (
    MAXIMUM_DISK_MB,
    MAXIMUM_MEMORY_MB,
    MINIMUM_MEMORY_MB,
    Resources,
)
from swarm_runner.model.text import Frozen, no_control
from swarm_runner.translate import IN_ITS_CLASS

RAW = "htcondor_"
_NUMBER = re.compile(r"\s*[0-9]{1,15}(\.[0-9]{1,9})?\s*")
_COMMAND = re.compile(r"(\+|My\.)?[A-Za-z_][A-Za-z0-9_]*", re.IGNORECASE)
# What the runner writes into each submit description itself, by the names of the commands and of
# the job ad's attributes, which HTCondor takes for commands too; and what is no command at all.
_OURS = re.compile(
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
_LEFT_OVER = re.compile(
    r"executable|transfer_\w+|arguments|environment|getenv|initialdir|input|output|error|log|hold|"
    r"queue|leave_in_queue|should_transfer_files|when_to_transfer_output|submit_event_notes|"
    r"job_lease_duration|retry_request_\w+",
    re.IGNORECASE,
)
# Raw commands of Galaxy's older HTCondor runners, which this one takes with the prefix alone.
_RAW_COMMANDS = re.compile(
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
_IMAGE = re.compile("docker_image|container_image", re.IGNORECASE)
_TOOLS_IMAGE = (
    "is an HTCondor command: here each tool brings its own image. Remove the line; "
    "docker_default_container_id names the image of tools without one, and "
    "docker_container_id_override that of all"
)
_OLD_UNIVERSE = (
    "is {}, a setting of Galaxy's older HTCondor runners. This one runs every tool in its "
    "container, in the docker universe: remove the line, and set docker_enabled: true"
)
_OTHER_POOL = (
    "is {}, but this destination's runner has the pool {}: pools are named under runners. Remove "
    "the line, or name another runner"
)
_POOLS = ("collector", "schedd", "config")


def _number(value: Any) -> Any:
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


def _megabytes(value: Any) -> Any:
    """MB, from a number or a text. A number without a unit is MB, as HTCondor takes it."""
    if isinstance(value, bool):
        raise PydanticCustomError("quantity", "needs an amount, such as {forms}", {"forms": FORMS})
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        return megabytes(value)
    return math.ceil(float(value)) if isinstance(value, str | float) else value


def _memory(value: Any) -> Any:
    amount = _megabytes(value)
    if isinstance(amount, int) and amount < MINIMUM_MEMORY_MB:
        raise PydanticCustomError(
            "quantity",
            "is {amount} MB, below the least that runs a container ({least} MB); a number without "
            "a unit means MB. Write for example {forms}",
            {"amount": amount, "least": MINIMUM_MEMORY_MB, "forms": FORMS},
        )
    return amount


Number = Annotated[int, BeforeValidator(_number)]
Memory = Annotated[int, BeforeValidator(_memory), Field(le=MAXIMUM_MEMORY_MB)]
Disk = Annotated[int, BeforeValidator(_megabytes), Field(ge=1, le=MAXIMUM_DISK_MB)]
SCHEDD, GALAXY = "schedd", "galaxy"


class Parameters(Frozen):
    """One job's destination, as far as it concerns us.

    `escalation` names the one owner of another try after a job was ended for its memory: the
    schedd, which then asks for `max_memory`, or Galaxy with its `resubmit`.
    """

    request_cpus: Number = Field(1, ge=1, le=4096)
    request_memory: Memory = Field(512, description="MB, or a text with a unit")
    max_memory: Memory | None = Field(None, description="MB, or a text with a unit")
    request_disk: Disk = Field(1024, description="MB, or a text with a unit")
    request_gpus: Number = Field(0, ge=0, le=1024)
    time_limit_s: Number | None = Field(None, ge=1, le=10 * 365 * 86400)
    capacity_class: str | None = None
    escalation: Literal["schedd", "galaxy"] | None = None
    raw: dict[str, str] = Field(default_factory=dict, description="raw HTCondor commands")

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


OWN = frozenset(Parameters.model_fields) - {"raw"}


def schedd_escalates(params: Mapping[str, Any]) -> bool:
    """Whether the schedd owns another try, by a destination's parameters as Galaxy keeps them."""
    return (params.get("escalation") or SCHEDD) == SCHEDD and bool(params.get("max_memory"))


def parse(params: Mapping[str, Any], destination: str, pool: Pool) -> Parameters:
    """The parameters of a destination of that name, for a pool.

    Raises InvalidInputError with every fault, each with the name of its key.
    """
    faults: list[Fault] = []
    given = {key: value for key, value in params.items() if value is not None and value != ""}
    faults += [Fault(f"{destination}: {key}", said) for key, said in _strange(given, pool)]
    raw, wrong = _raw(given)
    faults += [Fault(f"{destination}: {key}", said) for key, said in wrong]
    settings = {key: given[key] for key in OWN if key in given} | {"raw": raw}
    parameters: Parameters | None = None
    try:
        parameters = Parameters.model_validate(settings)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            said = detail["msg"]
            if detail["type"] == "literal_error":
                said = f"must be {detail['ctx']['expected']}, not {detail['input']!r}"
            faults.append(Fault(f"{destination}: {detail['loc'][0]}", said))
    if parameters is not None:
        faults += [
            Fault(f"{destination}: {k}", said) for k, said in _contradictions(parameters, pool)
        ]
    if faults or parameters is None:
        raise InvalidInputError(faults)
    return parameters


def _strange(given: Mapping[str, Any], pool: Pool) -> Iterator[tuple[str, str]]:
    """Keys that are not ours, but would have been meant for us."""
    for key, value in given.items():
        if key in OWN or key.startswith(RAW) or is_environment_key(key):
            continue
        if key == "universe":
            if str(value).strip().lower() not in ("docker", "container"):
                yield key, _OLD_UNIVERSE.format(repr(value))
        elif key == "pool":
            if value != pool.name:
                yield key, _OTHER_POOL.format(repr(value), pool.name)
        elif key == "request_walltime":
            yield key, "is not known here: write time_limit_s, in seconds"
        elif _IMAGE.fullmatch(key):
            yield key, _TOOLS_IMAGE
        elif _LEFT_OVER.fullmatch(key):
            yield key, "is an HTCondor command that the runner sets itself: remove the line"
        elif _RAW_COMMANDS.fullmatch(key):
            yield key, f"is a raw HTCondor command: write {RAW}{key} to pass it on"
        else:
            hint = suggestion(key, OWN)
            if hint and not key.startswith(("tpv_", "docker_", "__")):
                yield key, f"is not known here{hint}"


def _raw(given: Mapping[str, Any]) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """The commands with the prefix, and what is wrong with others."""
    commands: dict[str, str] = {}
    faults = []
    for key, value in given.items():
        if not key.startswith(RAW):
            continue
        name = key.removeprefix(RAW)
        text = str(value).strip()
        try:
            no_control(text)
        except PydanticCustomError as error:
            faults.append((key, str(error)))
            continue
        if name in _POOLS:
            faults.append((key, "is of Galaxy's htcondor runner: the pool is named under runners"))
        elif _OURS.fullmatch(name):
            faults.append((key, "is set by the runner itself"))
        elif not _COMMAND.fullmatch(name):
            faults.append((key, f"{name!r} is no submit command"))
        elif name.lower() == "requirements":
            commands["requirements"] = f"({IN_ITS_CLASS}) && ({text})"
        else:
            commands[re.sub(r"^\+", "My.", name)] = text
    return commands, faults


def _contradictions(parameters: Parameters, pool: Pool) -> Iterator[tuple[str, str]]:
    wanted, most = parameters.capacity_class, parameters.max_memory
    if wanted is not None and wanted not in pool.classes:
        hint = suggestion(wanted, pool.classes)
        yield (
            "capacity_class",
            f"{wanted!r} is no class of pool {pool.name}{hint}; it has {pool.sizes()}",
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
