"""Compares SwarmJobRunner with Galaxy's own runners: ratios, slopes, and targets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.metrics import Metrics, UserMessages

SWARM = "swarm"
# Where the peers set metadata, and the runners that do so.
METADATA_MODES = {
    "in Galaxy's process": ("condor", "htcondor"),
    "outside": ("condor_outside", "htcondor_outside"),
}
MAX_RATIO = 0.5
# The state and the text that the user must see in each case.
EXPECTED_MESSAGES = {
    "held": ("queued: ", "The pool holds"),
    "memory": ("error: ", "more memory"),
    "image": ("error: ", "image"),
}


@dataclass(frozen=True)
class Ratio:
    """SwarmJobRunner's CPU time relative to the better peer of a metadata mode, for one length."""

    seconds: int
    metadata_mode: str
    peer: str
    swarm_s: float
    peer_s: float

    @property
    def ratio(self) -> float:
        return self.swarm_s / self.peer_s

    @property
    def met(self) -> bool:
        return self.ratio <= MAX_RATIO

    def __str__(self) -> str:
        return (
            f"jobs of {self.seconds} s: handler CPU is {self.ratio:.2f} of {self.peer}'s, the "
            f"better peer with metadata set {self.metadata_mode}; the target is {MAX_RATIO}"
        )


@dataclass(frozen=True)
class Slope:
    """Handler CPU of a job with a lifetime of zero, and of each second of its lifetime."""

    runner: str
    without_life_s: float
    each_second_s: float


def ratios(measured: Sequence[Metrics]) -> Iterator[Ratio]:
    """Yield ratios by length, then by metadata mode, for the runners that were measured."""
    for swarm in measured:
        if swarm.runner != SWARM:
            continue
        by_runner = {
            metrics.runner: metrics for metrics in measured if metrics.seconds == swarm.seconds
        }
        for mode, names in METADATA_MODES.items():
            peers = [by_runner[name] for name in names if name in by_runner]
            if peers:
                best = min(peers, key=lambda peer: peer.handler_cpu_s)
                yield Ratio(
                    swarm.seconds, mode, best.runner, swarm.handler_cpu_s, best.handler_cpu_s
                )


def slopes(measured: Sequence[Metrics]) -> Iterator[Slope]:
    """Yield the slopes between each runner's shortest and longest jobs, by their lifetimes."""
    for name in dict.fromkeys(metrics.runner for metrics in measured):
        by_length = sorted(
            (metrics for metrics in measured if metrics.runner == name), key=lambda m: m.seconds
        )
        short, long = by_length[0], by_length[-1]
        if long.life_s > short.life_s:
            per_s = (long.handler_cpu_s - short.handler_cpu_s) / (long.life_s - short.life_s)
            yield Slope(name, short.handler_cpu_s - per_s * short.life_s, per_s)


def missed_targets(
    measured: Sequence[Metrics], user_messages: Sequence[UserMessages]
) -> Iterator[str]:
    """Yield the targets that SwarmJobRunner missed, and the runs with failed jobs."""
    for metrics in measured:
        if metrics.ok < metrics.jobs:
            yield (
                f"only {metrics.ok} of {metrics.jobs} jobs of {metrics.seconds} s succeeded with "
                f"{metrics.runner}"
            )
    for ratio in ratios(measured):
        if not ratio.met:
            yield str(ratio)
    for swarm in (metrics for metrics in measured if metrics.runner == SWARM):
        if swarm.sql_per_cycle > 1:
            yield (
                f"jobs of {swarm.seconds} s: {swarm.sql_per_cycle:.1f} SQL statements for each "
                "monitor cycle, not 1"
            )
        if swarm.files:
            yield f"jobs of {swarm.seconds} s: {swarm.files} files of jobs were open, not 0"
    for messages in (entry for entry in user_messages if entry.runner == SWARM):
        for case, (state, text) in EXPECTED_MESSAGES.items():
            message = getattr(messages, case)
            if not (message.startswith(state) and text in message):
                yield f"{case}: the user saw {message!r}"
