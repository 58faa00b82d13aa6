"""Executors by node, as the page shows them. Pure: an observation in, frozen values out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from swarm_runner.model.pool_status import ExecutorStatus, Slot

NO_NODE = "no node yet"


class ExecutorState(StrEnum):
    """What an executor is doing. The order is that of the legend."""

    BUSY = "busy"
    """It runs jobs."""
    IDLE = "idle"
    """It is ready and runs no job."""
    STARTING = "starting"
    """Swarm is starting it, or the collector does not know its slot yet."""
    DRAINING = "draining"
    """It finishes its jobs and accepts no others."""
    UNSCHEDULABLE = "no node"
    """Swarm finds no node for it."""
    UNUSABLE = "unusable"
    """It is broken and accepts no job."""
    LOST = "lost"
    """Its node is down."""

    @classmethod
    def from_status(cls, executor: ExecutorStatus) -> ExecutorState:
        """Return the state of an executor; each has exactly one."""
        if executor.lost:
            return cls.LOST
        if executor.retiring:
            return cls.DRAINING
        if executor.task_state == "pending" and executor.problem:
            return cls.UNSCHEDULABLE
        if executor.task_state != "running" or executor.memory_mb is None:
            return cls.STARTING
        if executor.jobs:
            return cls.BUSY
        return cls.IDLE if executor.ready else cls.UNUSABLE


class Amount(NamedTuple):
    """How much of a resource jobs have claimed, and how much there is."""

    claimed: float
    total: float


@dataclass(frozen=True, slots=True)
class ExecutorView:
    """One executor. `problem` is empty while nothing is wrong."""

    task: str
    capacity_class: str
    state: ExecutorState
    jobs: tuple[str, ...]
    cpus: Amount
    memory_mb: Amount
    drain: str
    problem: str


@dataclass(frozen=True, slots=True)
class NodeView:
    """One node and its executors, those with problems first."""

    name: str
    executors: tuple[ExecutorView, ...]
    counts: Mapping[ExecutorState, int]
    cpus: Amount
    memory_mb: Amount
    gpus: Amount

    @property
    def problems(self) -> list[str]:
        """What is wrong with its executors, each message once."""
        return list(dict.fromkeys(e.problem for e in self.executors if e.problem))


def count_states(executors: Iterable[ExecutorView]) -> dict[ExecutorState, int]:
    """Return the number of executors in each state that occurs, in the legend's order."""
    counts = Counter(executor.state for executor in executors)
    return {state: counts[state] for state in ExecutorState if counts[state]}


def build_nodes(executors: Sequence[ExecutorStatus], slots: Sequence[Slot]) -> list[NodeView]:
    """Return the nodes that have executors, by name."""
    amounts = _sum_by_task(slots)
    by_node: dict[str, list[ExecutorView]] = {}
    gpus_by_node: dict[str, list[Amount]] = {}
    for executor in executors:
        cpus, memory_mb, gpus = amounts.get(executor.task, (Amount(0, 0),) * 3)
        node = executor.node or NO_NODE
        gpus_by_node.setdefault(node, []).append(gpus)
        by_node.setdefault(node, []).append(
            ExecutorView(
                task=executor.task,
                capacity_class=executor.capacity_class,
                state=ExecutorState.from_status(executor),
                jobs=executor.jobs,
                cpus=cpus,
                memory_mb=memory_mb,
                drain=executor.describe_drain() if executor.retiring else "",
                problem=executor.problem,
            )
        )
    return [
        _build_node(name, by_node[name], gpus_by_node[name])
        for name in sorted(by_node, key=lambda name: (name == NO_NODE, _natural_key(name)))
    ]


_ORDER = {state: number for number, state in enumerate(ExecutorState)}


def _build_node(name: str, executors: list[ExecutorView], gpus: list[Amount]) -> NodeView:
    executors.sort(key=lambda e: (not e.problem, e.capacity_class, _ORDER[e.state], e.task))
    return NodeView(
        name=name,
        executors=tuple(executors),
        counts=count_states(executors),
        cpus=_total([executor.cpus for executor in executors]),
        memory_mb=_total([executor.memory_mb for executor in executors]),
        gpus=_total(gpus),
    )


def _sum_by_task(slots: Sequence[Slot]) -> dict[str, tuple[Amount, Amount, Amount]]:
    """Return CPUs, memory and GPUs by task. A partitionable slot has what jobs left of it."""
    return {
        slot.task: (
            Amount(max(slot.total_cpus - slot.cpus, 0), slot.total_cpus),
            Amount(max(slot.total_memory_mb - slot.memory_mb, 0), slot.total_memory_mb),
            Amount(max(slot.total_gpus - slot.gpus, 0), slot.total_gpus),
        )
        for slot in slots
        if slot.partitionable
    }


def _total(amounts: Iterable[Amount]) -> Amount:
    claimed = total = 0.0
    for amount in amounts:
        claimed += amount.claimed
        total += amount.total
    return Amount(claimed, total)


def _natural_key(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts node-2 before node-10."""
    parts = re.split(r"([0-9]{1,18})", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts if part]
