"""Plots a simulation: the queue and the executors of each class over time."""

from __future__ import annotations

from pathlib import Path

from swarm_runner.errors import Diagnostic, InvalidInputError
from swarm_runner_simulation.report import SimulationReport
from swarm_runner_simulation.run import POLICY

FORMATS = (".svg", ".png")
_HOUR_S = 3600


def check_file(file: Path) -> None:
    """Raise InvalidInputError if the name does not end in a format that can be written."""
    if file.suffix not in FORMATS:
        formats = " or ".join(FORMATS)
        raise InvalidInputError([Diagnostic(f"the name must end in {formats}", source=str(file))])


def draw(report: SimulationReport, file: Path) -> None:
    """Write the plot as SVG or PNG, by the file's name. Raises OSError if that fails."""
    check_file(file)
    # Imported late because it takes a second. A Figure by itself needs no window and no state.
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    classes = list(report.controllers[0].classes)
    figure = Figure(figsize=(10, 4.2 * len(classes)), layout="constrained")
    figure.suptitle(f"{report.trace}: {report.jobs} jobs")
    grid = figure.subplots(2 * len(classes), 1, sharex=True, squeeze=False)
    for number, name in enumerate(classes):
        queue, executors = grid[2 * number][0], grid[2 * number + 1][0]
        for result in report.controllers:
            samples = result.timeline[name]
            hours = [sample.time_s / _HOUR_S for sample in samples]
            is_policy = result.controller == POLICY
            style = {"linewidth": 1.8 if is_policy else 0.8, "zorder": 3 if is_policy else 2}
            queue.plot(hours, [s.waiting for s in samples], label=result.controller, **style)
            executors.plot(hours, [s.executors for s in samples], **style)
        queue.set_ylabel(f"{name}\njobs that wait")
        executors.set_ylabel(f"{name}\nexecutors")
        for axes in (queue, executors):
            axes.set_ylim(bottom=0)
            axes.grid(alpha=0.3)
    grid[0][0].legend(loc="upper left", fontsize="small", ncols=3)
    grid[-1][0].set_xlabel("hours")
    # A fixed salt makes equal simulations give equal files.
    with rc_context({"svg.hashsalt": report.trace}):
        figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)
