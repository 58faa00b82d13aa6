"""A trace: jobs that arrive over time, and how they are divided among the classes."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field

from swarm_runner.model.scaling import ResourceAmounts, ScalingLimits
from swarm_runner.policy.packing import slot_size


@dataclass(slots=True)
class Trace:
    """Arrivals in columns, so that a million jobs take only tens of megabytes.

    `request_ids` are indexes into `requests`: a job's request, and the class it names, if any; and
    into `users`: whose job it is. Equal requests of two users are two.
    """

    name: str
    length_s: float = 0.0
    time_s: array[float] = field(default_factory=lambda: array("d"))
    duration_s: array[float] = field(default_factory=lambda: array("d"))
    request_ids: array[int] = field(default_factory=lambda: array("l"))
    requests: list[tuple[ResourceAmounts, str | None]] = field(default_factory=list)
    users: list[str] = field(default_factory=list)
    _request_ids: dict[tuple[ResourceAmounts, str | None, str], int] = field(default_factory=dict)

    def intern_request(
        self, request: ResourceAmounts, capacity_class: str | None = None, user: str = ""
    ) -> int:
        """Return the ID of a user's request in this trace; add the request if it is new."""
        key = request, capacity_class, user
        if key not in self._request_ids:
            self._request_ids[key] = len(self.requests)
            self.requests.append((request, capacity_class))
            self.users.append(user)
        return self._request_ids[key]

    def add(self, time_s: float, duration_s: float, request_id: int, count: int = 1) -> None:
        """Add jobs with the same request that arrive together."""
        for _ in range(count):
            self.time_s.append(time_s)
            self.duration_s.append(duration_s)
            self.request_ids.append(request_id)

    def __len__(self) -> int:
        return len(self.time_s)


@dataclass(slots=True)
class ClassTrace:
    """The jobs of one class, in the order of their arrival. Columns as in Trace."""

    time_s: array[float]
    duration_s: array[float]
    request_ids: array[int]
    requests: list[ResourceAmounts]
    length_s: float
    users: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.time_s)


def split_by_class(
    trace: Trace, classes: Mapping[str, ScalingLimits]
) -> tuple[dict[str, ClassTrace], int]:
    """Return each class's jobs, and the number of jobs that fit no class.

    As in a pool, a job goes to the class that it names, or else to the smallest class that fits.
    """
    routes = [_route(request, name, classes) for request, name in trace.requests]
    requests = [request for request, _ in trace.requests]
    class_traces = {
        name: ClassTrace(array("d"), array("d"), array("l"), requests, trace.length_s, trace.users)
        for name in classes
    }
    refused = 0
    order = sorted(range(len(trace)), key=trace.time_s.__getitem__)
    for job in order:
        name = routes[trace.request_ids[job]]
        if name is None:
            refused += 1
            continue
        jobs = class_traces[name]
        jobs.time_s.append(trace.time_s[job])
        jobs.duration_s.append(trace.duration_s[job])
        jobs.request_ids.append(trace.request_ids[job])
    return class_traces, refused


def _route(
    request: ResourceAmounts, class_name: str | None, classes: Mapping[str, ScalingLimits]
) -> str | None:
    names = [name for name in classes if class_name in (None, name)]
    return next((name for name in names if slot_size(request, classes[name])), None)
