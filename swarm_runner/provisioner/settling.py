"""Waiting until executors are as many as they are to be."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from swarm_runner.errors import RefusedError
from swarm_runner.model.pool import Pool
from swarm_runner.model.status import PoolStatus, TaskState
from swarm_runner.provisioner.failures import Failures
from swarm_runner.provisioner.waiting import HopelessError, Waiting
from swarm_runner.swarm.port import Swarm


class Settling:
    """Waits for the classes that a command is about, whatever the others do.

    `look` says how the pool is.
    """

    def __init__(
        self, pool: Pool, swarm: Swarm, look: Callable[[], PoolStatus], waiting: Waiting
    ) -> None:
        self._pool = pool
        self._swarm = swarm
        self._look = look
        self._waiting = waiting

    def begin(self, nodes: int) -> Failures:
        """What fails from now on."""
        return Failures(self._waiting.patiently(self._tasks), nodes)

    def settle(
        self,
        classes: Collection[str],
        limit_s: float | None,
        failures: Failures,
        *,
        whole: bool = False,
    ) -> None:
        """Wait until each class has the executors that it is to have, and no other.

        A node among several on which they do not start is named, and the wait ends without it;
        `whole` makes that a RefusedError. Raises RefusedError, too, when they start nowhere, and
        when `limit_s` ends the wait.
        """

        def look() -> list[str]:
            tasks = self._tasks()
            failures.check(tasks)
            status = self._look()
            self._check_there(classes, status)
            if status.outdated:
                raise HopelessError("; ".join(status.trouble))
            left = status.unsettled(classes, self._by_class(failures.stuck(tasks)))
            if left:
                self._waiting.say("waiting for " + "; ".join([*status.trouble, *left]))
            return left

        self._waiting.until(look, lambda left: not left, limit_s)
        tasks = self._waiting.patiently(self._tasks)
        told = failures.told(tasks)
        for words in told:
            self._waiting.say(words)
        if whole and failures.stuck(tasks):
            lacking = self._waiting.patiently(self._look).unsettled(classes)
            if lacking:
                raise RefusedError("; ".join([*lacking, *told]))

    def _check_there(self, classes: Collection[str], status: PoolStatus) -> None:
        missing = [self._pool.service(name) for name in classes if name not in status.replicas]
        if missing:
            raise HopelessError(
                f"service {', '.join(missing)} is missing; `swarm-runner pool up` makes it"
            )

    def _by_class(self, stuck: Mapping[str, int]) -> dict[str, int]:
        services = {self._pool.service(name): name for name in self._pool.classes}
        return {services[name]: count for name, count in stuck.items() if name in services}

    def _tasks(self) -> list[TaskState]:
        return self._swarm.tasks(self._pool.name)
