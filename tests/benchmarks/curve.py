"""A figure of mean wait against executor-hours: the policy by its cooldown, and the baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from swarm_runner.model.pool import DEFAULT_COOLDOWN_S
from swarm_runner.model.scaling import ScalingLimits
from swarm_runner.policy.sizing import swarm_runner_size_class
from swarm_runner_simulation import generators
from swarm_runner_simulation.controllers import SizeClass
from swarm_runner_simulation.report import ControllerReport
from swarm_runner_simulation.run import (
    FIXED_MAX,
    FIXED_SAME,
    LINEAR,
    ORACLE,
    POLICY,
    QUEUE_RATIO,
    SimulationConfig,
    simulate,
)

COOLDOWNS_S = (0, 15, 30, 60, 120, 300)
# Constant numbers of executors, as fractions of each class's max_replicas.
FIXED_FRACTIONS = (0.35, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)
TARGET_RATIOS = (1.15, 1.3)
# The colours of `pool simulate --picture`.
_MARKERS: dict[str, dict[str, Any]] = {
    ORACLE: {"marker": "*", "color": "C1", "markersize": 13},
    QUEUE_RATIO: {"marker": "^", "color": "C2"},
    LINEAR: {"marker": "s", "color": "C3"},
    FIXED_SAME: {"marker": "D", "color": "C4"},
    FIXED_MAX: {"marker": "P", "color": "C5"},
}
_GREY = "0.55"
_MINUTE_TICKS = (10, 15, 20, 30, 45, 60, 90, 120, 180, 240)
_TICKS_S = (20, 25, 30, 35, 40, 50, 60, 80, 100, 120, *(60 * minutes for minutes in _MINUTE_TICKS))

Point = tuple[float, float]  # executor-hours, mean wait in seconds


@dataclass(frozen=True, slots=True)
class Curve:
    """One trace: the policy by cooldown, constant numbers of executors, and the baselines."""

    trace: str
    by_cooldown: dict[int, Point]
    fixed: tuple[Point, ...]
    baselines: dict[str, Point]


def draw(classes: Mapping[str, ScalingLimits], file: Path) -> None:
    """Write the figure of the four traces. The same simulation produces the same bytes."""
    figure = Figure(figsize=(10, 8), layout="constrained")
    panels = figure.subplots(2, 2).flat
    for name, axes in zip(generators.NAMES, panels, strict=True):
        _panel(axes, _curve(name, classes))
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False)
    with rc_context({"svg.hashsalt": "curve", "svg.fonttype": "none"}):
        figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)


def _curve(name: str, classes: Mapping[str, ScalingLimits]) -> Curve:
    trace = generators.generate(name, classes)
    by_cooldown = {}
    for cooldown_s in COOLDOWNS_S:
        changed = {
            each.name: each.model_copy(update={"cooldown_s": cooldown_s})
            for each in classes.values()
        }
        (report,) = simulate(trace, changed, swarm_runner_size_class, baselines=()).controllers
        by_cooldown[cooldown_s] = _point(report)
    fixed = []
    for fraction in FIXED_FRACTIONS:
        hourly = SimulationConfig(interval_s=3600)
        (report,) = simulate(
            trace, classes, _fixed_fraction(fraction), hourly, baselines=()
        ).controllers
        fixed.append(_point(report))
    reports = simulate(trace, classes, swarm_runner_size_class).controllers
    baselines = {each.controller: _point(each) for each in reports if each.controller != POLICY}
    return Curve(name, by_cooldown, tuple(fixed), baselines)


def _fixed_fraction(fraction: float) -> SizeClass:
    return lambda each, _: round(fraction * (each.max_replicas or 0))


def _point(report: ControllerReport) -> Point:
    return report.total.executor_hours, report.total.waits.mean_s


def _panel(axes: Axes, curve: Curve) -> None:
    """Plot a trace, with an inset if the points of the queue-driven controllers are close."""
    near = [*curve.by_cooldown.values(), curve.baselines[ORACLE], curve.baselines[QUEUE_RATIO]]
    everything = [*near, *curve.baselines.values()]
    close = _span(near) < 0.3 * _span(everything)
    axes.set_yscale("log")
    _plot(axes, curve, everything, label_cooldowns=not close)
    axes.set_title(curve.trace)
    axes.set_xlabel("executor-hours")
    axes.set_ylabel("mean wait")
    axes.yaxis.set_major_locator(FixedLocator(_TICKS_S))
    axes.yaxis.set_minor_locator(NullLocator())
    if close:
        inset = axes.inset_axes((0.52, 0.44, 0.47, 0.47))
        inset.set_title("close to the oracle", fontsize="small")
        _plot(inset, curve, near, label_cooldowns=True)
        inset.tick_params(labelsize="x-small")
        inset.locator_params(nbins=4)


def _span(points: Sequence[Point]) -> float:
    return max(hours for hours, _ in points) - min(hours for hours, _ in points)


def _plot(axes: Axes, curve: Curve, visible: Sequence[Point], *, label_cooldowns: bool) -> None:
    """Plot the curves, within the limits of the visible points."""
    hours, wait_s = curve.baselines[ORACLE]
    margin = 0.08 * _span(visible)
    left = min(x for x, _ in visible) - margin
    low, high = min(y for _, y in visible), max(y for _, y in visible)
    axes.set_xlim(left, max(x for x, _ in visible) + margin)
    if axes.get_yscale() == "log":
        axes.set_ylim(low / 1.15, high * 1.3)
    else:
        axes.set_ylim(low - 0.12 * (high - low), high + 0.12 * (high - low))
    target = f"x{TARGET_RATIOS[1]:g} the oracle's wait, x{TARGET_RATIOS[0]:g} its hours"
    axes.fill_between(
        [left, hours * TARGET_RATIOS[0]],
        wait_s * TARGET_RATIOS[1],
        color="C2",
        alpha=0.12,
        label=target,
    )
    axes.plot(*zip(*curve.fixed, strict=True), color=_GREY, lw=1, ls=":", label="fixed, any number")
    label = f"{POLICY}, by its pause"
    axes.plot(
        *zip(*curve.by_cooldown.values(), strict=True), color="C0", marker="o", ms=4, label=label
    )
    axes.plot(*curve.by_cooldown[DEFAULT_COOLDOWN_S], color="C0", marker="o", ms=9)
    for name, point in curve.baselines.items():
        axes.plot(*point, ls="", label=name, zorder=3, **_MARKERS[name])
    labels = {COOLDOWNS_S[0]: "center", DEFAULT_COOLDOWN_S: "left", COOLDOWNS_S[-1]: "right"}
    for cooldown_s, side in labels.items() if label_cooldowns else ():
        axes.annotate(
            f"{cooldown_s} s",
            curve.by_cooldown[cooldown_s],
            (0, 8),
            textcoords="offset points",
            fontsize="small",
            color="C0",
            ha=side,
        )
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _format_time(value)))
    axes.grid(alpha=0.25)


def _format_time(seconds: float) -> str:
    if seconds <= 120:
        return f"{seconds:.0f} s"
    if seconds % 60:
        return f"{seconds // 60:.0f}m{seconds % 60:02.0f}s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
