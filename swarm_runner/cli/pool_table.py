"""`pool status` for people: Swarm's services and tasks joined with HTCondor's slots."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from rich.cells import cell_len
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from swarm_runner.cli.tables import SHORT_ID, elastic, firm, plain_table
from swarm_runner.model.pool import Pool
from swarm_runner.model.status import ExecutorStatus, PoolStatus, TaskState

Row = tuple[str, ...]
HEADERS: Row = ("node", "task", "container", "state", "activity", "memory", "job")
_NODE = 0
_MEMORY = 5


def pool_table(pool: Pool, status: PoolStatus) -> Iterator[Text | Table | Padding]:
    """One table: a head line for each service with its class, below it a line for each task.

    The lines of all services are aligned. What is wrong follows, each with the task it concerns.
    """
    groups = list(_groups(pool, status))
    rows = list(chain([HEADERS], *(rows for _, rows, _ in groups)))
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    yield Text(f"pool {status.pool} at {pool.address}")
    yield _indented(_grid([HEADERS], widths, ["bold"]))
    for head, tasks, styles in groups:
        yield head
        if tasks:
            yield _indented(_grid(tasks, widths, styles))
    leaving = [
        f"task {line.task[:SHORT_ID]} of {line.service} stays {line.waits_for()}"
        for line in status.executors
        if line.retiring and line.jobs
    ]
    if leaving:
        yield Text("what leaves", style="bold")
        yield from (_indented(Text(line)) for line in leaving)
    troubles = list(_troubles(status))
    if troubles:
        yield Text("what is wrong", style="bold red")
        yield from (_indented(Text(trouble)) for trouble in troubles)


def _groups(pool: Pool, status: PoolStatus) -> Iterator[tuple[Text, list[Row], list[str]]]:
    """The head line of each service, its tasks' rows, and their styles."""
    manager = [] if status.manager is None else [_manager(status.manager)]
    yield _head(pool.service(), "manager"), manager, [""]
    if status.autoscaler is not None:
        yield _head(pool.autoscaler, "autoscaler"), [_manager(status.autoscaler)], [""]
    for name in dict.fromkeys([*pool.classes, *status.replicas]):
        wanted = status.replicas.get(name)
        if wanted is None:
            continue  # its service is missing: that is among the troubles
        executors = [line for line in status.executors if line.capacity_class == name]
        told = f"class {name}, {status.ready(name)} of {wanted} ready"
        if leaving := status.leaving(name):
            told += f", {leaving} leaving"
        if lost := status.lost(name):
            told += f", {lost} lost"
        kinds = sorted({line.virtualization for line in executors if line.virtualization})
        told += "".join(f", {kind}" for kind in kinds if kind != "none")
        styles = ["red" if line.trouble else "" for line in executors]
        yield _head(pool.service(name), told), [_row(line) for line in executors], styles


def _indented(part: Text | Table) -> Padding:
    return Padding(part, (0, 0, 0, 2), expand=False)


def _head(service: str, told: str) -> Text:
    return Text.assemble((service, "bold cyan"), f"  {told}")


def _manager(task: TaskState) -> Row:
    return (task.node, task.id[:SHORT_ID], task.container[:SHORT_ID], task.state, "", "", "")


def _row(line: ExecutorStatus) -> Row:
    memory = "" if line.memory_mb is None else f"{line.memory_mb} MB"
    return (
        line.node,
        line.task[:SHORT_ID],
        line.container[:SHORT_ID],
        line.state or line.task_state,
        line.activity,
        memory,
        ", ".join(line.jobs),
    )


def _grid(rows: Sequence[Row], widths: Sequence[int], styles: Sequence[str]) -> Table:
    table = plain_table(*HEADERS)
    table.show_header = False
    for row, style in zip(rows, styles, strict=True):
        cells = [
            value.rjust(width) if place == _MEMORY else value.ljust(width)
            for place, (value, width) in enumerate(zip(row, widths, strict=True))
        ]
        table.add_row(
            *(elastic(cell) if place == _NODE else firm(cell) for place, cell in enumerate(cells)),
            style=style,
        )
    for place, column in enumerate(table.columns):
        column.no_wrap = place != _NODE
    return table


def _troubles(status: PoolStatus) -> Iterator[str]:
    yield from status.trouble
    for line in status.executors:
        if line.trouble:
            yield f"task {line.task[:SHORT_ID]} of {line.service}: {line.trouble}"
