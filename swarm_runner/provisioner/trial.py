"""What is new, on trial: where its tasks work, and where they do not."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from swarm_runner.model.stack import CLASS_LABEL, ServiceWish
from swarm_runner.model.status import PoolStatus, ServiceState, TaskState
from swarm_runner.provisioner.failures import ENOUGH
from swarm_runner.provisioner.waiting import HopelessError

PATIENCE_S = 120.0
_SHORT_ID = 12


class BrokenError(HopelessError):
    """What is new does not work."""


class Trial:
    """The trial of one service's new tasks.

    On a single node, and for the manager, which has its node, one task that fails tells enough.
    Among several nodes it may be the node that is bad: the new is broken when it works on no
    other, or fails on as many as it works on.
    """

    def __init__(self, wish: ServiceWish, nodes: int, patience_s: float = PATIENCE_S) -> None:
        self._wish = wish
        self._alone = nodes < 2 or CLASS_LABEL not in wish.labels
        self._patience_s = patience_s
        self._idle_since: dict[str, float] = {}
        # By task, also of those that Swarm has forgotten by now.
        self._failed: dict[str, TaskState] = {}
        # The nodes on which it does not work, though it does on others, and what is wrong there.
        self.bad: dict[str, str] = {}
        # How many tasks are on such nodes for good.
        self.stuck = 0

    def judge(self, fresh: Sequence[TaskState], state: ServiceState, status: PoolStatus) -> None:
        """Look at the new tasks. Raises BrokenError when it is not a node's fault."""
        # Swarm says "shutdown" of those that it ended.
        self._failed |= {t.id: t for t in fresh if t.failed or t.state == "complete"}
        mute = dict(self._mute(fresh, status))
        words = {task.node: self._told(task) for task in self._failed.values()}
        words |= {task.node: mute[task.id] for task in fresh if task.id in mute}
        if not words and state.update == "paused":
            raise BrokenError(f"Swarm stopped it: {state.update_message}")
        new = {task.id for task in fresh}
        works = {line.node for line in status.executors if line.ready and line.task in new}
        self.bad = {node: said for node, said in words.items() if node not in works}
        if words and self._alone:
            raise BrokenError(next(iter(words.values())))
        if not works and (mute or len(self._failed) >= ENOUGH):
            raise BrokenError("; ".join(self.bad.values()) + self._advice())
        if len(self.bad) > 1 and len(self.bad) >= len(works):
            raise BrokenError("; ".join(self.bad.values()))
        self.stuck = len(mute) + sum(self._fails_on(task) for task in fresh)

    def _told(self, task: TaskState) -> str:
        short, node = task.id[:_SHORT_ID], task.node or "no node"
        if task.failed:
            return (
                f"task {short} on {node} {task.state}: {task.error} "
                f"(`docker service logs {self._wish.name}` may tell more)"
            )
        return f"task {short} on {node} ended by itself, with exit code 0"

    def _advice(self) -> str:
        """What to do when nothing but one node was tried."""
        if len(self.bad) != 1:
            return ""
        [node] = self.bad
        return (
            f". No other node was tried: if {node} is to blame, mend it, or (unless it holds the "
            f"queue) `docker node update --availability drain {node}`, and upgrade again"
        )

    def _fails_on(self, task: TaskState) -> bool:
        """Whether its place has seen so many failures that nobody waits for it."""
        if task.going or task.gone or task.state == "running":
            return False
        return sum(failed.slot == task.slot for failed in self._failed.values()) >= ENOUGH

    def _mute(self, fresh: Sequence[TaskState], status: PoolStatus) -> Iterator[tuple[str, str]]:
        """The new tasks that run and have been of no use for too long, and why."""
        now = time.monotonic()
        for task in fresh:
            wrong = "" if task.state != "running" or task.going else self._wrong(task, status)
            if not wrong:
                self._idle_since.pop(task.id, None)
            elif now - self._idle_since.setdefault(task.id, now) > self._patience_s:
                yield task.id, f"task {task.id[:_SHORT_ID]} on {task.node} runs, but {wrong}"

    def _wrong(self, task: TaskState, status: PoolStatus) -> str:
        """Why a new task that runs is of no use yet, as far as anybody knows."""
        if CLASS_LABEL not in self._wish.labels:
            return "; ".join(status.trouble)
        line = next((line for line in status.executors if line.task == task.id), None)
        if status.trouble or line is None or line.ready or line.retiring:
            return ""
        return line.trouble or "no slot of it is advertised"
