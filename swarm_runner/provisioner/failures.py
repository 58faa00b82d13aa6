"""Which tasks failed, and where: a bad node among several is not a bad pool."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from swarm_runner.model.status import TaskState
from swarm_runner.provisioner.waiting import HopelessError

# Swarm tries a node five times before it looks for another one.
ENOUGH = 6
ENOUGH_ALONE = 3


class Failures:
    """The tasks that failed since it was made, also those that Swarm has forgotten by now.

    `nodes` is how many nodes the Swarm has; `before` are tasks of old that do not count.
    """

    def __init__(self, before: Iterable[TaskState], nodes: int) -> None:
        self._before = {task.id for task in before if task.failed}
        self._nodes = nodes
        self._failed: dict[str, TaskState] = {}

    def note(self, tasks: Iterable[TaskState]) -> None:
        """Keep those that failed."""
        self._failed |= {t.id: t for t in tasks if t.failed and t.id not in self._before}

    def check(self, tasks: Sequence[TaskState]) -> None:
        """Note the tasks; raise HopelessError when those of a service fail wherever they start.

        On a single node that is three times in one place. Among several nodes it takes that no
        other one does better.
        """
        self.note(tasks)
        for service in {task.service for task in self._failed.values()}:
            failed = [task for task in self._failed.values() if task.service == service]
            bad = {task.node for task in failed}
            good = {t.node for t in tasks if t.service == service and t.state == "running"} - bad
            worst = max(Counter(task.slot for task in failed).values())
            enough = ENOUGH_ALONE if self._nodes < 2 or len(bad) > 1 else ENOUGH
            if worst >= enough and (self._nodes < 2 or len(bad) > len(good) or not good):
                last = max(failed, key=lambda task: task.created_at)
                raise HopelessError(
                    f"the tasks of {service} fail again and again: {last.error} "
                    f"(`docker service logs {service}` may tell more)"
                )

    def stuck(self, tasks: Iterable[TaskState]) -> Mapping[str, int]:
        """In how many places of each service tasks fail again and again, so that none runs."""
        failed = Counter((task.service, task.slot) for task in self._failed.values())
        waiting = {
            (task.service, task.slot)
            for task in tasks
            if not (task.going or task.gone or task.state == "running")
        }
        return Counter(place[0] for place in waiting if failed[place] >= ENOUGH)

    def told(self, tasks: Sequence[TaskState]) -> list[str]:
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
