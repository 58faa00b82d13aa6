"""Plots of the history as SVG: shapes only. Their texts are HTML, which stays legible on a phone.

A plot is stretched to the width of its place. The colors are classes of the style sheet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from markupsafe import Markup

from swarm_runner.page.history import INTERVAL_S, PERIOD_S, DecisionEntry, Sample

WIDTH, HEIGHT = 720, 120
BUCKETS = 240
_GAP_S = 8 * INTERVAL_S
_PERIODS_S = (900, 3600, 3 * 3600)
# Lines that divide a plot.
_DIVISIONS = 6

Value = Callable[[Sample], float]


@dataclass(frozen=True, slots=True)
class Series:
    """One line or area: its name, the style sheet's class, and its values."""

    name: str
    style: str
    value: Value


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot as SVG, with what its place needs to describe it."""

    svg: Markup
    maximum: int
    series: Sequence[Series]
    summary: str


def nice_maximum(value: float) -> int:
    """Return the end of an axis: the smallest of 1, 2 or 5 times a power of ten that fits."""
    end = 1
    while end < value:
        for factor in (1, 2, 5, 10):
            if end * factor >= value:
                return end * factor
        end *= 10
    return end


@dataclass(frozen=True, slots=True)
class Frame:
    """The period that a plot shows (seconds since the epoch)."""

    begin_s: float
    end_s: float

    @classmethod
    def enclosing(cls, samples: Sequence[Sample], now_s: float) -> Self:
        """Return the shortest of some periods up to now that has all samples."""
        first_s = samples[0].time_s if samples else now_s
        period_s = next((p for p in _PERIODS_S if first_s >= now_s - p), PERIOD_S)
        return cls(now_s - period_s, now_s)

    def select(self, samples: Iterable[Sample]) -> list[Sample]:
        """Return at most `BUCKETS` samples: of each bucket of time, that with most idle jobs."""
        buckets: dict[int, Sample] = {}
        for sample in samples:
            number = int((sample.time_s - self.begin_s) * BUCKETS / (self.end_s - self.begin_s))
            if number not in buckets or sample.idle_jobs > buckets[number].idle_jobs:
                buckets[number] = sample
        return [buckets[number] for number in sorted(buckets) if 0 <= number <= BUCKETS]

    def x(self, time_s: float) -> float:
        """Return where a time is."""
        return round(WIDTH * (time_s - self.begin_s) / (self.end_s - self.begin_s), 1)


def line_plot(
    samples: Sequence[Sample], series: Sequence[Series], frame: Frame, label: str
) -> Plot:
    """Return a plot with a line for each series."""
    maximum = nice_maximum(max((s.value(x) for s in series for x in samples), default=1))
    paths = [_line(samples, s, s.value, maximum, frame) for s in series]
    return Plot(_svg(label, _grid(), *paths), maximum, series, _summary(samples, series))


def stacked_plot(
    samples: Sequence[Sample],
    areas: Sequence[Series],
    line: Series,
    decisions: Iterable[DecisionEntry],
    frame: Frame,
    label: str,
) -> Plot:
    """Return a plot with areas on one another, a line, and a mark at each decision."""
    totals = [sum(area.value(sample) for area in areas) for sample in samples]
    maximum = nice_maximum(max([*totals, *map(line.value, samples)], default=1))
    paths: list[str] = []
    for number, area in enumerate(areas):
        below, inclusive = areas[:number], areas[: number + 1]
        paths.append(_area(samples, area, _sum(below), _sum(inclusive), maximum, frame))
    paths.append(_line(samples, line, line.value, maximum, frame))
    marks = [_mark(decision, frame) for decision in decisions if decision.time_s > frame.begin_s]
    series = [*areas, line]
    return Plot(_svg(label, _grid(), *paths, *marks), maximum, series, _summary(samples, series))


def _sum(series: Sequence[Series]) -> Value:
    return lambda sample: sum(item.value(sample) for item in series)


def _y(value: float, maximum: int) -> float:
    return round(HEIGHT * (1 - value / maximum), 1)


def _runs(samples: Sequence[Sample], frame: Frame) -> Iterable[list[Sample]]:
    """Yield stretches without a gap: while nothing was observed, nothing is drawn."""
    gap_s = max(_GAP_S, 3 * (frame.end_s - frame.begin_s) / BUCKETS)
    run: list[Sample] = []
    for sample in samples:
        if run and sample.time_s - run[-1].time_s > gap_s:
            yield run
            run = []
        run.append(sample)
    if run:
        yield run


def _line(
    samples: Sequence[Sample], series: Series, value: Value, maximum: int, frame: Frame
) -> str:
    parts: list[str] = []
    for run in _runs(samples, frame):
        first, *rest = ((frame.x(s.time_s), _y(value(s), maximum)) for s in run)
        parts.append(f"M{first[0]} {first[1]}")
        parts += [f"H{x}V{y}" for x, y in rest]
        if not rest:
            parts.append("h1.5")
    return f'<path class="line {series.style}" d="{"".join(parts)}"/>'


def _area(
    samples: Sequence[Sample], series: Series, low: Value, high: Value, maximum: int, frame: Frame
) -> str:
    parts: list[str] = []
    for run in _runs(samples, frame):
        xs = [frame.x(sample.time_s) for sample in run]
        ends = [*xs[1:], xs[-1] + 1.5]
        upper = [_y(high(sample), maximum) for sample in run]
        lower = [_y(low(sample), maximum) for sample in run]
        parts.append(f"M{xs[0]} {lower[0]}")
        parts += [f"V{y}H{end}" for y, end in zip(upper, ends, strict=True)]
        parts += [f"V{y}H{begin}" for y, begin in zip(reversed(lower), reversed(xs), strict=True)]
        parts.append("Z")
    return f'<path class="area {series.style}" d="{"".join(parts)}"/>'


def _grid() -> str:
    lines = [f"M{WIDTH * part // _DIVISIONS} 0V{HEIGHT}" for part in range(_DIVISIONS + 1)]
    lines += [f"M0 {HEIGHT * part // 2}H{WIDTH}" for part in range(3)]
    return f'<path class="grid" d="{"".join(lines)}"/>'


def _mark(decision: DecisionEntry, frame: Frame) -> str:
    x = frame.x(decision.time_s)
    return f'<path class="mark {decision.kind}" d="M{x} {HEIGHT}V{HEIGHT - 14}"/>'


def _svg(label: str, *shapes: str) -> Markup:
    """Return the element. The shapes consist of numbers and of our own names."""
    head = Markup(
        '<svg viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" aria-label="{}">'
    ).format(WIDTH, HEIGHT, label)
    return head + Markup("".join(shapes)) + Markup("</svg>")  # noqa: S704


def _summary(samples: Sequence[Sample], series: Sequence[Series]) -> str:
    """Return the plot in words, for those who do not see it."""
    if not samples:
        return "Nothing has been observed yet."
    parts = []
    for item in series:
        highest = round(max(map(item.value, samples)))
        if highest:
            parts.append(f"{round(item.value(samples[-1]))} {item.name} (at most {highest})")
    return f"Now {', '.join(parts)}." if parts else "Nothing to show in this time."
