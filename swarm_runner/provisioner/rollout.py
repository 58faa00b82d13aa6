"""Rolling updates of a service: a canary first, and a rollback when the new tasks do not work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from swarm_runner.errors import PreconditionError
from swarm_runner.model.pool_status import PoolStatus, ServiceState, TaskState
from swarm_runner.provisioner.preconditions import PermanentError
from swarm_runner.provisioner.task_failures import MAX_TASK_FAILURES, TaskFailures
from swarm_runner.provisioner.waiter import Waiter
from swarm_runner.structured_log import get_logger
from swarm_runner.swarm.ports import Swarm
from swarm_runner.swarm.specs import CLASS_LABEL, POOL_LABEL, SPEC_DIGEST_LABEL, ServiceSpec

log = get_logger(__name__)

READINESS_TIMEOUT_S = 120.0
# Swarm must not replace a second task before the first new one works.
_CANARY_UPDATE_DELAY_S = 3600
_ROLLBACK_TIMEOUT_S = 300.0
_SHORT_ID = 12


class RolloutFailedError(PermanentError):
    """The new tasks of a service do not work."""


class CanaryMonitor:
    """Decides whether one service's new tasks work.

    On a single node one failed task decides; likewise for the manager, which is bound to one
    node. Among several nodes the node may be at fault: the update has failed when the new tasks
    work on no node, or fail on at least as many nodes (two or more) as they work on.

    Attributes:
        failed_nodes: The nodes on which the new tasks fail, with the reason.
        blocked: How many new tasks are bound to nodes on which they keep failing.
    """

    def __init__(
        self, spec: ServiceSpec, node_count: int, readiness_timeout_s: float = READINESS_TIMEOUT_S
    ) -> None:
        self._spec = spec
        self._single_node = node_count < 2 or CLASS_LABEL not in spec.labels
        self._readiness_timeout_s = readiness_timeout_s
        self._not_ready_since: dict[str, float] = {}  # by task ID
        self._failed: dict[str, TaskState] = {}  # by task ID; Swarm drops failed tasks
        self._pauses: set[str] = set()  # messages of pauses without a failed task
        self.failed_nodes: dict[str, str] = {}
        self.blocked = 0

    def evaluate(
        self, new_tasks: Sequence[TaskState], state: ServiceState, status: PoolStatus
    ) -> None:
        """Evaluate the new tasks. Raises RolloutFailedError when more than one node is at fault."""
        # A task in state "complete" exited on its own. Swarm reports "shutdown" for those it ended.
        self._failed |= {t.id: t for t in new_tasks if t.failed or t.state == "complete"}
        not_ready = dict(self._not_ready(new_tasks, status))
        reasons = {task.node: self._failure_message(task) for task in self._failed.values()}
        reasons |= {task.node: not_ready[task.id] for task in new_tasks if task.id in not_ready}
        if not reasons and state.update == "paused":
            # Among several nodes, a scale-down may have ended the task that Swarm watches.
            self._pauses.add(state.update_message)
            if self._single_node or len(self._pauses) >= MAX_TASK_FAILURES:
                raise RolloutFailedError(f"Swarm paused the update: {state.update_message}")
        new_ids = {task.id for task in new_tasks}
        working_nodes = {
            executor.node
            for executor in status.executors
            if executor.ready and executor.task in new_ids
        }
        self.failed_nodes = {
            node: reason for node, reason in reasons.items() if node not in working_nodes
        }
        if reasons and self._single_node:
            raise RolloutFailedError(next(iter(reasons.values())))
        if not working_nodes and (not_ready or len(self._failed) >= MAX_TASK_FAILURES):
            raise RolloutFailedError("; ".join(self.failed_nodes.values()) + self._advice())
        if len(self.failed_nodes) > 1 and len(self.failed_nodes) >= len(working_nodes):
            raise RolloutFailedError("; ".join(self.failed_nodes.values()))
        self.blocked = len(not_ready) + sum(self._is_blocked(task) for task in new_tasks)

    def _failure_message(self, task: TaskState) -> str:
        task_on_node = f"task {task.id[:_SHORT_ID]} on {task.node or 'no node'}"
        if task.failed:
            return (
                f"{task_on_node} {task.state}: {task.error} "
                f"(see `docker service logs {self._spec.name}`)"
            )
        return f"{task_on_node} exited with code 0"

    def _advice(self) -> str:
        """Return what to do when Swarm tried only one node."""
        if len(self.failed_nodes) != 1:
            return ""
        [node] = self.failed_nodes
        return (
            f". Swarm tried no other node. If {node} is at fault, repair it or, unless it holds "
            f"the queue, run `docker node update --availability drain {node}`; then upgrade again"
        )

    def _is_blocked(self, task: TaskState) -> bool:
        """Return whether so many tasks failed in its task slot that waiting for it is useless."""
        if task.stopping or task.stopped or task.state == "running":
            return False
        return (
            sum(failed.slot == task.slot for failed in self._failed.values()) >= MAX_TASK_FAILURES
        )

    def _not_ready(
        self, new_tasks: Sequence[TaskState], status: PoolStatus
    ) -> Iterator[tuple[str, str]]:
        """Yield the new tasks that have been running without being ready for too long, and why."""
        now = time.monotonic()
        for task in new_tasks:
            running = task.state == "running" and not task.stopping
            reason = self._not_ready_reason(task, status) if running else ""
            if not reason:
                self._not_ready_since.pop(task.id, None)
            elif now - self._not_ready_since.setdefault(task.id, now) > self._readiness_timeout_s:
                yield task.id, f"task {task.id[:_SHORT_ID]} on {task.node} is running, but {reason}"

    def _not_ready_reason(self, task: TaskState, status: PoolStatus) -> str:
        """Return why a running task is not ready, or nothing if it is or that is unknown."""
        if CLASS_LABEL not in self._spec.labels:
            return "; ".join(status.problems)
        executor = next((line for line in status.executors if line.task == task.id), None)
        if status.problems or executor is None or executor.ready or executor.retiring:
            return ""
        return executor.problem or "the collector knows no slot of it"


@dataclass(frozen=True, slots=True)
class _RolloutProgress:
    """How far a service's update is.

    Attributes:
        working: Tasks with the new spec that work.
        remaining: Tasks that have another spec and are still to be replaced.
        desired: Tasks that the service asks for.
        updating: Whether Swarm is still updating the service.
        blocked: Tasks with the new spec that keep failing on the only node they may run on.
    """

    working: int
    remaining: int
    desired: int
    updating: bool
    blocked: int

    @property
    def canary_ready(self) -> bool:
        return self.working >= min(1, self.desired)

    @property
    def replaced(self) -> bool:
        return not self.remaining and self.working + self.blocked >= self.desired

    @property
    def done(self) -> bool:
        return self.replaced and not self.updating


def outdated_services(
    existing: Mapping[str, ServiceState], specs: Iterable[ServiceSpec]
) -> list[ServiceSpec]:
    """Return the specs whose service exists and differs, or whose update has not finished."""
    return [
        spec
        for spec in specs
        if (state := existing.get(spec.name))
        and (state.labels.get(SPEC_DIGEST_LABEL) != spec.digest() or state.updating)
    ]


class Rollout:
    """Updates one service to its spec.

    Args:
        spec: The service's new spec.
        swarm: Where it runs.
        pool_status: Returns the pool's current status.
        waiter: Polls and reports.
        node_count: How many nodes the Swarm has.
        readiness_timeout_s: How long a new task may run without a working slot, in seconds.
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
        """Replace the tasks one after the other. The first new one must work before the second.

        A node among several on which a new task fails is reported, and the update continues on
        the others. Raises PreconditionError when the new tasks do not work, after the service was
        rolled back; and when `timeout_s` seconds have passed, in which case the update continues.
        Raises UnreachableError when an outage of the Swarm lasts too long; Swarm then finishes
        the update.
        """
        name = self._spec.name
        before, former_spec = self._waiter.retry_while_unreachable(
            lambda: (self._service(), self._swarm.service_spec(name))
        )
        former_digest = before.labels.get(SPEC_DIGEST_LABEL, "")
        self._waiter.report(f"upgrading {name}, one task after the other")
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        self._update("its configuration changed", _CANARY_UPDATE_DELAY_S)
        try:
            self._waiter.poll_until(
                self._observe, lambda progress: progress.canary_ready, _remaining_s(deadline)
            )
            self._canary_passed = True
            self._update("the first new task works")
            self._waiter.poll_until(
                self._observe, lambda progress: progress.done, _remaining_s(deadline)
            )
        except RolloutFailedError as error:
            self._roll_back(former_spec, former_digest, error)
        for reason in self._canary.failed_nodes.values():
            log.warning("Tasks fail on a node", service=name, reason=reason)
            self._waiter.report(f"{name} is upgraded, but {reason}")

    def _roll_back(
        self, former_spec: Mapping[str, Any], former_digest: str, error: RolloutFailedError
    ) -> NoReturn:
        """Restore the former spec. Raises PreconditionError that says how it ended."""
        name = self._spec.name
        if former_digest == self._spec.digest():
            # The update that failed began before this command: its former spec is lost.
            log.error("Service update failed without a rollback", service=name, reason=str(error))
            raise PreconditionError(
                f"the upgrade of {name} failed: {error}. Its former configuration is unknown: run "
                "`swarm-runner pool upgrade` with the former image or configuration"
            ) from error
        log.error("Rolling back service", service=name, reason=str(error))
        self._waiter.report(f"{error}; rolling back {name}")
        self._waiter.retry_while_unreachable(lambda: self._swarm.restore_service(name, former_spec))
        result = self._await_rollback(former_digest)
        log.info("Rollback finished", service=name, result=result)
        raise PreconditionError(
            f"the upgrade of {name} was rolled back: {error}. {result}"
        ) from error

    def _await_rollback(self, former_digest: str) -> str:
        """Wait until the former tasks work again, and return the result as a sentence."""
        name = self._spec.name
        failures = TaskFailures(self._waiter.retry_while_unreachable(self._tasks), self._node_count)

        def poll() -> _RolloutProgress:
            tasks = self._tasks()
            failures.record(tasks)
            progress = self._measure_progress(
                former_digest, self._pool_status(), failures.blocked_slots(tasks).get(name, 0)
            )
            self._waiter.report(f"{name}: {progress.working} of {progress.desired} rolled back")
            return progress

        try:
            progress = self._waiter.poll_until(
                poll, lambda progress: progress.replaced, _ROLLBACK_TIMEOUT_S
            )
        except PreconditionError as error:
            return str(error)
        if progress.working < progress.desired:  # A failing node fails the former tasks too.
            return f"{progress.working} of {progress.desired} executors work again"
        return "The pool works again"

    def _update(self, reason: str, update_delay_s: int = 0) -> None:
        self._waiter.retry_while_unreachable(
            lambda: self._swarm.update_service(self._spec, update_delay_s)
        )
        log.info("Service updated", service=self._spec.name, reason=reason)

    def _observe(self) -> _RolloutProgress:
        """Return the progress. Raises RolloutFailedError when the new tasks do not work."""
        digest = self._spec.digest()
        state = self._service()
        new_tasks = [
            task
            for task in self._tasks()
            if task.spec_digest == digest and task.id not in self._old_task_ids
        ]
        status = self._pool_status()
        self._canary.evaluate(new_tasks, state, status)
        if state.update == "paused" and (self._canary_passed or not self._canary.failed_nodes):
            # Swarm pauses at a failing node, and when the task that it watches is ended by a
            # scale-down. Updating again continues with the next task.
            delay_s = 0 if self._canary_passed else _CANARY_UPDATE_DELAY_S
            self._update("Swarm paused the update", delay_s)
        progress = self._measure_progress(digest, status, self._canary.blocked)
        if not progress.done:
            self._waiter.report("; ".join(self._progress_messages(progress, new_tasks, status)))
        return progress

    def _measure_progress(self, digest: str, status: PoolStatus, blocked: int) -> _RolloutProgress:
        state = self._service()
        tasks = [task for task in self._tasks() if not (task.stopping or task.stopped)]
        working = {executor.task for executor in status.executors if executor.ready}
        if status.manager and status.manager.state == "running" and not status.problems:
            working |= {status.manager.id}
            working |= {task.id for task in status.managers if task.state == "running"}
        return _RolloutProgress(
            working=sum(task.spec_digest == digest and task.id in working for task in tasks),
            remaining=sum(task.spec_digest != digest for task in tasks),
            desired=state.replicas,
            updating=state.update == "updating",
            blocked=blocked,
        )

    def _progress_messages(
        self, progress: _RolloutProgress, new_tasks: Sequence[TaskState], status: PoolStatus
    ) -> list[str]:
        name = self._spec.name
        messages = [f"{name}: {progress.working} of {progress.desired} upgraded"]
        messages += [
            f"{executor.task[:_SHORT_ID]} on {executor.node} drains {executor.describe_drain()}"
            for executor in status.executors
            if executor.service == name and executor.retiring and executor.jobs
        ]
        messages += [
            f"{task.id[:_SHORT_ID]} is {task.state}: {task.error}"
            for task in new_tasks
            if task.error and not task.stopping
        ]
        return messages

    def _service(self) -> ServiceState:
        state = self._swarm.services(self._pool).get(self._spec.name)
        if state is None:
            raise PermanentError(
                f"service {self._spec.name} is missing; run `swarm-runner pool up` to create it"
            )
        return state

    def _tasks(self) -> list[TaskState]:
        return [t for t in self._swarm.tasks(self._pool) if t.service == self._spec.name]

    @property
    def _pool(self) -> str:
        return self._spec.labels[POOL_LABEL]


def _remaining_s(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())
