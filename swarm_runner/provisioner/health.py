"""Finds the executors that do not work, and has them replaced, a few at a time."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest

from swarm_runner.condor.view import PoolView
from swarm_runner.errors import OutOfReachError, RefusedError
from swarm_runner.model.health import Mending
from swarm_runner.model.pool import Pool
from swarm_runner.model.status import ExecutorStatus, PoolStatus, TaskState
from swarm_runner.policy.health import black_holes
from swarm_runner.provisioner.observer import SILENT_FOR_S, made_s
from swarm_runner.swarm.port import Swarm

# How long an executor may be in trouble before it is replaced; one that starts is for a moment.
GRACE_S = 60.0
# In one class, one after another; on one node, a few an hour: it may be the node that is broken.
PAUSE_S = 60.0
NODE_LIMIT = 3
NODE_WINDOW_S = 3600.0
# Runs as far back, and as many, tell of black holes.
RECENT_S = 1800.0
RUNS = 500
# The history is read this often at most, however often a round comes.
READ_EVERY_S = 15.0


@dataclass(frozen=True, slots=True)
class _Told:
    """An executor that was told to go, and when, as far as that can be seen."""

    service: str
    node: str
    when_s: float


class Health:
    """One step at a time: `round` looks at a status, and tells a sick executor or two to go.

    An executor that is told to go takes no new job, finishes those that it has, within its
    class's retirement limit, and ends; Swarm starts another in its place. Who was told to go, by
    whomever, is seen in how executors leave: another one may go on at any time, and several at
    once keep to the rate together.
    """

    def __init__(
        self,
        pool: Pool,
        swarm: Swarm,
        view: PoolView,
        *,
        act: bool = True,
        grace_s: float = GRACE_S,
        pause_s: float = PAUSE_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._pool = pool
        self._swarm = swarm
        self._view = view
        self._act = act
        self._grace_s = grace_s
        self._pause_s = pause_s
        self._clock = clock
        self._read_at = float("-inf")
        self._holes: dict[str, str] = {}
        self._since: dict[tuple[str, bool], float] = {}  # by task, and whether it is silent
        self._told: dict[str, _Told] = {}  # by task
        self._failed: dict[str, Mending] = {}  # by task
        self._going = 0

    def round(self, status: PoolStatus) -> list[Mending]:
        """Every executor that does not work, and what was done about each.

        Nothing is done while the pool itself is in trouble, or does not answer: an executor that
        nobody hears of is not a sick one.
        """
        if status.trouble:
            return []
        self._forget({line.task for line in status.executors})
        heard = {
            line.capacity_class
            for line in status.executors
            if line.memory_mb is not None and not line.lost
        }
        try:
            holes = self._black_holes()
            sick = [
                (line, reason)
                for line in status.executors
                if (reason := self._sick(line, heard) or holes.get(line.task, ""))
                and not (line.retiring or line.lost or line.task in self._told)
            ]
            if sick and self._act:
                self._notice(status)
        except OutOfReachError:
            return []
        return [self._mend(line, reason) for line, reason in sick]

    def _forget(self, here: set[str]) -> None:
        long_ago = self._clock() - NODE_WINDOW_S
        self._since = {key: since for key, since in self._since.items() if key[0] in here}
        self._failed = {task: failed for task, failed in self._failed.items() if task in here}
        self._told = {
            task: told
            for task, told in self._told.items()
            if task in here or told.when_s > long_ago
        }
        self._going = len(here & set(self._told))

    def _notice(self, status: PoolStatus) -> None:
        """Who is going, or went, because somebody told him to: another daemon, or a person.

        Raises OutOfReachError when the Swarm does not answer.
        """
        now = self._clock()
        for line in status.executors:
            if line.retiring and not (line.going or line.lost):
                self._told.setdefault(line.task, _Told(line.service, line.node, now))
        for task, when_s in _replaced(self._swarm.tasks(self._pool.name), now):
            self._told.setdefault(task.id, _Told(task.service, task.node, when_s))

    def _black_holes(self) -> dict[str, str]:
        now = self._clock()
        if now - self._read_at >= READ_EVERY_S:
            self._holes = black_holes(self._view.runs(now - RECENT_S, RUNS))
            self._read_at = now
        return self._holes

    @property
    def going(self) -> int:
        """How many that were told to go were still there in the latest round."""
        return self._going

    def _sick(self, line: ExecutorStatus, heard: set[str]) -> str:
        """What its slot says is wrong with it, or that it says nothing, and for long enough.

        Where no executor of a class is heard of, silence is no sign: it may be the collector.
        """
        silent = line.task_state == "running" and line.memory_mb is None
        self._since.pop((line.task, not silent), None)
        # One whose node has no KVM is as it was told to be, and so would its successor be.
        well = not line.trouble or line.memory_mb is None or line.virtualization == "none"
        if line.capacity_class not in heard if silent else well:
            self._since.pop((line.task, silent), None)
            return ""
        now = self._clock()
        since = self._since.setdefault((line.task, silent), now)
        if now - since < (SILENT_FOR_S if silent else self._grace_s):
            return ""
        silence = f"the collector has not heard of it for {SILENT_FOR_S:.0f} s"
        return silence if silent else line.trouble

    def _mend(self, line: ExecutorStatus, reason: str) -> Mending:
        now = self._clock()
        mending = Mending(
            time_s=now,
            pool=self._pool.name,
            capacity_class=line.capacity_class,
            task=line.task,
            node=line.node,
            reason=reason,
            jobs=line.jobs,
            done="shown",
        )
        if not self._act:
            return mending
        failed = self._failed.get(line.task)
        if failed and now - failed.time_s < self._pause_s:
            return failed
        if wait := self._wait(line, now):
            return mending.model_copy(update={"done": "waits", "trouble": wait})
        try:
            self._tell_to_go(line)
        except (OutOfReachError, RefusedError) as error:
            failed = mending.model_copy(update={"done": "failed", "trouble": str(error)})
            self._failed[line.task] = failed
            return failed
        self._told[line.task] = _Told(line.service, line.node, now)
        return mending.model_copy(update={"done": "told to go"})

    def _wait(self, line: ExecutorStatus, now: float) -> str:
        """Why its turn has not come."""
        told = list(self._told.values())
        here = sum(one.node == line.node and now - one.when_s < NODE_WINDOW_S for one in told)
        if here >= NODE_LIMIT:
            return (
                f"{here} executors of this node were replaced within the hour, and it goes on: "
                "look at the node and its engine"
            )
        if any(one.service == line.service and now - one.when_s < self._pause_s for one in told):
            return "another of its class is being replaced"
        return ""

    def _tell_to_go(self, line: ExecutorStatus) -> None:
        """Say to its condor_master what SIGTERM would.

        The manager says it: it alone may, and it reaches executors on every node.
        """
        # condor_off -name would look the name up as a host's.
        command = ["condor_off", "-graceful", "-daemon", "master"]
        constraint = f'Name == "{line.container}"'
        manager = self._pool.service()
        said = self._swarm.run_in(manager, [*command, "-constraint", constraint])
        if said is None:
            raise RefusedError(
                f"{manager} runs on another node than this engine's, and it alone can tell an "
                "executor to go; do this there"
            )


def _replaced(tasks: Iterable[TaskState], now: float) -> Iterator[tuple[TaskState, float]]:
    """The tasks that ended well without Swarm's wish, and when each one's successor was made.

    Swarm says "complete" of them, and "shutdown" of those that it ended itself; it remembers the
    latest four of each place.
    """
    places: dict[tuple[str, int], list[TaskState]] = defaultdict(list)
    for task in tasks:
        places[task.service, task.slot].append(task)
    for mine in places.values():
        mine.sort(key=lambda task: made_s(task, now))
        for task, successor in zip_longest(mine, mine[1:]):
            if task.state == "complete":
                # No later than now, though Swarm's clock may be ahead of ours.
                yield task, min(made_s(successor, now), now) if successor else now
