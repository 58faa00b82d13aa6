"""Runs a workflow engine's tool invocations on an HTCondor pool that lives on Docker Swarm.

The public names, each imported when first used: a program that only describes invocations pays
for no more than that.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from swarm_runner._version import __version__

if TYPE_CHECKING:
    from swarm_runner.errors import (
        Diagnostic,
        InvalidInputError,
        PreconditionError,
        SubmitUnresolvedError,
        SwarmRunnerError,
        UnreachableError,
    )
    from swarm_runner.hookspecs import hookimpl
    from swarm_runner.model.document import dump_invocations, parse_invocations
    from swarm_runner.model.invocation import Invocation
    from swarm_runner.model.job import Job, JobChange, JobId, JobState, Outcome, OutcomeKind
    from swarm_runner.model.job_conf import JobConf, parse_job_conf
    from swarm_runner.model.machine import Disk, SuccessMarker, VirtualMachine
    from swarm_runner.model.pool import CapacityClass, Destination, Pool, Route
    from swarm_runner.model.resources import Resources
    from swarm_runner.model.submit import SubmitDescription
    from swarm_runner.runner import Runner
    from swarm_runner.translate import translate

__all__ = [
    "CapacityClass",
    "Destination",
    "Diagnostic",
    "Disk",
    "InvalidInputError",
    "Invocation",
    "Job",
    "JobChange",
    "JobConf",
    "JobId",
    "JobState",
    "Outcome",
    "OutcomeKind",
    "Pool",
    "PreconditionError",
    "Resources",
    "Route",
    "Runner",
    "SubmitDescription",
    "SubmitUnresolvedError",
    "SuccessMarker",
    "SwarmRunnerError",
    "UnreachableError",
    "VirtualMachine",
    "__version__",
    "dump_invocations",
    "hookimpl",
    "parse_invocations",
    "parse_job_conf",
    "translate",
]

_EXPORTS = {
    "errors": (
        "Fault",
        "InvalidInputError",
        "OutOfReachError",
        "RefusedError",
        "SwarmRunnerError",
        "UnknownSubmitError",
    ),
    "hookspecs": ("hookimpl",),
    "model.document": ("dump_invocations", "parse_invocations"),
    "model.invocation": ("Invocation",),
    "model.job": ("Job", "JobChange", "JobId", "JobState", "Outcome", "OutcomeKind"),
    "model.job_conf": ("JobConf", "parse_job_conf"),
    "model.machine": ("Disk", "SuccessMarker", "VirtualMachine"),
    "model.pool": ("CapacityClass", "Destination", "Pool", "Route"),
    "model.resources": ("Resources",),
    "model.submit": ("SubmitDescription",),
    "runner": ("Runner",),
    "translate": ("translate",),
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


class _Package(ModuleType):
    """`translate` is a function here, also after the module of that name was imported."""

    def __setattr__(self, name: str, value: object) -> None:
        if name == "translate" and isinstance(value, ModuleType):
            value = value.translate
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
