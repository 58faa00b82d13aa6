"""Finds executors that do not work, and replaces them, a few at a time."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from swarm_runner.condor.pool_query import PoolQueryPort
from swarm_runner.errors import PreconditionError, UnreachableError
from swarm_runner.model.pool import Pool
from swarm_runner.model.pool_status import (
    ExecutorReplacement,
    ExecutorStatus,
    PoolStatus,
    TaskState,
)
from swarm_runner.provisioner.black_holes import MAX_RUNS, RUN_HISTORY_S, black_holes
from swarm_runner.provisioner.managers import run_in_holder
from swarm_runner.provisioner.observation import UNRESPONSIVE_AFTER_S, creation_time_s
from swarm_runner.structured_log import get_logger
from swarm_runner.swarm.ports import Swarm

log = get_logger(__name__)

# How long an executor may have a problem before it is replaced. A starting one has some briefly.
UNHEALTHY_GRACE_S = 60.0
# One class's replacements start at least this far apart.
REPLACEMENT_INTERVAL_S = 60.0
# More replacements on one node within the window would mean that the node is at fault.
MAX_REPLACEMENTS_PER_NODE = 3
NODE_WINDOW_S = 3600.0
HISTORY_POLL_INTERVAL_S = 15.0


@dataclass(frozen=True, slots=True)
class _DrainRecord:
    """An executor that was drained, and when, as far as this process can see."""

    service: str
    node: str
    time_s: float


class ExecutorHealthMonitor:
    """Checks a pool's executors, and drains the unhealthy ones.

    A drained executor accepts no new jobs, finishes its running ones within the retirement time
    of its class, and stops; Swarm then starts another task in its place. The monitor stores
    nothing: Swarm and the slots show which executors were drained, by this process or any other.
    A restarted monitor, and several at once, therefore keep to the same rate.

    Args:
        pool: The pool.
        swarm: Where its services run.
        pool_query: Reads the history of its jobs.
        dry_run: Report unhealthy executors and change nothing.
        grace_s: How long an executor may have a problem, in seconds.
        replacement_interval_s: The minimum time between two replacements in one class.
        clock: Returns the time in seconds since the epoch.
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
        self._black_holes: dict[str, str] = {}
        # By task ID, and whether it is unresponsive.
        self._unhealthy_since: dict[tuple[str, bool], float] = {}
        self._drains: dict[str, _DrainRecord] = {}  # by task ID
        self._failed: dict[str, ExecutorReplacement] = {}  # by task ID
        self._draining_count = 0

    @property
    def draining_count(self) -> int:
        """How many drained executors still existed at the latest check."""
        return self._draining_count

    def run_once(self, status: PoolStatus) -> list[ExecutorReplacement]:
        """Check every executor. Return the unhealthy ones, with what was done about each.

        Do nothing while the pool itself has a problem or does not answer: its executors may
        work although they are unreachable.
        """
        if status.problems:
            return []
        self._prune({executor.task for executor in status.executors})
        advertised_classes = {
            executor.capacity_class
            for executor in status.executors
            if executor.memory_mb is not None and not executor.lost
        }
        try:
            holes = self._read_black_holes()
            unhealthy = [
                (executor, reason)
                for executor in status.executors
                if (
                    reason := self._unhealthy_reason(executor, advertised_classes)
                    or holes.get(executor.task, "")
                )
                and not (executor.retiring or executor.lost or executor.task in self._drains)
            ]
            if unhealthy and not self._dry_run:
                self._record_external_drains(status)
        except UnreachableError as error:
            log.debug("Health check skipped", pool=self._pool.name, reason=str(error))
            return []
        return [self._replace(executor, reason) for executor, reason in unhealthy]

    def _prune(self, task_ids: set[str]) -> None:
        """Drop what is known of executors that no longer exist."""
        window_start = self._clock() - NODE_WINDOW_S
        self._unhealthy_since = {
            key: since for key, since in self._unhealthy_since.items() if key[0] in task_ids
        }
        self._failed = {task: failed for task, failed in self._failed.items() if task in task_ids}
        self._drains = {
            task: drain
            for task, drain in self._drains.items()
            if task in task_ids or drain.time_s > window_start
        }
        self._draining_count = len(task_ids & set(self._drains))

    def _record_external_drains(self, status: PoolStatus) -> None:
        """Record the executors that another process or a person has drained.

        Raises UnreachableError when the Swarm does not answer.
        """
        now = self._clock()
        for executor in status.executors:
            if executor.retiring and not (executor.stopping or executor.lost):
                self._drains.setdefault(
                    executor.task, _DrainRecord(executor.service, executor.node, now)
                )
        for task, time_s in _replaced_tasks(self._swarm.tasks(self._pool.name), now):
            self._drains.setdefault(task.id, _DrainRecord(task.service, task.node, time_s))

    def _read_black_holes(self) -> dict[str, str]:
        now = self._clock()
        if now - self._history_read_s >= HISTORY_POLL_INTERVAL_S:
            self._black_holes = black_holes(
                self._pool_query.recent_runs(now - RUN_HISTORY_S, MAX_RUNS)
            )
            self._history_read_s = now
        return self._black_holes

    def _unhealthy_reason(self, executor: ExecutorStatus, advertised_classes: set[str]) -> str:
        """Return its slot's problem, or that it is unresponsive, once that has lasted long enough.

        If the collector knows no executor of a class, the collector may be at fault: then an
        unresponsive executor of that class counts as healthy.
        """
        unresponsive = executor.task_state == "running" and executor.memory_mb is None
        self._unhealthy_since.pop((executor.task, not unresponsive), None)
        if unresponsive:
            healthy = executor.capacity_class not in advertised_classes
        else:
            # A successor would have no KVM either: it is the node that lacks it.
            healthy = (
                not executor.problem
                or executor.memory_mb is None
                or executor.virtualization == "none"
            )
        if healthy:
            self._unhealthy_since.pop((executor.task, unresponsive), None)
            return ""
        now = self._clock()
        since = self._unhealthy_since.setdefault((executor.task, unresponsive), now)
        if now - since < (UNRESPONSIVE_AFTER_S if unresponsive else self._grace_s):
            return ""
        if unresponsive:
            return f"the collector has received no update from it for {UNRESPONSIVE_AFTER_S:.0f} s"
        return executor.problem

    def _replace(self, executor: ExecutorStatus, reason: str) -> ExecutorReplacement:
        now = self._clock()
        replacement = ExecutorReplacement(
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
            return replacement
        failed = self._failed.get(executor.task)
        if failed and now - failed.time_s < self._replacement_interval_s:
            return failed
        if problem := self._deferral_reason(executor, now):
            log.debug("Executor replacement deferred", task=executor.task, reason=problem)
            return replacement.model_copy(update={"action": "deferred", "problem": problem})
        fields: dict[str, Any] = {
            "service": executor.service,
            "task": executor.task,
            "node": executor.node,
            "reason": reason,
        }
        try:
            self._drain(executor)
        except (UnreachableError, PreconditionError) as error:
            log.warning("Executor replacement failed", **fields, problem=str(error))
            failed = replacement.model_copy(update={"action": "failed", "problem": str(error)})
            self._failed[executor.task] = failed
            return failed
        log.info("Replacing executor", **fields)
        self._drains[executor.task] = _DrainRecord(executor.service, executor.node, now)
        return replacement.model_copy(update={"action": "draining"})

    def _deferral_reason(self, executor: ExecutorStatus, now: float) -> str:
        """Return why the executor must not be replaced yet, or nothing if it may be."""
        drains = list(self._drains.values())
        on_node = sum(
            drain.node == executor.node and now - drain.time_s < NODE_WINDOW_S for drain in drains
        )
        if on_node >= MAX_REPLACEMENTS_PER_NODE:
            return (
                f"{on_node} executors of this node were replaced within the last hour, and the "
                "problem persists: check the node and its Docker engine"
            )
        if any(
            drain.service == executor.service and now - drain.time_s < self._replacement_interval_s
            for drain in drains
        ):
            return "another executor of its class is being replaced"
        return ""

    def _drain(self, executor: ExecutorStatus) -> None:
        """Make its condor_master do what SIGTERM would.

        Only the manager is authorized to do this, and it reaches the executors on every node.
        """
        # Without a constraint, condor_off -name would resolve the name as a host name.
        command = ["condor_off", "-graceful", "-daemon", "master"]
        constraint = f'Name == "{executor.container}"'
        manager = self._pool.service()
        output = run_in_holder(self._swarm, self._pool, [*command, "-constraint", constraint])
        if output is None:
            raise PreconditionError(
                f"service {manager} runs on another node than this engine's, and only the manager "
                "can drain an executor; run this command on the manager's node"
            )


def _replaced_tasks(tasks: Iterable[TaskState], now: float) -> Iterator[tuple[TaskState, float]]:
    """Yield the tasks that stopped on their own, with the creation time of each one's successor.

    Swarm reports them as "complete", and as "shutdown" those that it stopped. It keeps the latest
    four tasks of each task slot.
    """
    by_task_slot: dict[tuple[str, int], list[TaskState]] = defaultdict(list)
    for task in tasks:
        by_task_slot[task.service, task.slot].append(task)
    for slot_tasks in by_task_slot.values():
        slot_tasks.sort(key=lambda task: creation_time_s(task, now))
        for task, successor in zip_longest(slot_tasks, slot_tasks[1:]):
            if task.state == "complete":
                # Swarm's clock may be ahead of ours.
                yield task, min(creation_time_s(successor, now), now) if successor else now
