"""Waiting until executors are as many as they are to be."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from swarm_runner.errors import PreconditionError
from swarm_runner.model.pool import Pool
from swarm_runner.model.pool_status import PoolStatus, TaskState
from swarm_runner.provisioner.task_failures import TaskFailures
from swarm_runner.provisioner.waiter import PermanentError, Waiter
from swarm_runner.swarm.ports import Swarm


class ConvergenceWaiter:
    """Waits for the classes that a command is about, whatever the others do.

    `look` says how the pool is.
    """

    def __init__(
        self, pool: Pool, swarm: Swarm, observe: Callable[[], PoolStatus], waiter: Waiter
    ) -> None:
        self._pool = pool
        self._swarm = swarm
        self._observe = observe
        self._waiter = waiter

    def start(self, node_count: int) -> TaskFailures:
        """What fails from now on."""
        return TaskFailures(self._waiter.retry_while_unreachable(self._tasks), node_count)

    def wait(
        self,
        classes: Collection[str],
        timeout_s: float | None,
        failures: TaskFailures,
        *,
        require_complete: bool = False,
    ) -> None:
        """Wait until each class has the executors that it is to have, and no other.

        A node among several on which they do not start is named, and the wait ends without it;
        `whole` makes that a RefusedError. Raises RefusedError, too, when they start nowhere, and
        when `limit_s` ends the wait.
        """

        def look() -> list[str]:
            tasks = self._tasks()
            failures.check(tasks)
            status = self._observe()
            self._check_services_exist(classes, status)
            if status.unsupported_version:
                raise PermanentError("; ".join(status.problems))
            left = status.pending_changes(classes, self._by_class(failures.blocked_slots(tasks)))
            if left:
                self._waiter.report("waiting for " + "; ".join([*status.problems, *left]))
            return left

        self._waiter.poll_until(look, lambda left: not left, timeout_s)
        tasks = self._waiter.retry_while_unreachable(self._tasks)
        told = failures.messages(tasks)
        for words in told:
            self._waiter.report(words)
        if require_complete and failures.blocked_slots(tasks):
            lacking = self._waiter.retry_while_unreachable(self._observe).pending_changes(classes)
            if lacking:
                raise PreconditionError("; ".join([*lacking, *told]))

    def _check_services_exist(self, classes: Collection[str], status: PoolStatus) -> None:
        missing = [self._pool.service(name) for name in classes if name not in status.replicas]
        if missing:
            raise PermanentError(
                f"service {', '.join(missing)} is missing; `swarm-runner pool up` makes it"
            )

    def _by_class(self, blocked_slots: Mapping[str, int]) -> dict[str, int]:
        services = {self._pool.service(name): name for name in self._pool.classes}
        return {services[name]: count for name, count in blocked_slots.items() if name in services}

    def _tasks(self) -> list[TaskState]:
        return self._swarm.tasks(self._pool.name)
