"""Replacing what runs, one task after another, and taking it back when the new does not work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from swarm_runner.errors import RefusedError
from swarm_runner.model.stack import POOL_LABEL, WISH_LABEL, ServiceWish
from swarm_runner.model.status import PoolStatus, ServiceState, TaskState
from swarm_runner.provisioner.failures import Failures
from swarm_runner.provisioner.trial import PATIENCE_S, BrokenError, Trial
from swarm_runner.provisioner.waiting import HopelessError, Waiting
from swarm_runner.swarm.port import Swarm

# Until the first new task has proved itself Swarm is not to touch a second one.
_UNPROVEN_PACE_S = 3600
_BACK_LIMIT_S = 300.0
_SHORT_ID = 12


@dataclass(frozen=True, slots=True)
class _Seen:
    """How far a service is: tasks of the wish that work, tasks of another one, tasks wanted.

    `stuck` is how many of the wish do not work, and will not where they are.
    """

    working: int
    others: int
    wanted: int
    updating: bool
    stuck: int

    @property
    def begun(self) -> bool:
        return self.working >= min(1, self.wanted)

    @property
    def there(self) -> bool:
        return not self.others and self.working + self.stuck >= self.wanted

    @property
    def done(self) -> bool:
        return self.there and not self.updating


def due(present: Mapping[str, ServiceState], wishes: Iterable[ServiceWish]) -> list[ServiceWish]:
    """The wishes whose service is there and differs, or was left halfway."""
    return [
        wish
        for wish in wishes
        if (state := present.get(wish.name))
        and (state.labels.get(WISH_LABEL) != wish.digest() or state.updating)
    ]


class Rollout:
    """Brings one service to its wish.

    `status` joins Swarm and HTCondor, `nodes` is how many nodes the Swarm has; a new task that
    runs and advertises no working slot for `patience_s` seconds is broken.
    """

    def __init__(
        self,
        wish: ServiceWish,
        swarm: Swarm,
        status: Callable[[], PoolStatus],
        waiting: Waiting,
        nodes: int,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._wish = wish
        self._swarm = swarm
        self._status = status
        self._waiting = waiting
        self._nodes = nodes
        self._trial = Trial(wish, nodes, patience_s)
        self._proven = False
        self._known = {task.id for task in waiting.patiently(self._tasks)}

    def roll(self, limit_s: float | None) -> None:
        """Replace the tasks, one after another; the first has to prove itself.

        Where a node among several has a task of the new fail, the others are upgraded, and that
        node is named. Raises RefusedError when the new does not work, with the reason and after
        the service was taken back to what it was; and when `limit_s` ends the wait, not the
        update. OutOfReachError, when the Swarm does not answer for long, leaves the update to it.
        """
        name = self._wish.name
        before, former = self._waiting.patiently(
            lambda: (self._service(), self._swarm.service_spec(name))
        )
        former_digest = before.labels.get(WISH_LABEL, "")
        self._waiting.say(f"upgrading {name}, one task after another")
        end = None if limit_s is None else time.monotonic() + limit_s
        self._update(_UNPROVEN_PACE_S)
        try:
            self._waiting.until(self._look, lambda seen: seen.begun, _left(end))
            self._proven = True
            self._update()
            self._waiting.until(self._look, lambda seen: seen.done, _left(end))
        except BrokenError as error:
            if former_digest == self._wish.digest():
                raise RefusedError(
                    f"the upgrade of {name} stopped: {error}. What it was before is not known: "
                    "`swarm-runner pool upgrade` with the former image or configuration"
                ) from error
            self._waiting.say(f"{error}; rolling {name} back")
            self._waiting.patiently(lambda: self._swarm.restore_service(name, former))
            raise RefusedError(
                f"the upgrade of {name} was rolled back: {error}. {self._back(former_digest)}"
            ) from error
        for words in self._trial.bad.values():
            self._waiting.say(f"{name} is upgraded, but {words}")

    def _back(self, former_digest: str) -> str:
        """Wait for what was before, and say how it is."""
        name = self._wish.name
        failures = Failures(self._waiting.patiently(self._tasks), self._nodes)

        def look() -> _Seen:
            tasks = self._tasks()
            failures.note(tasks)
            seen = self._seen(former_digest, self._status(), failures.stuck(tasks).get(name, 0))
            self._waiting.say(f"{name}: {seen.working} of {seen.wanted} as before")
            return seen

        try:
            seen = self._waiting.until(look, lambda seen: seen.there, _BACK_LIMIT_S)
        except RefusedError as error:
            return str(error)
        if seen.working < seen.wanted:  # a bad node takes back no more than it takes up
            return f"{seen.working} of {seen.wanted} executors work as before"
        return "The pool works as before"

    def _update(self, pace_s: int = 0) -> None:
        self._waiting.patiently(lambda: self._swarm.update_service(self._wish, pace_s))

    def _look(self) -> _Seen:
        """How far it is. Raises BrokenError when what is new does not work."""
        digest = self._wish.digest()
        state = self._service()
        fresh = [t for t in self._tasks() if t.wish == digest and t.id not in self._known]
        status = self._status()
        self._trial.judge(fresh, state, status)
        if self._proven and state.update == "paused":
            self._update()  # Swarm stopped at the bad node; it goes on with the next task
        seen = self._seen(digest, status, self._trial.stuck)
        if not seen.done:
            self._waiting.say("; ".join(self._told(seen, fresh, status)))
        return seen

    def _seen(self, digest: str, status: PoolStatus, stuck: int) -> _Seen:
        state = self._service()
        living = [task for task in self._tasks() if not (task.going or task.gone)]
        working = {line.task for line in status.executors if line.ready}
        if status.manager and status.manager.state == "running" and not status.trouble:
            working.add(status.manager.id)
        return _Seen(
            working=sum(task.wish == digest and task.id in working for task in living),
            others=sum(task.wish != digest for task in living),
            wanted=state.replicas,
            updating=state.update == "updating",
            stuck=stuck,
        )

    def _told(self, seen: _Seen, fresh: Sequence[TaskState], status: PoolStatus) -> list[str]:
        name = self._wish.name
        told = [f"{name}: {seen.working} of {seen.wanted} upgraded"]
        told += [
            f"{line.task[:_SHORT_ID]} on {line.node} stays {line.waits_for()}"
            for line in status.executors
            if line.service == name and line.retiring and line.jobs
        ]
        told += [
            f"{task.id[:_SHORT_ID]} is {task.state}: {task.error}"
            for task in fresh
            if task.error and not task.going
        ]
        return told

    def _service(self) -> ServiceState:
        state = self._swarm.services(self._pool).get(self._wish.name)
        if state is None:
            raise HopelessError(
                f"service {self._wish.name} is gone; `swarm-runner pool up` makes it"
            )
        return state

    def _tasks(self) -> list[TaskState]:
        return [t for t in self._swarm.tasks(self._pool) if t.service == self._wish.name]

    @property
    def _pool(self) -> str:
        return self._wish.labels[POOL_LABEL]


def _left(end: float | None) -> float | None:
    return None if end is None else max(0.0, end - time.monotonic())
