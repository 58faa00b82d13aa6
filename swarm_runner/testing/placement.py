"""Where a Swarm in memory puts a task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from swarm_runner.model.pool_status import TaskState

# As Swarm: a node on which tasks of a service failed so often gets the next one last.
MAX_TASK_FAILURES = 5


def choose_host(service: str, hosts: Sequence[str], tasks: Sequence[TaskState]) -> str:
    """The host with the fewest tasks of the service; one that failed them again and again last."""
    mine = [task for task in tasks if task.service == service]
    failed = Counter(task.node for task in mine if task.failed)
    living = Counter(task.node for task in mine if not (task.stopping or task.stopped))
    return min(hosts, key=lambda host: (failed[host] >= MAX_TASK_FAILURES, living[host]))
