from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from swarm_runner.cli import job_progress
from swarm_runner.cli.job_progress import JobProgressView
from swarm_runner.model.job import (
    Job,
    JobChange,
    JobEvent,
    JobId,
    JobState,
    Outcome,
    OutcomeKind,
)

FIRST = Job(JobId(1, 0), "first", JobState.IDLE)
SECOND = Job(JobId(1, 1), "second", JobState.IDLE, tool_id="sort")
SUCCESS = Outcome(OutcomeKind.EXITED, "The command ended with exit code 0.", exit_code=0)
FAILURE = Outcome(OutcomeKind.OUT_OF_DISK, "The job used more disk than it asked for.")


def change_view(console: Console) -> JobProgressView:
    with JobProgressView([SECOND, FIRST], console) as shown:
        stranger = replace(FIRST, id=JobId(2, 0), key="stranger")
        shown.apply(JobChange(stranger, JobEvent.HELD, "a stranger"))
        shown.apply(JobChange(FIRST, JobEvent.SUBMITTED))
        running = replace(FIRST, state=JobState.RUNNING, node="node-1", capacity_class="big")
        shown.apply(JobChange(running, JobEvent.STARTED))
        assert [job.state for job in shown.unfinished] == [JobState.RUNNING, JobState.IDLE]
        shown.apply(JobChange(replace(SECOND, state=JobState.HELD), JobEvent.HELD, "no [image]"))
        done = replace(running, state=JobState.COMPLETED, outcome=SUCCESS)
        shown.apply(JobChange(done, JobEvent.ENDED, SUCCESS.message))
        removed = replace(SECOND, state=JobState.REMOVED, outcome=FAILURE)
        shown.apply(JobChange(removed, JobEvent.ENDED, FAILURE.message))
    return shown


def test_without_a_terminal_problems_and_the_end_are_lines() -> None:
    file = io.StringIO()
    shown = change_view(Console(file=file, markup=False))
    assert file.getvalue().splitlines() == [
        "  1.1 second sort: held: no [image]",
        "  1.1 second sort: The job used more disk than it asked for.",
        "2 jobs after 0s: 1 succeeded, 1 failed",
    ]
    assert shown.unfinished == []
    assert [job.key for job in shown.jobs] == ["first", "second"]


def test_without_a_terminal_there_is_a_summary_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(job_progress, "SUMMARY_INTERVAL_S", 0.0)
    file = io.StringIO()
    change_view(Console(file=file))
    assert "2 jobs after 0s: 1 idle, 1 running" in file.getvalue().splitlines()


def test_a_terminal_shows_a_live_view_and_removes_it() -> None:
    file = io.StringIO()
    change_view(Console(file=file, force_terminal=True, width=80, markup=False))
    text = file.getvalue()
    assert "1.0 first" in text
    assert "started on node-1, class big" in text
    assert "stranger" not in text
    assert text.endswith("\x1b[2K")


def test_jobs_that_had_ended_before_are_not_waited_for() -> None:
    ended = replace(FIRST, state=JobState.COMPLETED, outcome=SUCCESS)
    assert JobProgressView([ended]).unfinished == []
