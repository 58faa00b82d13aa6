"""The times of a run's jobs, from the schedd."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks.metrics import Metrics
from swarm_runner import AccessPoint, Ad, JobQuery

_PROJECTION = ("ClusterId", "ProcId", "QDate", "CompletionDate")


def record_job_times(metrics: Metrics, access_point: AccessPoint, since_s: float) -> None:
    """Record the submission rate and the mean lifetime of the jobs submitted since a time."""
    history = access_point.history(JobQuery(since=since_s), _PROJECTION)
    record_times_from_ads(metrics, [*access_point.jobs(JobQuery(), _PROJECTION), *history], since_s)


def record_times_from_ads(metrics: Metrics, ads: Sequence[Ad], since_s: float) -> None:
    """Record the same from the jobs' ads. The schedd's times are integers, in seconds."""
    submit_times = [int(ad["QDate"]) for ad in ads if ad.get("QDate", 0) >= int(since_s)]
    if submit_times:
        span_s = max(submit_times) - min(submit_times) + 1
        metrics.submitted_per_s = len(submit_times) / span_s
    lifetimes = [
        int(ad["CompletionDate"]) - int(ad["QDate"])
        for ad in ads
        if ad.get("QDate", 0) >= int(since_s) and ad.get("CompletionDate")
    ]
    if lifetimes:
        metrics.life_s = statistics.fmean(lifetimes)
