"""What the schedd itself says of the jobs of a run."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks.metrics import Metrics
from swarm_runner.condor.access_point import AccessPoint
from swarm_runner.condor.ports import Ad, JobQuery

_PROJECTION = ("ClusterId", "ProcId", "QDate", "CompletionDate")


def record_job_times(metrics: Metrics, access_point: AccessPoint, since_s: float) -> None:
    """When the jobs that were submitted since came, and how long they lived."""
    ended = access_point.history(JobQuery(since=since_s), _PROJECTION)
    record_times_from_ads(metrics, [*access_point.jobs(JobQuery(), _PROJECTION), *ended], since_s)


def record_times_from_ads(metrics: Metrics, ads: Sequence[Ad], since_s: float) -> None:
    """The same, from their ads. The schedd's times are whole seconds."""
    came = [int(ad["QDate"]) for ad in ads if ad.get("QDate", 0) >= int(since_s)]
    if came:
        metrics.submitted_per_s = len(came) / (max(came) - min(came) + 1)
    lives = [
        int(ad["CompletionDate"]) - int(ad["QDate"])
        for ad in ads
        if ad.get("QDate", 0) >= int(since_s) and ad.get("CompletionDate")
    ]
    if lives:
        metrics.life_s = statistics.fmean(lives)
