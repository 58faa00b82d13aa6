"""What jobs asked for and what they used, by tool, image or class; and advice. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from swarm_runner.model.htcondor import JobStatus
from swarm_runner.model.resources import MINIMUM_MEMORY_MB
from swarm_runner.policy.packing import MEMORY_STEP_MB

USAGE_PROJECTION = (
    "SwarmRunnerTool",
    "ContainerImage",
    "DockerImage",
    "SwarmRunnerClass",
    "JobStatus",
    "RequestCpus",
    "RequestMemory",
    "MemoryUsage",
    "QDate",
    "JobStartDate",
    "JobCurrentStartDate",
    "CompletionDate",
    "NumVacatesByReason",
)
MEMORY_REASON = "JobOutOfResources"
# Advice needs this many jobs that ended by themselves and whose memory was measured.
MIN_JOBS = 20
# Of every 100 jobs, this many may need more memory than advised: they are killed and run again.
MAX_EXCEEDING_SHARE = 0.02
# How probable it may be that more of the jobs to come need more, as far as the measured ones tell.
MAX_RISK = 0.1
# Too few measured jobs to tell: the advice is so much more than the largest of them used.
HEADROOM = 1.1


class JobUsage(NamedTuple):
    """One ended job. Memory is in MB, times are in seconds; None is unknown.

    `requested_mb` is the last request: HTCondor raises it when a job is killed for its memory.
    """

    tool: str
    image: str
    capacity_class: str
    requested_mb: int
    used_mb: int | None
    wait_s: float | None
    run_s: float | None
    memory_kills: int
    completed: bool
    queued_s: float
    cpus: int


class GroupBy(StrEnum):
    """What a line of the report is about."""

    TOOL = "tool"
    """Galaxy's tool ID, Snakemake's rule, or an invocation's tool_id."""
    IMAGE = "image"
    """The container image."""
    CLASS = "class"
    """The capacity class."""


_KEYS: dict[GroupBy, Callable[[JobUsage], str]] = {
    GroupBy.TOOL: lambda job: job.tool,
    GroupBy.IMAGE: lambda job: job.image,
    GroupBy.CLASS: lambda job: job.capacity_class,
}


@dataclass(frozen=True, slots=True)
class Distribution:
    """The median, the 95th percentile and the maximum of `count` values, as they occurred."""

    count: int
    median: float
    p95: float
    maximum: float

    @classmethod
    def from_values(cls, values: Iterable[float]) -> Distribution | None:
        """Return the distribution of some values, or None without any."""
        ordered = sorted(values)
        if not ordered:
            return None
        return cls(len(ordered), percentile(ordered, 50), percentile(ordered, 95), ordered[-1])


@dataclass(frozen=True, slots=True)
class Advice:
    """A request for memory.

    Attributes:
        memory_mb: The request.
        freed_share: The reserved memory, in MB times seconds, that it would have freed, relative
            to what was reserved; the second runs of jobs that exceed it are included.
        exceeding_share: The share of jobs that used more; they would have been killed once.
    """

    memory_mb: int
    freed_share: float
    exceeding_share: float


@dataclass(frozen=True, slots=True)
class UsageGroup:
    """The jobs of one tool, image or class. `reason` says why none is given."""

    name: str
    jobs: int
    memory_kills: int
    requested_mb: Distribution | None
    used_mb: Distribution | None
    wait_s: Distribution | None
    run_s: Distribution | None
    advice: Advice | None
    reason: str


def job_usage_from_ad(ad: Mapping[str, Any]) -> JobUsage:
    """Return what a job of the history asked for and used."""
    queued, first_began = ad.get("QDate"), ad.get("JobStartDate", ad.get("JobCurrentStartDate"))
    began, ended = ad.get("JobCurrentStartDate"), ad.get("CompletionDate", 0)
    vacates = ad.get("NumVacatesByReason")
    kills = vacates.get(MEMORY_REASON, 0) if isinstance(vacates, Mapping) else 0
    used = ad.get("MemoryUsage")
    return JobUsage(
        tool=str(ad.get("SwarmRunnerTool", "")),
        image=str(ad.get("ContainerImage", ad.get("DockerImage", ""))),
        capacity_class=str(ad.get("SwarmRunnerClass", "")),
        requested_mb=int(ad.get("RequestMemory", 0)),
        used_mb=None if used is None else int(used),
        wait_s=max(first_began - queued, 0) if queued and first_began else None,
        run_s=max(ended - began, 0) if began and ended else None,
        memory_kills=kills if isinstance(kills, int) else 0,
        completed=ad.get("JobStatus") == JobStatus.COMPLETED,
        queued_s=float(queued or 0),
        cpus=int(ad.get("RequestCpus", 1)),
    )


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the smallest value that at least `percent` of the ordered values do not exceed."""
    return ordered[max(math.ceil(len(ordered) * percent / 100) - 1, 0)]


def summarize(jobs: Iterable[JobUsage], by: GroupBy = GroupBy.TOOL) -> list[UsageGroup]:
    """Return a summary for each group; first those whose advice frees most memory."""
    groups: dict[str, list[JobUsage]] = {}
    for job in jobs:
        groups.setdefault(_KEYS[by](job), []).append(job)
    reserved = {name: sum(map(_reserved, group)) for name, group in groups.items()}
    summaries = [_summarize(name, group) for name, group in groups.items()]
    return sorted(summaries, key=lambda g: (-_freed_share(g) * reserved[g.name], -g.jobs, g.name))


def advised(
    jobs: Sequence[JobUsage],
    by: GroupBy = GroupBy.TOOL,
    groups: Iterable[UsageGroup] | None = None,
) -> list[JobUsage]:
    """Return the jobs with the requests that the advice would have given them, for a replay.

    The advice is that of `groups`, which may be of other jobs, or else of these jobs. A job that
    used more than advised is one that HTCondor tries again with what it used.
    """
    summaries = summarize(jobs, by) if groups is None else groups
    advice = {group.name: group.advice for group in summaries if group.advice}
    result = []
    for job in jobs:
        found = advice.get(_KEYS[by](job))
        if found is None:
            result.append(job)
        elif job.used_mb is not None and job.used_mb > found.memory_mb:
            # What the second run needs: its request, or what it used if that is more.
            again = max(job.requested_mb, job.used_mb)
            result += [
                job._replace(requested_mb=found.memory_mb, memory_kills=job.memory_kills + 1),
                job._replace(requested_mb=again, queued_s=job.queued_s + (job.run_s or 0)),
            ]
        else:
            result.append(job._replace(requested_mb=found.memory_mb))
    return result


def _summarize(name: str, jobs: Sequence[JobUsage]) -> UsageGroup:
    advice, reason = _advise(jobs)
    return UsageGroup(
        name=name,
        jobs=len(jobs),
        memory_kills=sum(job.memory_kills for job in jobs),
        requested_mb=Distribution.from_values(job.requested_mb for job in jobs if job.requested_mb),
        used_mb=Distribution.from_values(job.used_mb for job in jobs if job.used_mb is not None),
        wait_s=Distribution.from_values(job.wait_s for job in jobs if job.wait_s is not None),
        run_s=Distribution.from_values(job.run_s for job in jobs if job.run_s is not None),
        advice=advice,
        reason=reason,
    )


def _advise(jobs: Sequence[JobUsage]) -> tuple[Advice | None, str]:
    """Return the request that reserves least, or why there is none. Few enough jobs exceed it."""
    measured = [job for job in jobs if job.completed and job.used_mb is not None]
    if len(measured) < MIN_JOBS:
        return None, f"{len(measured)} of at least {MIN_JOBS} measured jobs"
    reserved = sum(map(_reserved, measured))
    if reserved <= 0:
        return None, "the jobs ran for less than a second"
    memory_mb, needed = _cheapest(measured)
    killed = any(job.memory_kills for job in jobs)
    if memory_mb >= max(job.requested_mb for job in measured) and not killed:
        return None, "the request is right"
    exceeding = sum((job.used_mb or 0) > memory_mb for job in measured) / len(measured)
    return Advice(memory_mb, 1 - needed / reserved, exceeding), ""


def _cheapest(measured: Sequence[JobUsage]) -> tuple[int, float]:
    """Return the request that reserves least memory of those that few enough jobs exceed.

    With it, what the jobs would have reserved, in MB times seconds, second runs included.
    """
    by_use = sorted(measured, key=lambda job: job.used_mb or 0)
    allowed = _allowed_exceptions(len(by_use))
    largest_mb = by_use[-1].used_mb or 0
    if allowed < 0:
        memory_mb = _round_up(largest_mb * HEADROOM)
        return memory_mb, sum(_reserved_with(job, memory_mb) for job in measured)
    run_s = sum(job.run_s or 0 for job in measured)
    best, again = (0, math.inf), 0.0
    # From the request that suffices for all jobs to the one that `allowed` of them exceed.
    for excepted in range(allowed + 1):
        if excepted:
            again += _second_run(by_use[-excepted])
        memory_mb = _round_up(by_use[-1 - excepted].used_mb or 0)
        needed = memory_mb * run_s + again
        if needed < best[1]:
            best = memory_mb, needed
    # What was rounded up may suffice for some that were excepted.
    memory_mb = best[0]
    return memory_mb, sum(_reserved_with(job, memory_mb) for job in measured)


def _allowed_exceptions(jobs: int) -> int:
    """Return how many of so many measured jobs may need more than advised; -1 if they are too few.

    If more than MAX_EXCEEDING_SHARE of all jobs needed more, so few of the measured ones would with
    a probability of MAX_RISK at most.
    """
    probability, allowed = 0.0, -1
    for number in range(jobs + 1):
        probability += math.exp(
            math.lgamma(jobs + 1)
            - math.lgamma(number + 1)
            - math.lgamma(jobs - number + 1)
            + number * math.log(MAX_EXCEEDING_SHARE)
            + (jobs - number) * math.log(1 - MAX_EXCEEDING_SHARE)
        )
        if probability > MAX_RISK:
            break
        allowed = number
    return allowed


def _round_up(memory_mb: float) -> int:
    """Return a request that HTCondor does not round up further."""
    return max(math.ceil(memory_mb / MEMORY_STEP_MB) * MEMORY_STEP_MB, MINIMUM_MEMORY_MB)


def _reserved(job: JobUsage) -> float:
    """Return the reserved memory in MB times seconds."""
    return job.requested_mb * (job.run_s or 0)


def _reserved_with(job: JobUsage, memory_mb: int) -> float:
    """Return what a job reserves with this request; one that exceeds it runs twice."""
    first = memory_mb * (job.run_s or 0)
    exceeds = job.used_mb is not None and job.used_mb > memory_mb
    return first + _second_run(job) if exceeds else first


def _second_run(job: JobUsage) -> float:
    """Return what the second run of a job reserves that exceeded its request."""
    return max(_reserved(job), (job.used_mb or 0) * (job.run_s or 0))


def _freed_share(group: UsageGroup) -> float:
    return group.advice.freed_share if group.advice else 0.0
