"""Jobs that arrive over time: a trace, and its jobs class by class."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field

from swarm_runner.model.demand import Shape, SizedClass
from swarm_runner.policy.packing import granted


@dataclass(slots=True)
class Trace:
    """Arrivals, in columns: a million jobs take tens of megabytes.

    `shape` numbers into `shapes`: what a job asks for, and the class that it names, if it does.
    """

    name: str
    length_s: float = 0.0
    time_s: array[float] = field(default_factory=lambda: array("d"))
    duration_s: array[float] = field(default_factory=lambda: array("d"))
    shape: array[int] = field(default_factory=lambda: array("l"))
    shapes: list[tuple[Shape, str | None]] = field(default_factory=list)
    _numbers: dict[tuple[Shape, str | None], int] = field(default_factory=dict)

    def number(self, shape: Shape, capacity_class: str | None = None) -> int:
        """The number of a shape in this trace; it is noted when new."""
        key = shape, capacity_class
        if key not in self._numbers:
            self._numbers[key] = len(self.shapes)
            self.shapes.append(key)
        return self._numbers[key]

    def add(self, time_s: float, duration_s: float, shape: int, count: int = 1) -> None:
        """Jobs of one shape that arrive together."""
        for _ in range(count):
            self.time_s.append(time_s)
            self.duration_s.append(duration_s)
            self.shape.append(shape)

    def __len__(self) -> int:
        return len(self.time_s)


@dataclass(slots=True)
class ClassTrace:
    """The jobs of one class, in the order of their arrival."""

    time_s: array[float]
    duration_s: array[float]
    shape: array[int]
    shapes: list[Shape]
    length_s: float

    def __len__(self) -> int:
        return len(self.time_s)


def by_class(trace: Trace, classes: Mapping[str, SizedClass]) -> tuple[dict[str, ClassTrace], int]:
    """Each class's jobs, and how many jobs were refused because they fit none.

    As in a pool: the smallest class that fits, or the one that is named, if that fits.
    """
    routes = [_route(shape, asked, classes) for shape, asked in trace.shapes]
    shapes = [shape for shape, _ in trace.shapes]
    found = {
        name: ClassTrace(array("d"), array("d"), array("l"), shapes, trace.length_s)
        for name in classes
    }
    refused = 0
    order = sorted(range(len(trace)), key=trace.time_s.__getitem__)
    for job in order:
        name = routes[trace.shape[job]]
        if name is None:
            refused += 1
            continue
        jobs = found[name]
        jobs.time_s.append(trace.time_s[job])
        jobs.duration_s.append(trace.duration_s[job])
        jobs.shape.append(trace.shape[job])
    return found, refused


def _route(shape: Shape, asked: str | None, classes: Mapping[str, SizedClass]) -> str | None:
    names = classes if asked is None else [asked] if asked in classes else []
    return next((name for name in names if granted(shape, classes[name])), None)
