"""The results of a simulation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Self

from pydantic import Field

from swarm_runner.model.text import FrozenModel


class Waits(FrozenModel):
    """The time that jobs waited from arrival to start, in seconds."""

    mean_s: float
    p50_s: float
    p95_s: float
    max_s: float

    @classmethod
    def summarize(cls, waits: Iterable[float]) -> Self:
        """Return the statistics of these waits; zeros if there are none."""
        ordered = sorted(waits) or [0.0]
        last = len(ordered) - 1
        return cls(
            mean_s=sum(ordered) / len(ordered),
            p50_s=ordered[round(last * 0.5)],
            p95_s=ordered[round(last * 0.95)],
            max_s=ordered[-1],
        )


class Metrics(FrozenModel):
    """The metrics of one class, or of all classes, under one controller.

    Executor-hours include start-up and retirement. A job that never ran (`unfinished`) counts as
    waiting until the end of the simulation, an evicted job until its last start.
    """

    jobs: int
    waits: Waits
    executor_hours: float
    peak_executors: int
    scale_operations: int
    evictions: int
    unfinished: int


class Sample(FrozenModel):
    """The state of a class at one time."""

    time_s: float
    waiting: int
    running: int
    executors: int


class ControllerReport(FrozenModel):
    """The results of a trace under one controller. `users` are those that the trace names."""

    controller: str
    total: Metrics
    classes: dict[str, Metrics]
    users: dict[str, Waits] = Field(default_factory=dict)
    timeline: dict[str, tuple[Sample, ...]] = Field(exclude=True, repr=False)


class SimulationReport(FrozenModel):
    """The results of a trace. `refused` jobs fit no class and are not in the metrics."""

    trace: str
    jobs: int
    refused: int
    start_up_s: float
    controllers: tuple[ControllerReport, ...]


def sum_metrics(metrics: Sequence[Metrics], waits: Iterable[float]) -> Metrics:
    """Sum the metrics of classes; `waits` are those of all jobs."""
    return Metrics(
        jobs=sum(part.jobs for part in metrics),
        waits=Waits.summarize(waits),
        executor_hours=sum(part.executor_hours for part in metrics),
        peak_executors=sum(part.peak_executors for part in metrics),
        scale_operations=sum(part.scale_operations for part in metrics),
        evictions=sum(part.evictions for part in metrics),
        unfinished=sum(part.unfinished for part in metrics),
    )
