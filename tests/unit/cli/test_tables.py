from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console, RenderableType

from swarm_runner.cli.pool_table import pool_table
from swarm_runner.cli.tables import (
    count_by_state,
    failures,
    jobs_table,
    outcome_label,
    submitted_table,
)
from swarm_runner.cli.wording import format_duration
from swarm_runner.model.job import Job, JobId, JobState, Outcome, OutcomeKind
from swarm_runner.model.pool import Pool
from swarm_runner.model.pool_status import ExecutorStatus, PoolStatus

NOW = 1_000_000.0
SUCCESS = Outcome(OutcomeKind.EXITED, "The command ended with exit code 0.", exit_code=0)
FAILURE = Outcome(OutcomeKind.EXITED, "The command ended with exit code 3.", exit_code=3)
WAITING = Job(JobId(17, 0), "a-key", JobState.IDLE, submitted_at=NOW - 61)
RAN = Job(
    JobId(17, 1),
    "a-key",
    JobState.COMPLETED,
    tool_id="bowtie2",
    capacity_class="normal",
    executor="x1y2z3a4b5c6d7e8f9g0h1i2j",
    node="node-1",
    submitted_at=NOW - 500,
    started_at=NOW - 300,
    ended_at=NOW - 100,
    outcome=SUCCESS,
)


def printed(*parts: RenderableType, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width, markup=False, highlight=False)
    for part in parts:
        console.print(part)
    file = console.file
    assert isinstance(file, io.StringIO)
    return [line.rstrip() for line in file.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((-3, "0s"), (0.4, "0s"), (59, "59s"), (59.6, "1m00s"), (200, "3m20s")),
        *((7500, "2h05m"), (86400, "1d00h"), (273600, "3d04h")),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_outcome_labels() -> None:
    assert outcome_label(FAILURE) == "exit code 3"
    assert outcome_label(Outcome(OutcomeKind.SIGNALLED, "x", signal=9)) == "signal 9"
    assert outcome_label(Outcome(OutcomeKind.OUT_OF_MEMORY, "x")) == "out of memory"


def test_a_job_s_line_shows_where_and_how_long() -> None:
    header, waiting, ran = printed(jobs_table([WAITING, RAN], NOW))
    assert header.split() == ["job", "key", "tool", "state", "class", "node", "executor", "time"]
    assert waiting.split() == ["17.0", "a-key", "idle", "1m01s"]
    assert ran.split() == [
        *("17.1", "a-key", "bowtie2", "exit", "code", "0", "normal", "node-1"),
        *("x1y2z3a4b5c6", "3m20s"),
    ]


def test_columns_with_nothing_in_are_left_out() -> None:
    assert printed(jobs_table([WAITING], NOW))[0].split() == ["job", "key", "state", "time"]


def test_long_names_are_cut_and_nothing_else() -> None:
    long = replace(RAN, key="k" * 200, tool_id="t" * 200, node="n" * 60, id=JobId(123456, 99999))
    lines = printed(jobs_table([long], NOW))
    assert len(lines) == 2
    assert max(map(len, lines)) <= 80
    for text in ("123456.99999", "exit code 0", "3m20s"):
        assert text in lines[1]
    assert "k" * 200 in printed(jobs_table([long], NOW), width=10_000)[1]


def test_markup_in_a_name_is_text() -> None:
    assert "[red]x" in printed(jobs_table([replace(RAN, tool_id="[red]x")], NOW))[1]


def test_submitted_jobs_have_a_line_for_each_key() -> None:
    other = replace(WAITING, id=JobId(18, 0), key="other")
    lines = printed(submitted_table([WAITING, RAN, other]))
    assert [line.split("  ")[0] for line in lines[1:]] == ["17.0 to 17.1", "18.0"]
    assert lines[1].endswith("1 idle, 1 succeeded")
    assert lines[2].endswith("idle")


def test_alike_failures_share_a_sentence() -> None:
    failed = [replace(RAN, id=JobId(17, n), outcome=FAILURE) for n in range(9)]
    head, sentence = printed(*failures([*failed, RAN, WAITING]), width=200)
    assert head.startswith("17.0 (a-key), 17.1 (a-key), ")
    assert head.endswith("17.5 (a-key) and 3 more:")
    assert sentence == "  The command ended with exit code 3."
    assert failures([RAN, WAITING]) == []


def test_counts_by_state() -> None:
    held = replace(WAITING, state=JobState.HELD)
    assert count_by_state([RAN, held, WAITING, replace(RAN, outcome=FAILURE)]) == (
        "1 idle, 1 held, 1 succeeded, 1 failed"
    )
    assert count_by_state([]) == "no jobs"


def test_the_pool_s_table_fits_80_columns_whatever_the_names() -> None:
    pool = Pool(name="a-pool-with-quite-a-long-name")
    executor = ExecutorStatus(
        service=pool.service("big"),
        capacity_class="big",
        node="a-node-with-a-name.in.some.domain.example",
        task="x1y2z3a4b5c6d7e8f9g0h1i2j",
        container="0123456789ab",
        task_state="running",
        state="Claimed",
        activity="Retiring",
        memory_mb=204800,
        jobs=("123456.0", "123456.1"),
        problem="broken slot: " + "something is wrong " * 9,
    )
    status = PoolStatus(
        pool=pool.name, manager=None, replicas={"big": 1}, executors=(executor,), problems=("no!",)
    )
    lines = printed(*pool_table(pool, status))
    assert max(map(len, lines)) <= 80
    assert f"{pool.service('big')}  class big, 0 of 1 ready" in lines
    row = next(line for line in lines if "Retiring" in line)
    for text in ("x1y2z3a4b5c6", "0123456789ab", "204800 MB", "123456.0"):
        assert text in row
    assert lines[lines.index("problems") + 1] == "  no!"
    assert not any(line.startswith(pool.service()) and "normal" in line for line in lines)
