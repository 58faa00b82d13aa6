"""Writes the advice of a usage report for the programs that make requests. Pure."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable

import yaml

from swarm_runner.metrics.usage import JobUsage, UsageGroup

MB_PER_GB = 1024


def tpv(groups: Iterable[UsageGroup]) -> str:
    """Return a file of Total Perspective Vortex. Its tool IDs are patterns; `mem` is in GB."""
    tools = {
        re.escape(group.name): {"mem": math.ceil(group.advice.memory_mb / MB_PER_GB * 100) / 100}
        for group in groups
        if group.advice and group.name
    }
    return _dump({"tools": tools})


def snakemake_profile(groups: Iterable[UsageGroup]) -> str:
    """Return `set-resources` of a Snakemake profile, where a tool is a rule."""
    rules = {
        group.name: {"mem_mb": group.advice.memory_mb}
        for group in groups
        if group.advice and group.name
    }
    return _dump({"set-resources": rules})


def trace(jobs: Iterable[JobUsage]) -> str:
    """Return a trace for `pool simulate`: when jobs came, how long they ran, what they requested.

    Jobs keep the class in which they ran, so that two traces compare requests alone.
    """
    ran = sorted((job for job in jobs if job.run_s and job.queued_s), key=lambda j: j.queued_s)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["time_s", "duration_s", "cpus", "memory_mb", "class"])
    for job in ran:
        time_s = job.queued_s - ran[0].queued_s
        writer.writerow([time_s, job.run_s, job.cpus, job.requested_mb, job.capacity_class])
    return text.getvalue()


def _dump(document: object) -> str:
    return yaml.safe_dump(document, sort_keys=True, allow_unicode=True)
