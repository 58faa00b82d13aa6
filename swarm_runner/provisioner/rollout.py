"""Replacing what runs, one task after another, and taking it back when the new does not work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from swarm_runner.errors import RefusedError
from swarm_runner.model.stack import CLASS_LABEL, POOL_LABEL, WISH_LABEL, ServiceWish
from swarm_runner.model.status import PoolStatus, ServiceState, TaskState
from swarm_runner.provisioner.waiting import HopelessError, Waiting
from swarm_runner.swarm.port import Swarm

PATIENCE_S = 120.0
# Until the first new task has proved itself Swarm is not to touch a second one.
_UNPROVEN_PACE_S = 3600
_SHORT_ID = 12


class _BrokenError(HopelessError):
    """What is new does not work."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """How far a service is: tasks of the wish that work, tasks of another one, tasks wanted."""

    working: int
    others: int
    wanted: int
    updating: bool

    @property
    def begun(self) -> bool:
        return self.working >= min(1, self.wanted)

    @property
    def done(self) -> bool:
        return not self.others and self.working >= self.wanted and not self.updating


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

    `status` joins Swarm and HTCondor; a new task that runs and advertises no working slot for
    `patience_s` seconds is broken.
    """

    def __init__(
        self,
        wish: ServiceWish,
        swarm: Swarm,
        status: Callable[[], PoolStatus],
        waiting: Waiting,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._wish = wish
        self._swarm = swarm
        self._status = status
        self._waiting = waiting
        self._patience_s = patience_s
        self._idle_since: dict[str, float] = {}
        self._known = {task.id for task in self._tasks()}

    def roll(self, limit_s: float | None) -> None:
        """Replace the tasks, one after another; the first has to prove itself.

        Raises RefusedError when the new does not work, with the reason and after the service was
        taken back to what it was; and when `limit_s` ends the wait, not the update.
        """
        name = self._wish.name
        former_digest = self._service().labels.get(WISH_LABEL, "")
        former = self._swarm.service_spec(name)
        self._waiting.say(f"upgrading {name}, one task after another")
        end = None if limit_s is None else time.monotonic() + limit_s
        self._swarm.update_service(self._wish, pace_s=_UNPROVEN_PACE_S)
        try:
            self._waiting.until(self._look, lambda seen: seen.begun, _left(end))
            self._swarm.update_service(self._wish)
            self._waiting.until(self._look, lambda seen: seen.done, _left(end))
        except _BrokenError as error:
            if former_digest == self._wish.digest():
                raise RefusedError(
                    f"the upgrade of {name} stopped: {error}. What it was before is not known: "
                    "`swarm-runner pool upgrade` with the former image or configuration"
                ) from error
            self._waiting.say(f"{error}; rolling {name} back")
            self._swarm.restore_service(name, former)
            self._waiting.until(
                lambda: self._seen(former_digest, self._status()),
                lambda seen: not seen.others and seen.working >= seen.wanted,
                None,
            )
            raise RefusedError(
                f"the upgrade of {name} was rolled back: {error}. The pool works as before"
            ) from error

    def _look(self) -> _Seen:
        """How far it is. Raises _BrokenError when what is new does not work."""
        digest = self._wish.digest()
        state = self._service()
        fresh = [t for t in self._tasks() if t.wish == digest and t.id not in self._known]
        self._check_tasks(state, fresh)
        status = self._status()
        self._check_slots(fresh, status)
        seen = self._seen(digest, status)
        if not seen.done:
            self._waiting.say("; ".join(self._told(seen, fresh, status)))
        return seen

    def _seen(self, digest: str, status: PoolStatus) -> _Seen:
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

    def _check_tasks(self, state: ServiceState, fresh: Sequence[TaskState]) -> None:
        failed = next((task for task in fresh if task.failed), None)
        if failed:
            raise _BrokenError(
                f"task {failed.id[:_SHORT_ID]} on {failed.node or 'no node'} {failed.state}: "
                f"{failed.error} (`docker service logs {self._wish.name}` may tell more)"
            )
        # Swarm says "shutdown" of those that it ended.
        ended = next((task for task in fresh if task.state == "complete"), None)
        if ended:
            raise _BrokenError(
                f"task {ended.id[:_SHORT_ID]} on {ended.node} ended by itself, with exit code 0"
            )
        if state.update == "paused":
            raise _BrokenError(f"Swarm stopped it: {state.update_message}")

    def _check_slots(self, fresh: Sequence[TaskState], status: PoolStatus) -> None:
        now = time.monotonic()
        for task in fresh:
            wrong = "" if task.state != "running" or task.going else self._wrong(task, status)
            if not wrong:
                self._idle_since.pop(task.id, None)
            elif now - self._idle_since.setdefault(task.id, now) > self._patience_s:
                raise _BrokenError(f"task {task.id[:_SHORT_ID]} on {task.node} runs, but {wrong}")

    def _wrong(self, task: TaskState, status: PoolStatus) -> str:
        """Why a new task that runs is of no use yet, as far as anybody knows."""
        if CLASS_LABEL not in self._wish.labels:
            return "; ".join(status.trouble)
        line = next((line for line in status.executors if line.task == task.id), None)
        if status.trouble or line is None or line.ready or line.retiring:
            return ""
        return line.trouble or "no slot of it is advertised"

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
