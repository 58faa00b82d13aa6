"""The last hours of a pool, in bounded memory: samples of the queue and the executors, decisions.

A daemon that starts again begins with an empty history.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from swarm_runner.model.pool_status import ExecutorReplacement
from swarm_runner.model.scaling import ExecutorCounts, ScalingRecord
from swarm_runner.provisioner.autoscaler import AutoscalerRecord
from swarm_runner.provisioner.observation import PoolObservation

PERIOD_S = 6 * 3600
INTERVAL_S = 15.0
MAX_SAMPLES = int(PERIOD_S / INTERVAL_S)
MAX_DECISIONS = 500
MAX_SUBJECTS = 5000


@dataclass(frozen=True, slots=True)
class ClassSample:
    """The executors of a class at one time; `replicas` is how many it should have."""

    replicas: int
    executors: ExecutorCounts


@dataclass(frozen=True, slots=True)
class Sample:
    """The pool at one time (seconds since the epoch)."""

    time_s: float
    idle_jobs: int
    running_jobs: int
    classes: Mapping[str, ClassSample]


@dataclass(frozen=True, slots=True)
class DecisionEntry:
    """What the autoscaler did, or would do, and why."""

    time_s: float
    capacity_class: str
    message: str
    kind: str
    """up, down, frozen, resumed, problem or replaced."""


class History:
    """Keeps one sample every `INTERVAL_S`, and the decisions that changed something."""

    def __init__(self) -> None:
        self.samples: deque[Sample] = deque(maxlen=MAX_SAMPLES)
        self.decisions: deque[DecisionEntry] = deque(maxlen=MAX_DECISIONS)
        # By class or task, what was recorded last.
        self._last: dict[str, tuple[object, ...]] = {}

    def record_observation(self, observation: PoolObservation, time_s: float) -> None:
        """Add a sample, unless the last one is recent. An incomplete observation leaves a gap."""
        if observation.slots is None or observation.idle_jobs is None:
            return
        # A clock that was set back must not stop the history.
        if self.samples and 0 <= time_s - self.samples[-1].time_s < INTERVAL_S:
            return
        while self.samples and self.samples[0].time_s < time_s - PERIOD_S:
            self.samples.popleft()
        self.samples.append(
            Sample(
                time_s,
                sum(group.count for group in observation.idle_jobs),
                sum(snapshot.running_jobs for snapshot in observation.classes.values()),
                {
                    name: ClassSample(snapshot.replicas, snapshot.executors)
                    for name, snapshot in observation.classes.items()
                },
            )
        )

    def record_decision(self, record: AutoscalerRecord) -> None:
        """Add what differs from the last decision about the same class or executor."""
        state: tuple[object, ...]
        if isinstance(record, ExecutorReplacement):
            subject, state = record.task, (record.action,)
        else:
            subject = record.capacity_class
            state = (record.action, record.frozen, _change(record))
        before = self._last.get(subject)
        if before == state:
            return
        if len(self._last) >= MAX_SUBJECTS:
            self._last.clear()
        self._last[subject] = state
        kind = _kind(record, before)
        if kind:
            self.decisions.append(
                DecisionEntry(record.time_s, record.capacity_class, str(record), kind)
            )


def _change(record: ScalingRecord) -> object:
    """Return what tells one change from the next; a dry run repeats the same one each round."""
    if record.wanted == record.replicas:
        return None
    return record.wanted > record.replicas if record.action == "dry_run" else record.wanted


def _kind(record: AutoscalerRecord, before: tuple[object, ...] | None) -> str:
    """Return the kind of a decision; empty if it changes nothing and ends no freeze."""
    if isinstance(record, ExecutorReplacement):
        return "problem" if record.action == "failed" else "replaced"
    if record.frozen:
        return "frozen"
    if record.action in ("conflict", "failed"):
        return "problem"
    if record.wanted != record.replicas:
        return "up" if record.wanted > record.replicas else "down"
    return "resumed" if before is not None and before[1] is True else ""
