"""Finds the executors that do not work, and has them replaced, a few at a time."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable

from swarm_runner.condor.view import PoolView
from swarm_runner.errors import OutOfReachError, RefusedError
from swarm_runner.model.health import Mending
from swarm_runner.model.pool import Pool
from swarm_runner.model.status import ExecutorStatus, PoolStatus
from swarm_runner.policy.health import black_holes
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


class Health:
    """One step at a time: `round` looks at a status, and tells a sick executor or two to go.

    An executor that is told to go takes no new job, finishes those that it has, within its
    class's retirement limit, and ends; Swarm starts another in its place. What is remembered is
    only when whom was told to go: another one may go on at any time, at the same rate.
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
        self._since: dict[str, float] = {}
        self._told: dict[str, float] = {}  # by task
        self._class_told: dict[str, float] = {}
        self._node_told: dict[str, list[float]] = defaultdict(list)

    def round(self, status: PoolStatus) -> list[Mending]:
        """Every executor that does not work, and what was done about each.

        Nothing is done while the pool itself is in trouble, or does not answer: an executor that
        nobody hears of is not a sick one.
        """
        if status.trouble:
            return []
        here = {line.task for line in status.executors}
        self._since = {task: since for task, since in self._since.items() if task in here}
        self._told = {task: when for task, when in self._told.items() if task in here}
        try:
            holes = self._black_holes()
        except OutOfReachError:
            return []
        return [
            self._mend(line, reason)
            for line in status.executors
            if (reason := self._sick(line) or holes.get(line.task, ""))
            and not (line.retiring or line.lost or line.task in self._told)
        ]

    def _black_holes(self) -> dict[str, str]:
        now = self._clock()
        if now - self._read_at >= READ_EVERY_S:
            self._holes = black_holes(self._view.runs(now - RECENT_S, RUNS))
            self._read_at = now
        return self._holes

    @property
    def going(self) -> int:
        """How many that were told to go were still there in the latest round."""
        return len(self._told)

    def _sick(self, line: ExecutorStatus) -> str:
        """What its slot says is wrong with it, and for long enough."""
        # One whose node has no KVM is as it was told to be, and so would its successor be.
        if not line.trouble or line.memory_mb is None or line.virtualization == "none":
            self._since.pop(line.task, None)
            return ""
        since = self._since.setdefault(line.task, self._clock())
        return line.trouble if self._clock() - since >= self._grace_s else ""

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
        if wait := self._wait(line, now):
            return mending.model_copy(update={"done": "waits", "trouble": wait})
        try:
            self._tell_to_go(line)
        except (OutOfReachError, RefusedError) as error:
            return mending.model_copy(update={"done": "failed", "trouble": str(error)})
        self._told[line.task] = self._class_told[line.capacity_class] = now
        self._node_told[line.node].append(now)
        return mending.model_copy(update={"done": "told to go"})

    def _wait(self, line: ExecutorStatus, now: float) -> str:
        """Why its turn has not come."""
        recent = [when for when in self._node_told[line.node] if now - when < NODE_WINDOW_S]
        self._node_told[line.node] = recent
        if len(recent) >= NODE_LIMIT:
            return (
                f"{len(recent)} executors of this node were replaced within the hour, and it goes "
                "on: look at the node and its engine"
            )
        if now - self._class_told.get(line.capacity_class, now - self._pause_s) < self._pause_s:
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
