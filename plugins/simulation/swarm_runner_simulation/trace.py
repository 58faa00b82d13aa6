"""Jobs that arrive over time: a trace, and its jobs class by class."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field

from swarm_runner.model.scaling import ResourceAmounts, ScalingLimits
from swarm_runner.policy.packing import slot_size


@dataclass(slots=True)
class Trace:
    """Arrivals, in columns: a million jobs take tens of megabytes.

    `shape` numbers into `shapes`: what a job asks for, and the class that it names, if it does.
    """

    name: str
    length_s: float = 0.0
    time_s: array[float] = field(default_factory=lambda: array("d"))
    duration_s: array[float] = field(default_factory=lambda: array("d"))
    shape_ids: array[int] = field(default_factory=lambda: array("l"))
    shapes: list[tuple[ResourceAmounts, str | None]] = field(default_factory=list)
    _shape_ids: dict[tuple[ResourceAmounts, str | None], int] = field(default_factory=dict)

    def intern_shape(self, shape: ResourceAmounts, capacity_class: str | None = None) -> int:
        """The number of a shape in this trace; it is noted when new."""
        key = shape, capacity_class
        if key not in self._shape_ids:
            self._shape_ids[key] = len(self.shapes)
            self.shapes.append(key)
        return self._shape_ids[key]

    def add(self, time_s: float, duration_s: float, shape_id: int, count: int = 1) -> None:
        """Jobs of one shape that arrive together."""
        for _ in range(count):
            self.time_s.append(time_s)
            self.duration_s.append(duration_s)
            self.shape_ids.append(shape_id)

    def __len__(self) -> int:
        return len(self.time_s)


@dataclass(slots=True)
class ClassTrace:
    """The jobs of one class, in the order of their arrival."""

    time_s: array[float]
    duration_s: array[float]
    shape_ids: array[int]
    shapes: list[ResourceAmounts]
    length_s: float

    def __len__(self) -> int:
        return len(self.time_s)


def split_by_class(
    trace: Trace, classes: Mapping[str, ScalingLimits]
) -> tuple[dict[str, ClassTrace], int]:
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
        name = routes[trace.shape_ids[job]]
        if name is None:
            refused += 1
            continue
        jobs = found[name]
        jobs.time_s.append(trace.time_s[job])
        jobs.duration_s.append(trace.duration_s[job])
        jobs.shape_ids.append(trace.shape_ids[job])
    return found, refused


def _route(
    shape: ResourceAmounts, requested_class: str | None, classes: Mapping[str, ScalingLimits]
) -> str | None:
    names = (
        classes
        if requested_class is None
        else [requested_class]
        if requested_class in classes
        else []
    )
    return next((name for name in names if slot_size(shape, classes[name])), None)
