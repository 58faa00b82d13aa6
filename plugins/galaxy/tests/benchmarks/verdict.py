"""Ours beside Galaxy's own runners: ratios, what a second of life costs, and the targets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.metrics import Metrics, UserMessages

SWARM = "swarm"
# How the peers set metadata, and the runners that do so.
METADATA_MODES = {
    "in Galaxy's process": ("condor", "htcondor"),
    "outside": ("condor_outside", "htcondor_outside"),
}
MAX_RATIO = 0.5
# What the user is to read in each case.
EXPECTED_MESSAGES = {
    "held": ("queued: ", "The pool holds"),
    "memory": ("error: ", "more memory"),
    "image": ("error: ", "image"),
}


@dataclass(frozen=True)
class Ratio:
    """Ours to the better peer of a form, for jobs of one length."""

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
            f"better peer's with metadata set {self.metadata_mode}; the target is {MAX_RATIO}"
        )


@dataclass(frozen=True)
class Slope:
    """Handler CPU of a job that would not live at all, and of each second that one lives."""

    runner: str
    without_life_s: float
    each_second_s: float


def ratios(measured: Sequence[Metrics]) -> Iterator[Ratio]:
    """By length, then by form; what was not measured is not judged."""
    for ours in measured:
        if ours.runner != SWARM:
            continue
        alike = {one.runner: one for one in measured if one.seconds == ours.seconds}
        for form, names in METADATA_MODES.items():
            peers = [alike[name] for name in names if name in alike]
            if peers:
                best = min(peers, key=lambda one: one.handler_cpu_s)
                yield Ratio(ours.seconds, form, best.runner, ours.handler_cpu_s, best.handler_cpu_s)


def slopes(measured: Sequence[Metrics]) -> Iterator[Slope]:
    """From each runner's shortest and longest jobs, by how long these lived."""
    for name in dict.fromkeys(one.runner for one in measured):
        of_one = sorted((one for one in measured if one.runner == name), key=lambda f: f.seconds)
        short, long = of_one[0], of_one[-1]
        if long.life_s > short.life_s:
            per_s = (long.handler_cpu_s - short.handler_cpu_s) / (long.life_s - short.life_s)
            yield Slope(name, short.handler_cpu_s - per_s * short.life_s, per_s)


def missed_targets(
    measured: Sequence[Metrics], user_messages: Sequence[UserMessages]
) -> Iterator[str]:
    """The targets that ours has not reached, and runs that do not count."""
    for figures in measured:
        if figures.ok < figures.jobs:
            of = f"of {figures.jobs} jobs of {figures.seconds} s ended well with {figures.runner}"
            yield f"only {figures.ok} {of}"
    for ratio in ratios(measured):
        if not ratio.met:
            yield str(ratio)
    for ours in (figures for figures in measured if figures.runner == SWARM):
        if ours.sql_per_cycle > 1:
            yield (
                f"jobs of {ours.seconds} s: {ours.sql_per_cycle:.1f} SQL statements for each "
                "monitor cycle, not 1"
            )
        if ours.files:
            yield f"jobs of {ours.seconds} s: {ours.files} files of jobs were open, not 0"
    for user in (one for one in user_messages if one.runner == SWARM):
        for case, (state, words) in EXPECTED_MESSAGES.items():
            said = getattr(user, case)
            if not (said.startswith(state) and words in said):
                yield f"{case}: the user saw {said!r}"
