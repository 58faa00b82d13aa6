"""Runs a workflow engine's tool invocations on an HTCondor pool that lives on Docker Swarm.

These are the public names. Each is imported on first use: a program that only describes
invocations loads no more than that.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from swarm_runner._version import __version__

if TYPE_CHECKING:
    from swarm_runner.config.documents import dump_invocations, parse_invocations
    from swarm_runner.config.job_conf import JobConf, parse_job_conf
    from swarm_runner.errors import (
        Diagnostic,
        InvalidInputError,
        PreconditionError,
        SubmitUnresolvedError,
        SwarmRunnerError,
        UnreachableError,
    )
    from swarm_runner.hooks.specs import hookimpl
    from swarm_runner.model.invocation import Invocation
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
    from swarm_runner.model.pool import CapacityClass, Destination, Pool, Route
    from swarm_runner.model.pool_status import PoolStatus
    from swarm_runner.model.resources import Resources
    from swarm_runner.model.scaling import ClassSnapshot, ScalingDecision, ScalingLimits
    from swarm_runner.model.vm import Disk, SuccessMarker, VirtualMachine
    from swarm_runner.runner import Runner
    from swarm_runner.runner.explanation import Explanation
    from swarm_runner.submit.description import SubmitDescription
    from swarm_runner.submit.translation import translate

__all__ = [
    "CapacityClass",
    "ClassSnapshot",
    "Destination",
    "Diagnostic",
    "Disk",
    "Explanation",
    "Hold",
    "InvalidInputError",
    "Invocation",
    "Job",
    "JobChange",
    "JobConf",
    "JobEvent",
    "JobId",
    "JobState",
    "Outcome",
    "OutcomeKind",
    "Pool",
    "PoolStatus",
    "PreconditionError",
    "Release",
    "Remove",
    "Resources",
    "Route",
    "Runner",
    "ScalingDecision",
    "ScalingLimits",
    "SubmitDescription",
    "SubmitUnresolvedError",
    "SuccessMarker",
    "SwarmRunnerError",
    "UnreachableError",
    "Usage",
    "VirtualMachine",
    "__version__",
    "dump_invocations",
    "hookimpl",
    "parse_invocations",
    "parse_job_conf",
    "translate",
]

_EXPORTS = {
    "config.job_conf": (
        "JobConf",
        "parse_job_conf",
    ),
    "config.validation": (
        "dump_invocations",
        "parse_invocations",
    ),
    "errors": (
        "Diagnostic",
        "InvalidInputError",
        "PreconditionError",
        "SubmitUnresolvedError",
        "SwarmRunnerError",
        "UnreachableError",
    ),
    "hooks.specs": ("hookimpl",),
    "model.invocation": ("Invocation",),
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
    "model.pool": (
        "CapacityClass",
        "Destination",
        "Pool",
        "Route",
    ),
    "model.pool_status": ("PoolStatus",),
    "model.resources": ("Resources",),
    "model.scaling": (
        "ClassSnapshot",
        "ScalingDecision",
        "ScalingLimits",
    ),
    "model.vm": (
        "Disk",
        "SuccessMarker",
        "VirtualMachine",
    ),
    "runner": ("Runner",),
    "runner.explanation": ("Explanation",),
    "submit.description": ("SubmitDescription",),
    "submit.translation": ("translate",),
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
