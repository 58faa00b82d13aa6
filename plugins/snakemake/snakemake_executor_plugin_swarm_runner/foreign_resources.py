"""The resources that other executors know: what they mean here, or that they mean nothing here.

Sources: the documentation of Snakemake's executor plugins for Slurm, LSF, HTCondor, Kubernetes,
Google Batch and SGE, and cluster profiles from before there were such plugins.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

MB_PER_GB, KB_PER_MB, S_PER_MINUTE = 1024, 1024, 60


class Unit(NamedTuple):
    """How a number becomes an amount in this plugin's unit: times `factor`, or by `divisor`."""

    factor: int = 1
    divisor: int = 1
    # Whether the value may be a text with a unit, such as "8GB".
    text: bool = False


CPUS = {"cpus_per_task": Unit(), "request_cpus": Unit(), "cpus": Unit()}
MEMORY_MB = {
    "mem_gb": Unit(MB_PER_GB),
    "mem_gib": Unit(MB_PER_GB),
    "request_memory": Unit(text=True),
    "htcondor_request_mem_mb": Unit(),
}
# MB for each CPU.
MEMORY_MB_PER_CPU = {
    "mem_mb_per_cpu": Unit(),
    "mem_per_cpu": Unit(text=True),
}
MAX_MEMORY_MB = {"retry_request_memory": Unit(text=True)}
DISK_MB = {
    "disk_gb": Unit(MB_PER_GB),
    "disk_gib": Unit(MB_PER_GB),
    # HTCondor's unit is kB.
    "request_disk": Unit(divisor=KB_PER_MB, text=True),
    "htcondor_request_disk_mb": Unit(),
}
GPUS = {"request_gpus": Unit(), "nvidia_gpu": Unit()}
TIME_S = {
    "time_min": Unit(S_PER_MINUTE),
    "allowed_execute_duration": Unit(),
}

# Without a meaning here, by what to use instead.
_USE_CLASS = "a pool has capacity classes: choose one with capacity_class"
_USE_RUNTIME = "set the time limit with runtime, in minutes"
_USE_MEMORY = "request memory with mem_mb"
_USE_THREADS = "request CPUs with the directive threads:, or with --set-threads"
_USE_CONTAINER = "name the image with the directive container:"
_NO_MPI = "a job runs on one executor"
_NO_GPU_MODEL = "request GPUs with gpu=<number>"
_NO_ADVICE = ""
_IGNORED = {
    name: advice
    for names, advice in {
        """
        partition queue qos constraint clusters cluster requirements rank machine_type
        """: _USE_CLASS,
        "time time_hms h_rt s_rt allowed_job_duration": _USE_RUNTIME,
        "h_vmem": _USE_MEMORY,
        "threads": _USE_THREADS,
        "container_image universe": _USE_CONTAINER,
        "mpi tasks ntasks nodes tasks_per_node ntasks_per_node": _NO_MPI,
        """
        gres gpu_manufacturer cpus_per_gpu tasks_per_gpu require_gpus
        gpus_minimum_capability gpus_minimum_memory gpus_minimum_runtime cuda_version
        """: _NO_GPU_MODEL,
        """
        project getenv environment input job_wrapper max_idle max_materialize max_retries
        retry_until preserve_relative_paths
        """: _NO_ADVICE,
    }.items()
    for name in names.split()
}
_IGNORED_PREFIXES = {
    "walltime": _USE_RUNTIME,
    "slurm_partition": _USE_CLASS,
    "lsf_queue": _USE_CLASS,
    "sge_queue": _USE_CLASS,
    "pbs_queue": _USE_CLASS,
    **dict.fromkeys(
        ("slurm_", "lsf_", "sge_", "pbs_", "googlebatch_", "htcondor_", "classad_"), _NO_ADVICE
    ),
}
_MAPPED = CPUS | MEMORY_MB | MEMORY_MB_PER_CPU | MAX_MEMORY_MB | DISK_MB | GPUS | TIME_S
# These have no effect elsewhere either, if their value is 1.
_NO_EFFECT_IF_ONE = ("tasks", "ntasks", "nodes", "tasks_per_node", "ntasks_per_node")


def ignored_resources(resources: Mapping[str, Any]) -> dict[str, str]:
    """Return the resources of a job that have no effect here, with what to use instead."""
    return {
        name: advice
        for name, value in resources.items()
        if (advice := _advice(name)) is not None
        and not (name in _NO_EFFECT_IF_ONE and value in (0, 1))
    }


def ignored_message(ignored: Mapping[str, str]) -> str:
    """Return a sentence about these resources, with each piece of advice once."""
    names = ", ".join(sorted(ignored))
    advice = sorted(set(filter(None, ignored.values())))
    verb = "has" if len(ignored) == 1 else "have"
    noun = "resource" if len(ignored) == 1 else "resources"
    hint = f" ({'; '.join(advice)})" if advice else ""
    return f"the {noun} {names} {verb} no effect on this pool{hint}"


@lru_cache(maxsize=1024)
def _advice(name: str) -> str | None:
    """Return what to use instead of a resource; None if it has a meaning here, or nowhere."""
    if name in _MAPPED:
        return None
    advice = _IGNORED.get(name)
    if advice is not None:
        return advice
    return next(
        (text for prefix, text in _IGNORED_PREFIXES.items() if name.startswith(prefix)), None
    )
