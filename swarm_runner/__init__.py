"""Run a workflow engine's tool invocations on an HTCondor pool in a Docker Swarm.

These are the public names of swarm_runner, together with the package `swarm_runner.testing`.
Each name is imported on first use: a program that only describes invocations loads neither
HTCondor's bindings nor the Docker SDK.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from swarm_runner._version import __version__

if TYPE_CHECKING:
    from swarm_runner.condor.access_point import AccessPoint
    from swarm_runner.condor.access_point_process import AccessPointProcess
    from swarm_runner.condor.ports import (
        AccessPointPort,
        Ad,
        JobQuery,
        SubmitInDoubtError,
        SubmitResult,
    )
    from swarm_runner.condor.tokens import token_file, token_user
    from swarm_runner.config.current import get_current_config
    from swarm_runner.config.destination_parameters import (
        DestinationParameters,
        ForeignKeys,
        classify_keys,
        parse_parameters,
        schedd_escalates,
    )
    from swarm_runner.config.docker_keys import docker_variables
    from swarm_runner.config.documents import dump_invocations, parse_invocations
    from swarm_runner.config.galaxy_keys import RUNNER_KEYS
    from swarm_runner.config.job_conf import (
        JobConf,
        RunnerSection,
        find_job_config,
        parse_job_conf,
        parse_runner,
    )
    from swarm_runner.config.validation import parse_document, validate_document
    from swarm_runner.config.yaml_source import Document, KeyPath
    from swarm_runner.errors import (
        ConflictError,
        Diagnostic,
        InvalidInputError,
        PreconditionError,
        SubmitUnresolvedError,
        SwarmRunnerError,
        UnreachableError,
    )
    from swarm_runner.hooks.specs import hookimpl
    from swarm_runner.metrics.exposition import MetricsServer, StoreCollector
    from swarm_runner.metrics.runner_metrics import MeteredRunner, RunnerMetrics
    from swarm_runner.metrics.store import MetricStore
    from swarm_runner.model.files import InputFile
    from swarm_runner.model.htcondor import EventType, HoldCode, HoldSubcode, JobStatus, Universe
    from swarm_runner.model.invocation import Invocation
    from swarm_runner.model.isolation import ContainerOptions, Isolation
    from swarm_runner.model.job import (
        Hold,
        Job,
        JobChange,
        JobEvent,
        JobId,
        JobState,
        Outcome,
        OutcomeKind,
        Release,
        Remove,
        Usage,
    )
    from swarm_runner.model.monitoring import Monitoring
    from swarm_runner.model.pool import (
        CapacityClass,
        Destination,
        JobUser,
        Network,
        Pool,
        Route,
    )
    from swarm_runner.model.pool_status import ExecutorStatus, PoolStatus, Slot, TaskState
    from swarm_runner.model.published_port import PublishedPort
    from swarm_runner.model.resources import (
        MAXIMUM_DISK_MB,
        MAXIMUM_MEMORY_MB,
        MINIMUM_MEMORY_MB,
        Resources,
    )
    from swarm_runner.model.scaling import (
        ClassSnapshot,
        DemandSample,
        ExecutorCounts,
        FreeCapacity,
        IdleJobs,
        ScalingDecision,
        ScalingLimits,
    )
    from swarm_runner.model.scheduling import Scheduling
    from swarm_runner.model.shares import ShareGroup, Shares, ShareUser
    from swarm_runner.model.sources import InputUrl, Source
    from swarm_runner.model.submitter import Submitter
    from swarm_runner.model.text import (
        FrozenModel,
        did_you_mean,
        printable,
        reject_control_characters,
    )
    from swarm_runner.model.units import QUANTITY_EXAMPLES, megabytes, round_up_cpus
    from swarm_runner.model.vm import Disk, SuccessMarker, VirtualMachine
    from swarm_runner.model.volumes import VolumeMount
    from swarm_runner.runner import Runner
    from swarm_runner.runner.explanation import Explanation
    from swarm_runner.runner.job_output import JobOutput, OutputStream
    from swarm_runner.structured_log import get_logger
    from swarm_runner.submit.description import SubmitBatch, SubmitDescription
    from swarm_runner.submit.language import (
        classad_string,
        classad_value,
        escape_macros,
        quote_arguments,
        quote_environment,
    )
    from swarm_runner.submit.translation import CLASS_REQUIREMENT, translate
    from swarm_runner.swarm.job_containers import JobContainers

__all__ = [
    "CLASS_REQUIREMENT",
    "MAXIMUM_DISK_MB",
    "MAXIMUM_MEMORY_MB",
    "MINIMUM_MEMORY_MB",
    "QUANTITY_EXAMPLES",
    "RUNNER_KEYS",
    "AccessPoint",
    "AccessPointPort",
    "AccessPointProcess",
    "Ad",
    "CapacityClass",
    "ClassSnapshot",
    "ConflictError",
    "ContainerOptions",
    "DemandSample",
    "Destination",
    "DestinationParameters",
    "Diagnostic",
    "Disk",
    "Document",
    "EventType",
    "ExecutorCounts",
    "ExecutorStatus",
    "Explanation",
    "ForeignKeys",
    "FreeCapacity",
    "FrozenModel",
    "Hold",
    "HoldCode",
    "HoldSubcode",
    "IdleJobs",
    "InputFile",
    "InputUrl",
    "InvalidInputError",
    "Invocation",
    "Isolation",
    "Job",
    "JobChange",
    "JobConf",
    "JobContainers",
    "JobEvent",
    "JobId",
    "JobOutput",
    "JobQuery",
    "JobState",
    "JobStatus",
    "JobUser",
    "KeyPath",
    "MeteredRunner",
    "MetricStore",
    "MetricsServer",
    "Monitoring",
    "Network",
    "Outcome",
    "OutcomeKind",
    "OutputStream",
    "Pool",
    "PoolStatus",
    "PreconditionError",
    "PublishedPort",
    "Release",
    "Remove",
    "Resources",
    "Route",
    "Runner",
    "RunnerMetrics",
    "RunnerSection",
    "ScalingDecision",
    "ScalingLimits",
    "Scheduling",
    "ShareGroup",
    "ShareUser",
    "Shares",
    "Slot",
    "Source",
    "StoreCollector",
    "SubmitBatch",
    "SubmitDescription",
    "SubmitInDoubtError",
    "SubmitResult",
    "SubmitUnresolvedError",
    "Submitter",
    "SuccessMarker",
    "SwarmRunnerError",
    "TaskState",
    "Universe",
    "UnreachableError",
    "Usage",
    "VirtualMachine",
    "VolumeMount",
    "__version__",
    "classad_string",
    "classad_value",
    "classify_keys",
    "did_you_mean",
    "docker_variables",
    "dump_invocations",
    "escape_macros",
    "find_job_config",
    "get_current_config",
    "get_logger",
    "hookimpl",
    "megabytes",
    "parse_document",
    "parse_invocations",
    "parse_job_conf",
    "parse_parameters",
    "parse_runner",
    "printable",
    "quote_arguments",
    "quote_environment",
    "reject_control_characters",
    "round_up_cpus",
    "schedd_escalates",
    "token_file",
    "token_user",
    "translate",
    "validate_document",
]

_EXPORTS = {
    "condor.access_point": ("AccessPoint",),
    "condor.access_point_process": ("AccessPointProcess",),
    "condor.ports": (
        "AccessPointPort",
        "Ad",
        "JobQuery",
        "SubmitInDoubtError",
        "SubmitResult",
    ),
    "condor.tokens": ("token_file", "token_user"),
    "config.current": ("get_current_config",),
    "config.documents": (
        "dump_invocations",
        "parse_invocations",
    ),
    "config.destination_parameters": (
        "DestinationParameters",
        "ForeignKeys",
        "classify_keys",
        "parse_parameters",
        "schedd_escalates",
    ),
    "config.docker_keys": ("docker_variables",),
    "config.galaxy_keys": ("RUNNER_KEYS",),
    "config.job_conf": (
        "JobConf",
        "RunnerSection",
        "find_job_config",
        "parse_job_conf",
        "parse_runner",
    ),
    "config.validation": (
        "parse_document",
        "validate_document",
    ),
    "config.yaml_source": (
        "Document",
        "KeyPath",
    ),
    "errors": (
        "ConflictError",
        "Diagnostic",
        "InvalidInputError",
        "PreconditionError",
        "SubmitUnresolvedError",
        "SwarmRunnerError",
        "UnreachableError",
    ),
    "hooks.specs": ("hookimpl",),
    "metrics.exposition": (
        "MetricsServer",
        "StoreCollector",
    ),
    "metrics.runner_metrics": (
        "MeteredRunner",
        "RunnerMetrics",
    ),
    "metrics.store": ("MetricStore",),
    "model.htcondor": (
        "EventType",
        "HoldCode",
        "HoldSubcode",
        "JobStatus",
        "Universe",
    ),
    "model.files": ("InputFile",),
    "model.invocation": ("Invocation",),
    "model.isolation": ("ContainerOptions", "Isolation"),
    "model.job": (
        "Hold",
        "Job",
        "JobChange",
        "JobEvent",
        "JobId",
        "JobState",
        "Outcome",
        "OutcomeKind",
        "Release",
        "Remove",
        "Usage",
    ),
    "model.monitoring": ("Monitoring",),
    "model.pool": (
        "CapacityClass",
        "Destination",
        "JobUser",
        "Network",
        "Pool",
        "Route",
    ),
    "model.pool_status": (
        "ExecutorStatus",
        "PoolStatus",
        "Slot",
        "TaskState",
    ),
    "model.published_port": ("PublishedPort",),
    "model.resources": (
        "MAXIMUM_DISK_MB",
        "MAXIMUM_MEMORY_MB",
        "MINIMUM_MEMORY_MB",
        "Resources",
    ),
    "model.scaling": (
        "ClassSnapshot",
        "DemandSample",
        "ExecutorCounts",
        "FreeCapacity",
        "IdleJobs",
        "ScalingDecision",
        "ScalingLimits",
    ),
    "model.scheduling": ("Scheduling",),
    "model.submitter": ("Submitter",),
    "model.shares": ("ShareGroup", "ShareUser", "Shares"),
    "model.text": (
        "FrozenModel",
        "did_you_mean",
        "printable",
        "reject_control_characters",
    ),
    "model.units": (
        "QUANTITY_EXAMPLES",
        "megabytes",
        "round_up_cpus",
    ),
    "model.vm": (
        "Disk",
        "SuccessMarker",
        "VirtualMachine",
    ),
    "model.sources": ("InputUrl", "Source"),
    "model.volumes": ("VolumeMount",),
    "runner": ("Runner",),
    "runner.explanation": ("Explanation",),
    "runner.job_output": ("JobOutput", "OutputStream"),
    "structured_log": ("get_logger",),
    "submit.description": (
        "SubmitBatch",
        "SubmitDescription",
    ),
    "submit.language": (
        "classad_string",
        "classad_value",
        "escape_macros",
        "quote_arguments",
        "quote_environment",
    ),
    "submit.translation": (
        "CLASS_REQUIREMENT",
        "translate",
    ),
    "swarm.job_containers": ("JobContainers",),
}
_EXPORT_MODULES = {name: module for module, names in _EXPORTS.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _EXPORT_MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_EXPORT_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
