"""What is new, on trial: where its tasks work, and where they do not."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from swarm_runner.model.stack import CLASS_LABEL, ServiceSpec
from swarm_runner.model.status import PoolStatus, ServiceState, TaskState
from swarm_runner.provisioner.failures import MAX_TASK_FAILURES
from swarm_runner.provisioner.waiting import PermanentError

READINESS_TIMEOUT_S = 120.0
_SHORT_ID = 12


class RolloutFailedError(PermanentError):
    """What is new does not work."""


class CanaryMonitor:
    """The trial of one service's new tasks.

    On a single node, and for the manager, which has its node, one task that fails tells enough.
    Among several nodes it may be the node that is bad: the new is broken when it works on no
    other, or fails on as many as it works on.
    """

    def __init__(
        self, spec: ServiceSpec, node_count: int, readiness_timeout_s: float = READINESS_TIMEOUT_S
    ) -> None:
        self._spec = spec
        self._single_node = node_count < 2 or CLASS_LABEL not in spec.labels
        self._readiness_timeout_s = readiness_timeout_s
        self._not_ready_since: dict[str, float] = {}
        # By task, also of those that Swarm has forgotten by now.
        self._failed: dict[str, TaskState] = {}
        # The nodes on which it does not work, though it does on others, and what is wrong there.
        self.failed_nodes: dict[str, str] = {}
        # How many tasks are on such nodes for good.
        self.blocked = 0

    def evaluate(
        self, new_tasks: Sequence[TaskState], state: ServiceState, status: PoolStatus
    ) -> None:
        """Look at the new tasks. Raises BrokenError when it is not a node's fault."""
        # Swarm says "shutdown" of those that it ended.
        self._failed |= {t.id: t for t in new_tasks if t.failed or t.state == "complete"}
        mute = dict(self._not_ready(new_tasks, status))
        words = {task.node: self._failure_message(task) for task in self._failed.values()}
        words |= {task.node: mute[task.id] for task in new_tasks if task.id in mute}
        if not words and state.update == "paused":
            raise RolloutFailedError(f"Swarm stopped it: {state.update_message}")
        new = {task.id for task in new_tasks}
        works = {line.node for line in status.executors if line.ready and line.task in new}
        self.failed_nodes = {node: said for node, said in words.items() if node not in works}
        if words and self._single_node:
            raise RolloutFailedError(next(iter(words.values())))
        if not works and (mute or len(self._failed) >= MAX_TASK_FAILURES):
            raise RolloutFailedError("; ".join(self.failed_nodes.values()) + self._advice())
        if len(self.failed_nodes) > 1 and len(self.failed_nodes) >= len(works):
            raise RolloutFailedError("; ".join(self.failed_nodes.values()))
        self.blocked = len(mute) + sum(self._is_blocked(task) for task in new_tasks)

    def _failure_message(self, task: TaskState) -> str:
        short, node = task.id[:_SHORT_ID], task.node or "no node"
        if task.failed:
            return (
                f"task {short} on {node} {task.state}: {task.error} "
                f"(`docker service logs {self._spec.name}` may tell more)"
            )
        return f"task {short} on {node} ended by itself, with exit code 0"

    def _advice(self) -> str:
        """What to do when nothing but one node was tried."""
        if len(self.failed_nodes) != 1:
            return ""
        [node] = self.failed_nodes
        return (
            f". No other node was tried: if {node} is to blame, mend it, or (unless it holds the "
            f"queue) `docker node update --availability drain {node}`, and upgrade again"
        )

    def _is_blocked(self, task: TaskState) -> bool:
        """Whether its place has seen so many failures that nobody waits for it."""
        if task.stopping or task.stopped or task.state == "running":
            return False
        return (
            sum(failed.slot == task.slot for failed in self._failed.values()) >= MAX_TASK_FAILURES
        )

    def _not_ready(
        self, new_tasks: Sequence[TaskState], status: PoolStatus
    ) -> Iterator[tuple[str, str]]:
        """The new tasks that run and have been of no use for too long, and why."""
        now = time.monotonic()
        for task in new_tasks:
            wrong = (
                ""
                if task.state != "running" or task.stopping
                else self._not_ready_reason(task, status)
            )
            if not wrong:
                self._not_ready_since.pop(task.id, None)
            elif now - self._not_ready_since.setdefault(task.id, now) > self._readiness_timeout_s:
                yield task.id, f"task {task.id[:_SHORT_ID]} on {task.node} runs, but {wrong}"

    def _not_ready_reason(self, task: TaskState, status: PoolStatus) -> str:
        """Why a new task that runs is of no use yet, as far as anybody knows."""
        if CLASS_LABEL not in self._spec.labels:
            return "; ".join(status.problems)
        line = next((line for line in status.executors if line.task == task.id), None)
        if status.problems or line is None or line.ready or line.retiring:
            return ""
        return line.problem or "no slot of it is advertised"
