"""Counts the tasks that fail, by node: a failing node among several is not a failing pool."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from swarm_runner.model.pool_status import TaskState
from swarm_runner.provisioner.preconditions import PermanentError

# Swarm tries a node five times before it tries another one.
MAX_TASK_FAILURES = 6
MAX_TASK_FAILURES_SINGLE_NODE = 3


class TaskFailures:
    """The tasks that failed since this object was created, including those Swarm has dropped.

    Args:
        earlier_tasks: Tasks that existed before. Their failures do not count.
        node_count: How many nodes the Swarm has.
    """

    def __init__(self, earlier_tasks: Iterable[TaskState], node_count: int) -> None:
        self._earlier_failures = {task.id for task in earlier_tasks if task.failed}
        self._node_count = node_count
        self._failed: dict[str, TaskState] = {}

    def record(self, tasks: Iterable[TaskState]) -> None:
        """Add those of the tasks that failed."""
        self._failed |= {t.id: t for t in tasks if t.failed and t.id not in self._earlier_failures}

    def check(self, tasks: Sequence[TaskState]) -> None:
        """Record the tasks, and raise PermanentError when a service starts on no node.

        On a single node, three failures in one task slot are enough. Among several nodes, more
        nodes must have failed than work, or none must work.
        """
        self.record(tasks)
        for service in {task.service for task in self._failed.values()}:
            failed = [task for task in self._failed.values() if task.service == service]
            failed_nodes = {task.node for task in failed}
            working_nodes = {
                task.node for task in tasks if task.service == service and task.state == "running"
            } - failed_nodes
            failures_per_slot = max(Counter(task.slot for task in failed).values())
            single_node = self._node_count < 2
            allowed = (
                MAX_TASK_FAILURES_SINGLE_NODE
                if single_node or len(failed_nodes) > 1
                else MAX_TASK_FAILURES
            )
            widespread = not working_nodes or len(failed_nodes) > len(working_nodes)
            if failures_per_slot >= allowed and (single_node or widespread):
                last = max(failed, key=lambda task: task.created_at)
                raise PermanentError(
                    f"the tasks of service {service} fail repeatedly: {last.error} "
                    f"(see `docker service logs {service}`)"
                )

    def blocked_slots(self, tasks: Iterable[TaskState]) -> Mapping[str, int]:
        """Return for each service how many task slots have no running task and keep failing."""
        failures = Counter((task.service, task.slot) for task in self._failed.values())
        not_running = {
            (task.service, task.slot)
            for task in tasks
            if not (task.stopping or task.stopped or task.state == "running")
        }
        return Counter(
            service for service, slot in not_running if failures[service, slot] >= MAX_TASK_FAILURES
        )

    def messages(self, tasks: Sequence[TaskState]) -> list[str]:
        """Return a message for each service and node where no task has started since a failure."""
        failed = sorted(self._failed.values(), key=lambda task: task.created_at)
        latest = {(task.service, task.node): task for task in failed}
        running = [task for task in tasks if task.state == "running"]
        return [
            f"{service} does not start on {node or 'any node'}: {task.error}. Its tasks on other "
            "nodes are not affected"
            for (service, node), task in latest.items()
            if not any(
                (other.service, other.node) == (service, node)
                and other.created_at > task.created_at
                for other in running
            )
        ]
