"""The rows of all faults, kept between runs, and the page with their table."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import docker

from tests.faults import soak_report
from tests.faults.fault import PoolFault, Row, is_permitted

ROOT = Path(__file__).parents[2]
# Part of the repository: a run of single faults, on any machine, keeps the rows of the others.
RESULTS = Path(__file__).with_name("rows.json")
PAGE = ROOT / "docs" / "explanation" / "faults.md"
_INTRODUCTION = """\
# What faults cost

`make faults` writes this page; a run of single faults replaces their rows and keeps the others. It
breaks pools in {count} ways, one after another on each, while jobs run and others are submitted
every eight seconds, and counts. {summary}

- *Load*: jobs that run when the fault begins + jobs that are submitted around it.
- *Lost*: jobs whose end the runner did not report.
- *Started again*: further starts of a job. Each start adds a line to a file of its own: HTCondor
  has no part in this count. A fault that ends the processes of jobs makes them start again, and so
  does one that comes between the end of a job and the moment that the queue has it: see the remark.
- *At once*: starts that ran beside an earlier start of the job, which a lock on its file shows.
- *Delivered twice*: jobs whose end the runner reported more than once.
- *Evicted*: jobs that the runner reported as evicted.
- *Failed*: jobs that did not end with exit code 0.
- *Whole*: seconds from the beginning of the fault, its own length included, until all executors are
  ready, all jobs run that ran before, and all jobs are delivered that were submitted meanwhile.

"""
_COLUMNS = (
    *("fault", "what was done", "load", "lost", "started again", "at once"),
    *("delivered twice", "evicted", "failed", "whole", "remark"),
)
_CLOSING = """
{dates}: swarm_runner {release}, HTCondor {htcondor}, Docker {docker}, {processors} processors.
The rows add up to {minutes:.0f} minutes, without the time that the jobs take to start; `make
faults` breaks two pools at the same time, and takes less.
The faults are code in [tests/faults](../../tests/faults).
"""


def read() -> dict[str, Row]:
    """Return the rows of earlier runs, by the fault's name."""
    if not RESULTS.exists():
        return {}
    known = {field.name for field in dataclasses.fields(Row)}
    return {
        name: Row(**{key: value for key, value in fields.items() if key in known})
        for name, fields in json.loads(RESULTS.read_text()).items()
    }


def keep(row: Row) -> None:
    """Add a row, in place of an earlier one of the same fault.

    Two programs may do it at once: `make faults` breaks two pools.
    """
    today = time.strftime("%Y-%m-%d", time.gmtime())
    with RESULTS.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        rows = read() | {row.fault: dataclasses.replace(row, date=today)}
        content = {name: dataclasses.asdict(each) for name, each in rows.items()}
        file.write(json.dumps(content, indent=1) + "\n")
        file.truncate()


def write_page(faults: Sequence[PoolFault], client: docker.DockerClient) -> None:
    """Write the page from the rows that were kept, in the order of the faults."""
    kept = read()
    rows = [kept[fault.name] for fault in faults if fault.name in kept]
    wrong = [
        fault.name
        for fault in faults
        if fault.name in kept and not is_permitted(fault, kept[fault.name])
    ]
    summary = "Each cost what it does itself, and nothing else."
    if wrong:
        summary = f"Not as it should be: {', '.join(wrong)}."
    text = _INTRODUCTION.format(count=len(rows), summary=summary)
    lines = (_COLUMNS, ["---"] * len(_COLUMNS), *map(_cells, rows))
    text += "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
    text += _CLOSING.format(
        dates=", ".join(sorted({row.date for row in rows})),
        release=version("swarm_runner"),
        htcondor=version("htcondor"),
        docker=client.version()["Version"],
        processors=os.cpu_count(),
        minutes=sum(row.whole_s or 0 for row in rows) / 60,
    )
    soak = soak_report.read()
    PAGE.write_text(text + (soak_report.section(soak) if soak else ""))


def _cells(row: Row) -> list[str]:
    counts = (
        *(row.lost, row.started_again, row.overlapping),
        *(row.delivered_twice, row.evicted, row.failed),
    )
    return [
        row.fault,
        row.done,
        f"{row.running} + {row.submitted}",
        *map(str, counts),
        "not" if row.whole_s is None else f"{row.whole_s:.0f} s",
        row.remark.replace("|", "/").replace("\n", " "),
    ]
