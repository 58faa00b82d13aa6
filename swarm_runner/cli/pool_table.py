"""The table of `pool status`: Swarm's services and tasks, combined with HTCondor's slots."""

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
    """Yield the table: for each service a line, and below it a line for each of its tasks.

    The columns of all services are aligned. Draining executors and problems follow.
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
    draining = [
        f"task {executor.task[:SHORT_ID]} of {executor.service} stays {executor.describe_drain()}"
        for executor in status.executors
        if executor.retiring and executor.jobs
    ]
    if draining:
        yield Text("draining", style="bold")
        yield from (_indent(Text(line)) for line in draining)
    problems = list(_problems(status))
    if problems:
        yield Text("problems", style="bold red")
        yield from (_indent(Text(problem)) for problem in problems)
    if status.losses:
        yield Text("when a node is lost", style="bold")
        yield from (_indent(Text(f"{part}: {loss}")) for part, loss in status.losses.items())
    if status.warnings:
        yield Text("warnings", style="bold yellow")
        yield from (_indent(Text(warning)) for warning in status.warnings)


def _groups(pool: Pool, status: PoolStatus) -> Iterator[tuple[Text, list[Row], list[str]]]:
    """Yield the head line of each service, its tasks' rows, and their styles."""
    for service in pool.manager_services:
        tasks = [task for task in status.managers if task.service == service]
        if pool.managers == 1 and status.manager is not None:
            tasks = [status.manager]
        summary = "manager"
        if pool.managers > 1 and status.manager is not None:
            has_queue = status.manager.service == service
            summary += ", has the queue" if has_queue else ", waits for the queue"
        yield _head_line(service, summary), [_task_row(t) for t in tasks], [""] * len(tasks)
    if status.autoscaler is not None:
        yield _head_line(pool.autoscaler, "autoscaler"), [_task_row(status.autoscaler)], [""]
    for name in dict.fromkeys([*pool.classes, *status.replicas]):
        replicas = status.replicas.get(name)
        if replicas is None:
            continue  # Its service is missing, which is among the problems.
        executors = [executor for executor in status.executors if executor.capacity_class == name]
        summary = f"class {name}, {status.ready(name)} of {replicas} ready"
        if draining := status.draining(name):
            summary += f", {draining} draining"
        if lost := status.lost(name):
            summary += f", {lost} lost"
        virtualizations = {executor.virtualization for executor in executors} - {"", "none"}
        summary += "".join(f", {virtualization}" for virtualization in sorted(virtualizations))
        styles = ["red" if executor.problem else "" for executor in executors]
        rows = [_executor_row(executor) for executor in executors]
        yield _head_line(pool.service(name), summary), rows, styles


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
            value.rjust(width) if column == _MEMORY_COLUMN else value.ljust(width)
            for column, (value, width) in enumerate(zip(row, widths, strict=True))
        ]
        table.add_row(
            *(
                truncated(cell) if column == _NODE_COLUMN else nowrap(cell)
                for column, cell in enumerate(cells)
            ),
            style=style,
        )
    for number, column in enumerate(table.columns):
        column.no_wrap = number != _NODE_COLUMN
    return table


def _problems(status: PoolStatus) -> Iterator[str]:
    yield from status.problems
    for executor in status.executors:
        if executor.problem:
            yield f"task {executor.task[:SHORT_ID]} of {executor.service}: {executor.problem}"
