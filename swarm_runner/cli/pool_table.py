"""`pool status` for people: Swarm's services and tasks joined with HTCondor's slots."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from rich.cells import cell_len
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from swarm_runner.cli.tables import SHORT_ID, nowrap, plain_table, truncated
from swarm_runner.model.pool import Pool
from swarm_runner.model.pool_status import ExecutorStatus, PoolStatus, TaskState

Row = tuple[str, ...]
HEADERS: Row = ("node", "task", "container", "state", "activity", "memory", "job")
_NODE_COLUMN = 0
_MEMORY_COLUMN = 5


def pool_table(pool: Pool, status: PoolStatus) -> Iterator[Text | Table | Padding]:
    """One table: a head line for each service with its class, below it a line for each task.

    The lines of all services are aligned. What is wrong follows, each with the task it concerns.
    """
    groups = list(_groups(pool, status))
    rows = list(chain([HEADERS], *(rows for _, rows, _ in groups)))
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    yield Text(f"pool {status.pool} at {pool.address}")
    yield _indent(_grid([HEADERS], widths, ["bold"]))
    for head, tasks, styles in groups:
        yield head
        if tasks:
            yield _indent(_grid(tasks, widths, styles))
    leaving = [
        f"task {line.task[:SHORT_ID]} of {line.service} stays {line.describe_drain()}"
        for line in status.executors
        if line.retiring and line.jobs
    ]
    if leaving:
        yield Text("what leaves", style="bold")
        yield from (_indent(Text(line)) for line in leaving)
    troubles = list(_problems(status))
    if troubles:
        yield Text("what is wrong", style="bold red")
        yield from (_indent(Text(trouble)) for trouble in troubles)


def _groups(pool: Pool, status: PoolStatus) -> Iterator[tuple[Text, list[Row], list[str]]]:
    """The head line of each service, its tasks' rows, and their styles."""
    manager = [] if status.manager is None else [_task_row(status.manager)]
    yield _head_line(pool.service(), "manager"), manager, [""]
    if status.autoscaler is not None:
        yield _head_line(pool.autoscaler, "autoscaler"), [_task_row(status.autoscaler)], [""]
    for name in dict.fromkeys([*pool.classes, *status.replicas]):
        wanted = status.replicas.get(name)
        if wanted is None:
            continue  # its service is missing: that is among the troubles
        executors = [line for line in status.executors if line.capacity_class == name]
        told = f"class {name}, {status.ready(name)} of {wanted} ready"
        if leaving := status.draining(name):
            told += f", {leaving} leaving"
        if lost := status.lost(name):
            told += f", {lost} lost"
        kinds = sorted({line.virtualization for line in executors if line.virtualization})
        told += "".join(f", {kind}" for kind in kinds if kind != "none")
        styles = ["red" if line.problem else "" for line in executors]
        yield (
            _head_line(pool.service(name), told),
            [_executor_row(line) for line in executors],
            styles,
        )


def _indent(part: Text | Table) -> Padding:
    return Padding(part, (0, 0, 0, 2), expand=False)


def _head_line(service: str, summary: str) -> Text:
    return Text.assemble((service, "bold cyan"), f"  {summary}")


def _task_row(task: TaskState) -> Row:
    return (task.node, task.id[:SHORT_ID], task.container[:SHORT_ID], task.state, "", "", "")


def _executor_row(executor: ExecutorStatus) -> Row:
    memory = "" if executor.memory_mb is None else f"{executor.memory_mb} MB"
    return (
        executor.node,
        executor.task[:SHORT_ID],
        executor.container[:SHORT_ID],
        executor.state or executor.task_state,
        executor.activity,
        memory,
        ", ".join(executor.jobs),
    )


def _grid(rows: Sequence[Row], widths: Sequence[int], styles: Sequence[str]) -> Table:
    table = plain_table(*HEADERS)
    table.show_header = False
    for row, style in zip(rows, styles, strict=True):
        cells = [
            value.rjust(width) if place == _MEMORY_COLUMN else value.ljust(width)
            for place, (value, width) in enumerate(zip(row, widths, strict=True))
        ]
        table.add_row(
            *(
                truncated(cell) if place == _NODE_COLUMN else nowrap(cell)
                for place, cell in enumerate(cells)
            ),
            style=style,
        )
    for place, column in enumerate(table.columns):
        column.no_wrap = place != _NODE_COLUMN
    return table


def _problems(status: PoolStatus) -> Iterator[str]:
    yield from status.problems
    for line in status.executors:
        if line.problem:
            yield f"task {line.task[:SHORT_ID]} of {line.service}: {line.problem}"
