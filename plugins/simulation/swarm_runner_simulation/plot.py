"""A simulation as a picture: the queue and the executors of each class over time."""

from __future__ import annotations

from pathlib import Path

from swarm_runner.errors import InvalidInputError
from swarm_runner_simulation.report import SimulationReport
from swarm_runner_simulation.run import POLICY

FORMATS = (".svg", ".png")
_HOUR_S = 3600


def check_file(file: Path) -> None:
    """Raise InvalidInputError if no picture can be drawn, or none by that name."""
    if file.suffix not in FORMATS:
        raise InvalidInputError(f"{file}: a picture's name ends in {' or '.join(FORMATS)}")
    try:
        import matplotlib  # noqa: F401  an extra of the distribution
    except ImportError as error:
        message = "a picture needs matplotlib: pip install 'swarm-runner[simulate]'"
        raise InvalidInputError(message) from error


def draw(report: SimulationReport, file: Path) -> None:
    """Write the picture, SVG or PNG by the file's name. Raises OSError if it cannot be written."""
    check_file(file)
    # The figure by itself: no window, and no state of the process's.
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    classes = list(report.controllers[0].classes)
    figure = Figure(figsize=(10, 4.2 * len(classes)), layout="constrained")
    figure.suptitle(f"{report.trace}: {report.jobs} jobs")
    grid = figure.subplots(2 * len(classes), 1, sharex=True, squeeze=False)
    for number, name in enumerate(classes):
        queue, executors = grid[2 * number][0], grid[2 * number + 1][0]
        for each in report.controllers:
            moments = each.timeline[name]
            hours = [moment.time_s / _HOUR_S for moment in moments]
            ours = each.controller == POLICY
            style = {"linewidth": 1.8 if ours else 0.8, "zorder": 3 if ours else 2}
            queue.plot(hours, [m.waiting for m in moments], label=each.controller, **style)
            executors.plot(hours, [m.executors for m in moments], **style)
        queue.set_ylabel(f"{name}\njobs that wait")
        executors.set_ylabel(f"{name}\nexecutors")
        for axes in (queue, executors):
            axes.set_ylim(bottom=0)
            axes.grid(alpha=0.3)
    grid[0][0].legend(loc="upper left", fontsize="small", ncols=3)
    grid[-1][0].set_xlabel("hours")
    # The same simulation gives the same file, byte for byte.
    with rc_context({"svg.hashsalt": report.trace}):
        figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)
