"""Replacing what runs, one task after another, and taking it back when the new does not work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from swarm_runner.errors import PreconditionError
from swarm_runner.model.pool_status import PoolStatus, ServiceState, TaskState
from swarm_runner.provisioner.task_failures import MAX_TASK_FAILURES, TaskFailures
from swarm_runner.provisioner.waiter import PermanentError, Waiter
from swarm_runner.swarm.ports import Swarm
from swarm_runner.swarm.specs import CLASS_LABEL, POOL_LABEL, SPEC_DIGEST_LABEL, ServiceSpec

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


# Until the first new task has proved itself Swarm is not to touch a second one.
_CANARY_UPDATE_DELAY_S = 3600
_ROLLBACK_TIMEOUT_S = 300.0
_SHORT_ID = 12


@dataclass(frozen=True, slots=True)
class _RolloutProgress:
    """How far a service is: tasks of the wish that work, tasks of another one, tasks wanted.

    `stuck` is how many of the wish do not work, and will not where they are.
    """

    working: int
    outdated: int
    desired: int
    updating: bool
    blocked: int

    @property
    def canary_ready(self) -> bool:
        return self.working >= min(1, self.desired)

    @property
    def replaced(self) -> bool:
        return not self.outdated and self.working + self.blocked >= self.desired

    @property
    def done(self) -> bool:
        return self.replaced and not self.updating


def outdated_services(
    existing: Mapping[str, ServiceState], specs: Iterable[ServiceSpec]
) -> list[ServiceSpec]:
    """The wishes whose service is there and differs, or was left halfway."""
    return [
        wish
        for wish in specs
        if (state := existing.get(wish.name))
        and (state.labels.get(SPEC_DIGEST_LABEL) != wish.digest() or state.updating)
    ]


class Rollout:
    """Brings one service to its wish.

    `status` joins Swarm and HTCondor, `nodes` is how many nodes the Swarm has; a new task that
    runs and advertises no working slot for `patience_s` seconds is broken.
    """

    def __init__(
        self,
        spec: ServiceSpec,
        swarm: Swarm,
        pool_status: Callable[[], PoolStatus],
        waiter: Waiter,
        node_count: int,
        readiness_timeout_s: float = READINESS_TIMEOUT_S,
    ) -> None:
        self._spec = spec
        self._swarm = swarm
        self._pool_status = pool_status
        self._waiter = waiter
        self._node_count = node_count
        self._canary = CanaryMonitor(spec, node_count, readiness_timeout_s)
        self._canary_passed = False
        self._old_task_ids = {task.id for task in waiter.retry_while_unreachable(self._tasks)}

    def run(self, timeout_s: float | None) -> None:
        """Replace the tasks, one after another; the first has to prove itself.

        Where a node among several has a task of the new fail, the others are upgraded, and that
        node is named. Raises RefusedError when the new does not work, with the reason and after
        the service was taken back to what it was; and when `limit_s` ends the wait, not the
        update. OutOfReachError, when the Swarm does not answer for long, leaves the update to it.
        """
        name = self._spec.name
        before, former = self._waiter.retry_while_unreachable(
            lambda: (self._service(), self._swarm.service_spec(name))
        )
        former_digest = before.labels.get(SPEC_DIGEST_LABEL, "")
        self._waiter.report(f"upgrading {name}, one task after another")
        end = None if timeout_s is None else time.monotonic() + timeout_s
        self._update(_CANARY_UPDATE_DELAY_S)
        try:
            self._waiter.poll_until(
                self._observe, lambda seen: seen.canary_ready, _remaining_s(end)
            )
            self._canary_passed = True
            self._update()
            self._waiter.poll_until(self._observe, lambda seen: seen.done, _remaining_s(end))
        except RolloutFailedError as error:
            if former_digest == self._spec.digest():
                raise PreconditionError(
                    f"the upgrade of {name} stopped: {error}. What it was before is not known: "
                    "`swarm-runner pool upgrade` with the former image or configuration"
                ) from error
            self._waiter.report(f"{error}; rolling {name} back")
            self._waiter.retry_while_unreachable(lambda: self._swarm.restore_service(name, former))
            raise PreconditionError(
                f"the upgrade of {name} was rolled back: {error}. {self._await_rollback(former_digest)}"
            ) from error
        for words in self._canary.failed_nodes.values():
            self._waiter.report(f"{name} is upgraded, but {words}")

    def _await_rollback(self, former_digest: str) -> str:
        """Wait for what was before, and say how it is."""
        name = self._spec.name
        failures = TaskFailures(self._waiter.retry_while_unreachable(self._tasks), self._node_count)

        def look() -> _RolloutProgress:
            tasks = self._tasks()
            failures.record(tasks)
            seen = self._measure_progress(
                former_digest, self._pool_status(), failures.blocked_slots(tasks).get(name, 0)
            )
            self._waiter.report(f"{name}: {seen.working} of {seen.desired} as before")
            return seen

        try:
            seen = self._waiter.poll_until(look, lambda seen: seen.replaced, _ROLLBACK_TIMEOUT_S)
        except PreconditionError as error:
            return str(error)
        if seen.working < seen.desired:  # a bad node takes back no more than it takes up
            return f"{seen.working} of {seen.desired} executors work as before"
        return "The pool works as before"

    def _update(self, update_delay_s: int = 0) -> None:
        self._waiter.retry_while_unreachable(
            lambda: self._swarm.update_service(self._spec, update_delay_s)
        )

    def _observe(self) -> _RolloutProgress:
        """How far it is. Raises BrokenError when what is new does not work."""
        digest = self._spec.digest()
        state = self._service()
        fresh = [t for t in self._tasks() if t.wish == digest and t.id not in self._old_task_ids]
        status = self._pool_status()
        self._canary.evaluate(fresh, state, status)
        if self._canary_passed and state.update == "paused":
            self._update()  # Swarm stopped at the bad node; it goes on with the next task
        seen = self._measure_progress(digest, status, self._canary.blocked)
        if not seen.done:
            self._waiter.report("; ".join(self._progress_messages(seen, fresh, status)))
        return seen

    def _measure_progress(self, digest: str, status: PoolStatus, blocked: int) -> _RolloutProgress:
        state = self._service()
        living = [task for task in self._tasks() if not (task.stopping or task.stopped)]
        working = {line.task for line in status.executors if line.ready}
        if status.manager and status.manager.state == "running" and not status.problems:
            working.add(status.manager.id)
        return _RolloutProgress(
            working=sum(task.wish == digest and task.id in working for task in living),
            outdated=sum(task.wish != digest for task in living),
            desired=state.replicas,
            updating=state.update == "updating",
            blocked=blocked,
        )

    def _progress_messages(
        self, progress: _RolloutProgress, new_tasks: Sequence[TaskState], status: PoolStatus
    ) -> list[str]:
        name = self._spec.name
        told = [f"{name}: {progress.working} of {progress.desired} upgraded"]
        told += [
            f"{line.task[:_SHORT_ID]} on {line.node} stays {line.describe_drain()}"
            for line in status.executors
            if line.service == name and line.retiring and line.jobs
        ]
        told += [
            f"{task.id[:_SHORT_ID]} is {task.state}: {task.error}"
            for task in new_tasks
            if task.error and not task.stopping
        ]
        return told

    def _service(self) -> ServiceState:
        state = self._swarm.services(self._pool).get(self._spec.name)
        if state is None:
            raise PermanentError(
                f"service {self._spec.name} is gone; `swarm-runner pool up` makes it"
            )
        return state

    def _tasks(self) -> list[TaskState]:
        return [t for t in self._swarm.tasks(self._pool) if t.service == self._spec.name]

    @property
    def _pool(self) -> str:
        return self._spec.labels[POOL_LABEL]


def _remaining_s(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())
