"""The parameters of a destination: what an environment of job_conf, or a rule such as TPV, sets.

`swarm-runner validate` and Galaxy's runner both read them here. Rules write numbers as texts, and
add keys of their own. Foreign keys are therefore ignored: `classify_keys` tells which those are,
and which of them are likely slips.
"""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Field, StrictInt, ValidationError
from pydantic_core import PydanticCustomError

from swarm_runner.config.docker_keys import docker_key_warnings
from swarm_runner.config.galaxy_keys import ENVIRONMENT_KEYS, is_environment_key
from swarm_runner.config.validation import error_messages
from swarm_runner.errors import Diagnostic, InvalidInputError
from swarm_runner.model.isolation import ContainerOptions
from swarm_runner.model.number_schemas import integer_schema
from swarm_runner.model.pool import Pool
from swarm_runner.model.resources import Cpus, DiskOrText, MemoryOrText, Resources
from swarm_runner.model.scheduling import (
    MAXIMUM_PRIORITY,
    GpuModel,
    LabelName,
    LabelValue,
    Scheduling,
)
from swarm_runner.model.shares import SEPARATOR, Account, LimitName
from swarm_runner.model.text import (
    FrozenModel,
    Image,
    did_you_mean,
    reject_control_characters,
)
from swarm_runner.model.units import integer
from swarm_runner.submit.translation import CLASS_REQUIREMENT

RAW_PREFIX = "htcondor_"
SCHEDD, GALAXY = "schedd", "galaxy"
# How similar a key must be to one of ours to be called a slip. Foreign keys often contain ours:
# submit_request_gpus.
_SLIP_SIMILARITY = 0.8
# Names longer than any key, and more of them than a person writes, are not compared.
_MAX_COMPARED_LENGTH, MAX_COMPARED_KEYS = 40, 100
_COMMAND_NAME = re.compile(r"(\+|My\.)?[A-Za-z_][A-Za-z0-9_]*", re.IGNORECASE)
# The next three patterns are compiled when they are first used: it takes milliseconds, and most
# commands use none. The runner sets these itself, or they are not valid in a submit description.
# HTCondor also accepts the names of the job ad's attributes as commands.
_RESERVED_COMMANDS = (
    r"(\+|My\.)?(universe|jobuniverse|wantdocker|docker_?image|container_?image|executable|cmd|"
    r"transfer_?executable|arguments|args|environment|env|getenv|initial_?dir|job_iwd|iwd|input|in|"
    r"output|out|error|err|log|userlog|(retry_?)?request_?\w+|allowed_?\w+_?duration|"
    r"job_?lease_?duration|should_?transfer_?files|when_?to_?transfer_?output|"
    r"transfer_?(input|output)\w*|submit_?event_?notes|ulog_?execute_?attrs|swarmrunner\w*|"
    r"galaxyjobid|galaxydestination|hold|leave_?(job_?)?in_?queue|owner|user|clusterid|procid|"
    r"jobstatus|queue|include|use|if|elif|else|endif|warning)|(\+|My\.)Requirements"
)
# Those of them that destinations of older runners contain, without the prefix.
_OBSOLETE_COMMANDS = (
    r"executable|transfer_\w+|arguments|environment|getenv|initialdir|input|output|error|log|hold|"
    r"queue|leave_in_queue|should_transfer_files|when_to_transfer_output|submit_event_notes|"
    r"job_lease_duration|retry_request_\w+"
)
# Commands that Galaxy's older HTCondor runners pass on. This runner requires the prefix.
_UNPREFIXED_COMMANDS = (
    r"requirements|rank|periodic_\w+|on_exit_\w+|accounting_group\w*|nice_user|"
    r"concurrency_limits\w*|(\+|My\.)\w+|max_retries|retry_until|success_exit_code|notification|"
    r"notify_user|email_attributes|job_max_vacate_time|max_idle|max_materialize|want_\w+|"
    r"job_prio|batch_name|stream_(output|error|input)|docker_network_type|docker_pull_policy|"
    r"docker_override_entrypoint|container_service_names|keep_claim_idle|kill_sig\w*|"
    r"deferral_\w+|cron_\w+|job_machine_attrs\w*|use_x509userproxy|x509userproxy|coresize|"
    r"encrypt_\w+|dont_encrypt_\w+|max_transfer_\w+|noop_job\w*|priority_\w+|gpus_\w+|"
    r"require_gpus|stack_size|use_oauth_services|\w+_oauth_\w+"
)
_IMAGE_COMMANDS = re.compile("docker_image|container_image", re.IGNORECASE)
_IMAGE_COMMAND_MESSAGE = (
    "is ignored: in Galaxy each tool names its own image. docker_default_container_id sets the "
    "image of tools that name none, and docker_container_id_override sets the image of all tools"
)
_POOL_COMMANDS = ("collector", "schedd", "config")


_MAXIMUM_TIME_S = 10 * 365 * 86400
_Integer = Annotated[StrictInt, BeforeValidator(integer)]
_Gpus = Annotated[_Integer, Field(ge=0, le=1024), integer_schema(0, 1024)]
_Priority = Annotated[
    _Integer,
    Field(ge=-MAXIMUM_PRIORITY, le=MAXIMUM_PRIORITY),
    integer_schema(-MAXIMUM_PRIORITY, MAXIMUM_PRIORITY),
]
_Amount = Annotated[_Integer, Field(ge=1, le=1_000_000), integer_schema(1, 1_000_000)]
_Time = Annotated[_Integer, Field(ge=1, le=_MAXIMUM_TIME_S), integer_schema(1, _MAXIMUM_TIME_S)]


class DestinationParameters(FrozenModel):
    """The parameters of one destination.

    `escalation` names the single owner of the retry after a job exceeded its memory: the schedd,
    which then requests `max_memory`, or Galaxy with `resubmit`.
    """

    request_cpus: Cpus = Field(1, description="the CPUs of a job")
    request_memory: MemoryOrText = Field(512, description="the memory of a job")
    max_memory: MemoryOrText | None = Field(
        None, description="what the schedd requests after the job exceeded its memory"
    )
    request_disk: DiskOrText = Field(1024, description="the disk space of a job")
    request_gpus: _Gpus = Field(0, description="requires a class with `gpus`")
    time_limit_s: _Time | None = Field(
        None, description="seconds of execution, after which the job is ended"
    )
    capacity_class: str | None = Field(
        None, description="a class of the runner's pool; routed by the request when absent"
    )
    docker_default_container_id: Image | None = Field(
        None, description="the image of tools and invocations that name none"
    )
    escalation: Literal["schedd", "galaxy"] | None = Field(
        None, description="what retries a job that exceeded its memory; only for Galaxy's runner"
    )
    container_options: ContainerOptions | None = Field(
        None, description="network, volumes and the like; the pool limits what jobs may ask for"
    )
    account: Account | None = Field(
        None,
        description="`[GROUP/]USER` for whom the jobs run; in Galaxy, each user when absent",
    )
    account_by: Literal["username", "email", "id", "none"] = Field(
        "username", description="Galaxy: what the account of each user is called"
    )
    account_group: Account | None = Field(
        None, description="Galaxy: the group of `pool.shares` in which each user's jobs count"
    )
    priority: _Priority = Field(0, description="among the jobs of one user: higher ones first")
    limits: dict[LimitName, _Amount] = Field(
        default_factory=dict, description="what a job uses of the pool's `shares.limits`"
    )
    node_labels: dict[LabelName, LabelValue] = Field(
        default_factory=dict, description="labels that a job's node has; routed to such a class"
    )
    gpu_model: GpuModel | None = Field(
        None, description="part of the name of the GPUs; routed to such a class"
    )
    gpu_memory: MemoryOrText | None = Field(
        None, description="the memory of each GPU; routed to such a class"
    )
    interactive_tools: bool = Field(
        False,
        description="Galaxy: run interactive tools, whose ports `pool.isolation.ports` publishes",
    )
    singularity_to_docker: bool = Field(
        True,
        description="Galaxy: run a tool whose Singularity image was made from a Docker image in "
        "the latter",
    )
    raw_commands: dict[str, str] = Field(
        default_factory=dict, description="raw HTCondor commands", exclude=True
    )

    @property
    def schedd_escalates(self) -> bool:
        """Whether the schedd, not Galaxy, retries a job that exceeded its memory."""
        return schedd_escalates({"escalation": self.escalation, "max_memory": self.max_memory})

    @property
    def resources(self) -> Resources:
        """The resources that a job requests."""
        return Resources(**{name: getattr(self, key) for key, name in _RESOURCES.items()})

    @property
    def set_resources(self) -> Resources | None:
        """Only what the destination sets; None if it sets nothing."""
        fields_set = self.model_fields_set
        amounts = {
            name: getattr(self, key)
            for key, name in _RESOURCES.items()
            if key in fields_set and getattr(self, key) is not None
        }
        return Resources(**amounts) if amounts else None

    @property
    def scheduling(self) -> Scheduling:
        """What the destination sets of account, priority and placement, and nothing else."""
        values = {
            name: getattr(self, key)
            for key, name in _SCHEDULING.items()
            if key in self.model_fields_set
        }
        return Scheduling(**values)

    def account_of(self, names: Iterable[str]) -> str | None:
        """Return the account of one of a workflow engine's users: the first name that can be one.

        None if there is no such name.
        """
        if self.account is not None:
            return self.account
        group = f"{self.account_group}{SEPARATOR}" if self.account_group else ""
        for name in names:
            # A slash in a user's name is not a group.
            account = group + " ".join(name.replace(SEPARATOR, "|").split())
            with contextlib.suppress(ValidationError):
                return Scheduling(account=account).account
        return None


_SCHEDULING = {
    "account": "account",
    "priority": "priority",
    "limits": "limits",
    "node_labels": "node_labels",
    "gpu_model": "gpu_model",
    "gpu_memory": "gpu_memory_mb",
}
_RESOURCES = {
    "request_cpus": "cpus",
    "request_memory": "memory_mb",
    "max_memory": "max_memory_mb",
    "request_disk": "disk_mb",
    "request_gpus": "gpus",
    "time_limit_s": "time_limit_s",
}
PARAMETER_KEYS = frozenset(DestinationParameters.model_fields) - {"raw_commands"}
_KNOWN_KEYS = sorted(PARAMETER_KEYS | ENVIRONMENT_KEYS)


def schedd_escalates(params: Mapping[str, Any]) -> bool:
    """Return whether the schedd retries a job that exceeded its memory.

    `params` are a destination's parameters as Galaxy stores them.
    """
    return (params.get("escalation") or SCHEDD) == SCHEDD and bool(params.get("max_memory"))


def parse_parameters(
    params: Mapping[str, Any], destination: str, pool: Pool | None
) -> DestinationParameters:
    """Return the parameters of a destination of that name, for jobs in a pool.

    Without a pool, because its configuration is invalid, the class is not checked. A key without a
    value (null, or an empty text) counts as absent, and foreign keys are ignored.

    Raises InvalidInputError with a diagnostic for every invalid key.
    """
    given = {key: value for key, value in params.items() if value is not None and value != ""}
    raw_commands, problems = _parse_raw_commands(given)
    settings = {key: given[key] for key in PARAMETER_KEYS if key in given}
    parameters: DestinationParameters | None = None
    try:
        parameters = DestinationParameters.model_validate(settings | {"raw_commands": raw_commands})
    except ValidationError as error:
        for path, message in error_messages(error, DestinationParameters):
            problems.append((str(path[0]), message))
    if parameters is not None:
        problems += _find_contradictions(parameters, pool)
    if problems or parameters is None:
        raise InvalidInputError(
            Diagnostic(message, source=destination, path=key)
            for key, message in dict.fromkeys(problems)
        )
    return parameters


class ForeignKeys(NamedTuple):
    """The keys of a destination that have no effect.

    `ignored` are those of other programs. `warnings` are a key and a message for each that was
    probably meant for swarm_runner.
    """

    ignored: tuple[str, ...]
    warnings: tuple[tuple[str, str], ...]


def classify_keys(
    params: Mapping[Any, Any], pool: Pool, max_compared: int = MAX_COMPARED_KEYS
) -> ForeignKeys:
    """Return the keys of a destination that neither Galaxy nor swarm_runner reads.

    The first `max_compared` of them are compared with known keys, which takes time.
    """
    ignored: list[str] = []
    warnings = docker_key_warnings(params, pool)
    for key in map(str, params):
        if key in PARAMETER_KEYS or (is_environment_key(key) and not key.startswith(RAW_PREFIX)):
            continue
        message = _warning(key, params.get(key), pool)
        if not message and key.startswith(RAW_PREFIX):
            continue
        if not message and len(ignored) + len(warnings) < max_compared:
            message = _slip(key)
        if message:
            warnings.append((key, message))
        else:
            ignored.append(key)
    return ForeignKeys(tuple(ignored), tuple(warnings))


def _warning(key: str, value: Any, pool: Pool) -> str:
    """Return a message about a key that an administrator meant for this runner."""
    if key.startswith(RAW_PREFIX):
        if key.removeprefix(RAW_PREFIX) in _POOL_COMMANDS:
            return "is ignored: the pool is configured under runners"
        return ""
    if key == "universe":
        if str(value).strip().lower() in ("docker", "container"):
            return ""
        return "is ignored: every job runs in a container, which docker_enabled: true requires"
    if key == "pool":
        if value == pool.name:
            return ""
        return f"is ignored: the runner of this destination uses pool {pool.name}"
    if key == "request_walltime":
        return "is ignored; did you mean time_limit_s, in seconds?"
    if _IMAGE_COMMANDS.fullmatch(key):
        return _IMAGE_COMMAND_MESSAGE
    if re.fullmatch(_OBSOLETE_COMMANDS, key, re.IGNORECASE):
        return "is ignored: it is an HTCondor command that the runner sets itself"
    if re.fullmatch(_UNPREFIXED_COMMANDS, key, re.IGNORECASE):
        return f"is ignored: write {RAW_PREFIX}{key} to pass it on to HTCondor"
    return ""


def _slip(key: str) -> str:
    if key.startswith("__") or len(key) > _MAX_COMPARED_LENGTH:
        return ""
    close = difflib.get_close_matches(key, _KNOWN_KEYS, 1, _SLIP_SIMILARITY)
    return f"is ignored; did you mean {close[0]}?" if close else ""


def _parse_raw_commands(params: Mapping[str, Any]) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Return the raw commands without their prefix, and the problems of invalid ones."""
    commands: dict[str, str] = {}
    problems = []
    for key, value in params.items():
        if not str(key).startswith(RAW_PREFIX):
            continue
        name = key.removeprefix(RAW_PREFIX)
        text = str(value).strip()
        try:
            reject_control_characters(text)
        except PydanticCustomError as error:
            problems.append((key, str(error)))
            continue
        if name in _POOL_COMMANDS:
            continue
        if re.fullmatch(_RESERVED_COMMANDS, name, re.IGNORECASE):
            problems.append((key, "is set by the runner itself: remove the line"))
        elif not _COMMAND_NAME.fullmatch(name):
            problems.append((key, f"{name!r} is not a valid name of a submit command"))
        elif name.lower() == "requirements":
            commands["requirements"] = f"({CLASS_REQUIREMENT}) && ({text})"
        else:
            commands[re.sub(r"^\+", "My.", name)] = text
    return commands, problems


def _find_contradictions(
    parameters: DestinationParameters, pool: Pool | None
) -> Iterator[tuple[str, str]]:
    class_name, max_memory = parameters.capacity_class, parameters.max_memory
    if pool is not None and class_name is not None and class_name not in pool.classes:
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
    if parameters.interactive_tools and pool is not None:
        options = parameters.container_options or ContainerOptions()
        options = options.model_copy(update={"ports": {"port": 80}})
        # A job that names no class is routed: one class that publishes ports may be enough.
        names = [name for name in pool.classes if class_name in (None, name)]
        problems = [pool.isolation_of(name).port_problem(options) for name in names]
        if problems and all(problems):
            yield "interactive_tools", f"is true, but a job there {problems[0]}"
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
