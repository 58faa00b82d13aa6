"""What a runner believes of its event logs, and what leads to each of the four values."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from swarm_runner.model.job import JobId
from swarm_runner.runner import event_logs
from swarm_runner.runner.directory import RunnerDirectory
from swarm_runner.runner.event_logs import (
    FIRST_EVENT_TIMEOUT_S,
    STALE_LOG_S,
    EventLogSet,
    LogTrust,
)
from swarm_runner.testing import EventLogWriter
from tests.unit.runner.conftest import RunnerHarness

TRUSTED, UNPROVEN = LogTrust.TRUSTED, LogTrust.UNPROVEN
DAMAGED, ABSENT = LogTrust.DAMAGED, LogTrust.ABSENT
JOB = JobId(1, 0)


def open_logs(harness: RunnerHarness) -> EventLogSet:
    directory = RunnerDirectory.open(harness.destination, "name")
    return EventLogSet(directory, harness.destination.pool.user, harness.clock)


def newest_path(logs: EventLogSet) -> Path:
    assert logs.newest is not None
    return logs.newest.path


def write_event(logs: EventLogSet, harness: RunnerHarness) -> None:
    EventLogWriter(newest_path(logs)).submitted(JOB, harness.clock(), "key")


def read(logs: EventLogSet) -> int:
    return len(list(logs.read()))


def read_and_check(logs: EventLogSet, *, jobs_active: bool = True) -> bool:
    list(logs.read())
    return logs.check(jobs_active=jobs_active)


@pytest.fixture
def proven(log_harness: RunnerHarness) -> EventLogSet:
    """Logs whose newest has an event that was read."""
    logs = open_logs(log_harness)
    write_event(logs, log_harness)
    assert read(logs) == 1
    return logs


def _delete(path: Path) -> None:
    path.unlink()


def _truncate(path: Path) -> None:
    os.truncate(path, 0)


def _replace(path: Path) -> None:
    copy = path.with_suffix(".copy")
    copy.write_bytes(path.read_bytes())
    copy.replace(path)


def _garble(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\x00\xff not an event\n...\n")


DAMAGES = [_delete, _truncate, _replace, _garble]


def test_logs_are_trusted_at_first(log_harness: RunnerHarness) -> None:
    logs = open_logs(log_harness)
    assert logs.trust is TRUSTED
    assert not read_and_check(logs)
    assert logs.trust is TRUSTED


def test_without_a_volume_for_them_logs_are_absent(poll_harness: RunnerHarness) -> None:
    logs = open_logs(poll_harness)
    assert (logs.trust, logs.newest) == (ABSENT, None)
    logs.expect_event()
    poll_harness.clock.advance(STALE_LOG_S + FIRST_EVENT_TIMEOUT_S + 1)
    # The tracker polls every job anyway.
    assert not read_and_check(logs)
    assert logs.trust is ABSENT


def test_a_submit_leaves_the_logs_unproven_until_the_next_event(
    log_harness: RunnerHarness, proven: EventLogSet
) -> None:
    proven.expect_event()
    assert proven.trust is UNPROVEN
    log_harness.clock.advance(FIRST_EVENT_TIMEOUT_S)
    assert not read_and_check(proven)
    assert proven.trust is UNPROVEN
    write_event(proven, log_harness)
    assert not read_and_check(proven)
    assert proven.trust is TRUSTED
    log_harness.clock.advance(FIRST_EVENT_TIMEOUT_S + 1)
    assert not read_and_check(proven)
    assert proven.trust is TRUSTED


def test_the_first_of_several_submits_starts_the_timeout(
    log_harness: RunnerHarness, proven: EventLogSet
) -> None:
    proven.expect_event()
    log_harness.clock.advance(FIRST_EVENT_TIMEOUT_S)
    proven.expect_event()
    log_harness.clock.advance(1)
    assert read_and_check(proven)
    assert proven.trust is ABSENT


def test_logs_without_an_event_after_a_submit_are_absent(
    log_harness: RunnerHarness, proven: EventLogSet, caplog: pytest.LogCaptureFixture
) -> None:
    path = newest_path(proven)
    proven.expect_event()
    log_harness.clock.advance(FIRST_EVENT_TIMEOUT_S + 1)
    assert read_and_check(proven)
    assert (proven.trust, proven.newest) == (ABSENT, None)
    assert f"event_log={path}" in caplog.text
    # A later start knows that the logs lack jobs.
    # An event that comes after all changes nothing.
    EventLogWriter(path).started(JOB, log_harness.clock())
    assert read(proven) == 0
    assert proven.trust is ABSENT


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_log_is_repaired_and_trusted_again(
    log_harness: RunnerHarness, proven: EventLogSet, damage: Callable[[Path], None]
) -> None:
    damage(newest_path(proven))
    read(proven)
    assert proven.trust is DAMAGED
    assert proven.check(jobs_active=True)
    assert proven.trust is TRUSTED
    assert newest_path(proven).exists()
    read(proven)  # a replaced log is read again
    write_event(proven, log_harness)
    assert read(proven) == 1
    assert not proven.check(jobs_active=True)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_log_that_is_damaged_while_unproven_still_has_to_prove_itself(
    log_harness: RunnerHarness, proven: EventLogSet, damage: Callable[[Path], None]
) -> None:
    proven.expect_event()
    damage(newest_path(proven))
    read(proven)
    assert proven.trust is DAMAGED
    unproven = proven._unproven_since is not None
    assert proven.check(jobs_active=True)
    # A copy has the events of the original, which prove it.
    assert proven.trust is (UNPROVEN if unproven else TRUSTED)
    assert unproven is (damage is not _replace)
    log_harness.clock.advance(FIRST_EVENT_TIMEOUT_S + 1)
    assert read_and_check(proven) is unproven


def test_a_log_that_cannot_be_repaired_is_absent(
    proven: EventLogSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raise_read_only(_self: object, path: Path, _user: object) -> None:
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(RunnerDirectory, "ensure_log", raise_read_only)
    _delete(newest_path(proven))
    assert read_and_check(proven)
    assert (proven.trust, proven.newest) == (ABSENT, None)


def test_events_in_the_newest_log_do_not_make_up_for_damage_to_an_older_one(
    log_harness: RunnerHarness, proven: EventLogSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = newest_path(proven)
    monkeypatch.setattr(event_logs, "ROTATE_BYTES", 1)
    proven.rotate([JOB])
    assert newest_path(proven) != older
    proven.expect_event()
    _delete(older)
    write_event(proven, log_harness)
    assert read(proven) == 1
    assert proven.trust is DAMAGED
    assert proven.check(jobs_active=True)
    assert proven.trust is TRUSTED


def test_logs_that_are_silent_for_long_are_checked_while_jobs_are_active(
    log_harness: RunnerHarness, proven: EventLogSet
) -> None:
    log_harness.clock.advance(STALE_LOG_S + 1)
    assert not read_and_check(proven, jobs_active=False)
    assert read_and_check(proven)
    # Once in each period, and the logs are trusted meanwhile.
    assert not read_and_check(proven)
    assert proven.trust is TRUSTED
    log_harness.clock.advance(STALE_LOG_S + 1)
    assert read_and_check(proven)
