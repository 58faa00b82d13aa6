"""Finds the executors that do not work, and has them replaced, a few at a time."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest

from swarm_runner.condor.ports import PoolQueryPort
from swarm_runner.errors import PreconditionError, UnreachableError
from swarm_runner.model.pool import Pool
from swarm_runner.model.pool_status import (
    ExecutorReplacement,
    ExecutorStatus,
    PoolStatus,
    TaskState,
)
from swarm_runner.provisioner.black_holes import MAX_RUNS, RUN_HISTORY_S, black_holes
from swarm_runner.provisioner.observation import UNRESPONSIVE_AFTER_S, creation_time_s
from swarm_runner.swarm.ports import Swarm

# How long an executor may be in trouble before it is replaced; one that starts is for a moment.
UNHEALTHY_GRACE_S = 60.0
# In one class, one after another; on one node, a few an hour: it may be the node that is broken.
REPLACEMENT_INTERVAL_S = 60.0
MAX_REPLACEMENTS_PER_NODE = 3
NODE_WINDOW_S = 3600.0
# The history is read this often at most, however often a round comes.
HISTORY_POLL_INTERVAL_S = 15.0


@dataclass(frozen=True, slots=True)
class _DrainRecord:
    """An executor that was told to go, and when, as far as that can be seen."""

    service: str
    node: str
    time_s: float


class ExecutorHealthMonitor:
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
        pool_query: PoolQueryPort,
        *,
        dry_run: bool = False,
        grace_s: float = UNHEALTHY_GRACE_S,
        replacement_interval_s: float = REPLACEMENT_INTERVAL_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._pool = pool
        self._swarm = swarm
        self._pool_query = pool_query
        self._dry_run = dry_run
        self._grace_s = grace_s
        self._replacement_interval_s = replacement_interval_s
        self._clock = clock
        self._history_read_s = float("-inf")
        self._known_black_holes: dict[str, str] = {}
        self._unhealthy_since: dict[
            tuple[str, bool], float
        ] = {}  # by task, and whether it is silent
        self._drains: dict[str, _DrainRecord] = {}  # by task
        self._failed: dict[str, ExecutorReplacement] = {}  # by task
        self._draining_count = 0

    def run_once(self, status: PoolStatus) -> list[ExecutorReplacement]:
        """Every executor that does not work, and what was done about each.

        Nothing is done while the pool itself is in trouble, or does not answer: an executor that
        nobody hears of is not a sick one.
        """
        if status.problems:
            return []
        self._prune({line.task for line in status.executors})
        heard = {
            line.capacity_class
            for line in status.executors
            if line.memory_mb is not None and not line.lost
        }
        try:
            holes = self._read_black_holes()
            sick = [
                (line, reason)
                for line in status.executors
                if (reason := self._unhealthy_reason(line, heard) or holes.get(line.task, ""))
                and not (line.retiring or line.lost or line.task in self._drains)
            ]
            if sick and not self._dry_run:
                self._record_external_drains(status)
        except UnreachableError:
            return []
        return [self._replace(line, reason) for line, reason in sick]

    def _prune(self, task_ids: set[str]) -> None:
        long_ago = self._clock() - NODE_WINDOW_S
        self._unhealthy_since = {
            key: since for key, since in self._unhealthy_since.items() if key[0] in task_ids
        }
        self._failed = {task: failed for task, failed in self._failed.items() if task in task_ids}
        self._drains = {
            task: told
            for task, told in self._drains.items()
            if task in task_ids or told.time_s > long_ago
        }
        self._draining_count = len(task_ids & set(self._drains))

    def _record_external_drains(self, status: PoolStatus) -> None:
        """Who is going, or went, because somebody told him to: another daemon, or a person.

        Raises OutOfReachError when the Swarm does not answer.
        """
        now = self._clock()
        for line in status.executors:
            if line.retiring and not (line.stopping or line.lost):
                self._drains.setdefault(line.task, _DrainRecord(line.service, line.node, now))
        for task, when_s in _replaced_tasks(self._swarm.tasks(self._pool.name), now):
            self._drains.setdefault(task.id, _DrainRecord(task.service, task.node, when_s))

    def _read_black_holes(self) -> dict[str, str]:
        now = self._clock()
        if now - self._history_read_s >= HISTORY_POLL_INTERVAL_S:
            self._known_black_holes = black_holes(
                self._pool_query.recent_runs(now - RUN_HISTORY_S, MAX_RUNS)
            )
            self._history_read_s = now
        return self._known_black_holes

    @property
    def draining_count(self) -> int:
        """How many that were told to go were still there in the latest round."""
        return self._draining_count

    def _unhealthy_reason(self, executor: ExecutorStatus, advertised_classes: set[str]) -> str:
        """What its slot says is wrong with it, or that it says nothing, and for long enough.

        Where no executor of a class is heard of, silence is no sign: it may be the collector.
        """
        silent = executor.task_state == "running" and executor.memory_mb is None
        self._unhealthy_since.pop((executor.task, not silent), None)
        # One whose node has no KVM is as it was told to be, and so would its successor be.
        well = (
            not executor.problem or executor.memory_mb is None or executor.virtualization == "none"
        )
        if executor.capacity_class not in advertised_classes if silent else well:
            self._unhealthy_since.pop((executor.task, silent), None)
            return ""
        now = self._clock()
        since = self._unhealthy_since.setdefault((executor.task, silent), now)
        if now - since < (UNRESPONSIVE_AFTER_S if silent else self._grace_s):
            return ""
        silence = f"the collector has not heard of it for {UNRESPONSIVE_AFTER_S:.0f} s"
        return silence if silent else executor.problem

    def _replace(self, executor: ExecutorStatus, reason: str) -> ExecutorReplacement:
        now = self._clock()
        mending = ExecutorReplacement(
            time_s=now,
            pool=self._pool.name,
            capacity_class=executor.capacity_class,
            task=executor.task,
            node=executor.node,
            reason=reason,
            jobs=executor.jobs,
            action="dry_run",
        )
        if self._dry_run:
            return mending
        failed = self._failed.get(executor.task)
        if failed and now - failed.time_s < self._replacement_interval_s:
            return failed
        if wait := self._deferral_reason(executor, now):
            return mending.model_copy(update={"action": "deferred", "problem": wait})
        try:
            self._drain(executor)
        except (UnreachableError, PreconditionError) as error:
            failed = mending.model_copy(update={"action": "failed", "problem": str(error)})
            self._failed[executor.task] = failed
            return failed
        self._drains[executor.task] = _DrainRecord(executor.service, executor.node, now)
        return mending.model_copy(update={"action": "draining"})

    def _deferral_reason(self, executor: ExecutorStatus, now: float) -> str:
        """Why its turn has not come."""
        told = list(self._drains.values())
        here = sum(one.node == executor.node and now - one.time_s < NODE_WINDOW_S for one in told)
        if here >= MAX_REPLACEMENTS_PER_NODE:
            return (
                f"{here} executors of this node were replaced within the hour, and it goes on: "
                "look at the node and its engine"
            )
        if any(
            one.service == executor.service and now - one.time_s < self._replacement_interval_s
            for one in told
        ):
            return "another of its class is being replaced"
        return ""

    def _drain(self, executor: ExecutorStatus) -> None:
        """Say to its condor_master what SIGTERM would.

        The manager says it: it alone may, and it reaches executors on every node.
        """
        # condor_off -name would look the name up as a host's.
        command = ["condor_off", "-graceful", "-daemon", "master"]
        constraint = f'Name == "{executor.container}"'
        manager = self._pool.service()
        said = self._swarm.exec_in_service(manager, [*command, "-constraint", constraint])
        if said is None:
            raise PreconditionError(
                f"{manager} runs on another node than this engine's, and it alone can tell an "
                "executor to go; do this there"
            )


def _replaced_tasks(tasks: Iterable[TaskState], now: float) -> Iterator[tuple[TaskState, float]]:
    """The tasks that ended well without Swarm's wish, and when each one's successor was made.

    Swarm says "complete" of them, and "shutdown" of those that it ended itself; it remembers the
    latest four of each place.
    """
    places: dict[tuple[str, int], list[TaskState]] = defaultdict(list)
    for task in tasks:
        places[task.service, task.slot].append(task)
    for mine in places.values():
        mine.sort(key=lambda task: creation_time_s(task, now))
        for task, successor in zip_longest(mine, mine[1:]):
            if task.state == "complete":
                # No later than now, though Swarm's clock may be ahead of ours.
                yield task, min(creation_time_s(successor, now), now) if successor else now
