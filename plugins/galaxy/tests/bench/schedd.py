"""What the schedd itself says of the jobs of a run."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from bench.figures import Figures
from swarm_runner.condor.access_point import AccessPoint
from swarm_runner.condor.port import Ad, Selection

_ASKED = ("ClusterId", "ProcId", "QDate", "CompletionDate")


def note_times(figures: Figures, access_point: AccessPoint, since_s: float) -> None:
    """When the jobs that were submitted since came, and how long they lived."""
    ended = access_point.history(Selection(since=since_s), _ASKED)
    note_ads(figures, [*access_point.jobs(Selection(), _ASKED), *ended], since_s)


def note_ads(figures: Figures, ads: Sequence[Ad], since_s: float) -> None:
    """The same, from their ads. The schedd's times are whole seconds."""
    came = [int(ad["QDate"]) for ad in ads if ad.get("QDate", 0) >= int(since_s)]
    if came:
        figures.submitted_per_s = len(came) / (max(came) - min(came) + 1)
    lives = [
        int(ad["CompletionDate"]) - int(ad["QDate"])
        for ad in ads
        if ad.get("QDate", 0) >= int(since_s) and ad.get("CompletionDate")
    ]
    if lives:
        figures.life_s = statistics.fmean(lives)
