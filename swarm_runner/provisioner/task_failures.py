"""Which tasks failed, and where: a bad node among several is not a bad pool."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from swarm_runner.model.pool_status import TaskState
from swarm_runner.provisioner.waiter import PermanentError

# Swarm tries a node five times before it looks for another one.
MAX_TASK_FAILURES = 6
MAX_TASK_FAILURES_SINGLE_NODE = 3


class TaskFailures:
    """The tasks that failed since it was made, also those that Swarm has forgotten by now.

    `nodes` is how many nodes the Swarm has; `before` are tasks of old that do not count.
    """

    def __init__(self, earlier_tasks: Iterable[TaskState], node_count: int) -> None:
        self._earlier_failures = {task.id for task in earlier_tasks if task.failed}
        self._node_count = node_count
        self._failed: dict[str, TaskState] = {}

    def record(self, tasks: Iterable[TaskState]) -> None:
        """Keep those that failed."""
        self._failed |= {t.id: t for t in tasks if t.failed and t.id not in self._earlier_failures}

    def check(self, tasks: Sequence[TaskState]) -> None:
        """Note the tasks; raise HopelessError when those of a service fail wherever they start.

        On a single node that is three times in one place. Among several nodes it takes that no
        other one does better.
        """
        self.record(tasks)
        for service in {task.service for task in self._failed.values()}:
            failed = [task for task in self._failed.values() if task.service == service]
            bad = {task.node for task in failed}
            good = {t.node for t in tasks if t.service == service and t.state == "running"} - bad
            worst = max(Counter(task.slot for task in failed).values())
            enough = (
                MAX_TASK_FAILURES_SINGLE_NODE
                if self._node_count < 2 or len(bad) > 1
                else MAX_TASK_FAILURES
            )
            if worst >= enough and (self._node_count < 2 or len(bad) > len(good) or not good):
                last = max(failed, key=lambda task: task.created_at)
                raise PermanentError(
                    f"the tasks of {service} fail again and again: {last.error} "
                    f"(`docker service logs {service}` may tell more)"
                )

    def blocked_slots(self, tasks: Iterable[TaskState]) -> Mapping[str, int]:
        """In how many places of each service tasks fail again and again, so that none runs."""
        failed = Counter((task.service, task.slot) for task in self._failed.values())
        waiting = {
            (task.service, task.slot)
            for task in tasks
            if not (task.stopping or task.stopped or task.state == "running")
        }
        return Counter(place[0] for place in waiting if failed[place] >= MAX_TASK_FAILURES)

    def messages(self, tasks: Sequence[TaskState]) -> list[str]:
        """Where tasks failed and none of theirs has started since, each with its words."""
        failed = sorted(self._failed.values(), key=lambda task: task.created_at)
        latest = {(task.service, task.node): task for task in failed}
        running = [task for task in tasks if task.state == "running"]
        return [
            f"{service} does not start on {node or 'any node'}: {task.error}. The others go on"
            for (service, node), task in latest.items()
            if not any(
                (other.service, other.node) == (service, node)
                and other.created_at > task.created_at
                for other in running
            )
        ]
