"""The reader of one log. unit/runner has damaged logs of a runner."""

from __future__ import annotations

import os
import pickle
import time
from pathlib import Path

import pytest

from swarm_runner.condor.event_log import EventLog
from swarm_runner.model.htcondor import EventType, HoldCode, HoldSubcode
from swarm_runner.model.job import JobId
from swarm_runner.testing import EventLogWriter

TIMESTAMP = 1_800_000_000.0


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    return EventLog(tmp_path / "log")


@pytest.fixture
def writer(log: EventLog) -> EventLogWriter:
    return EventLogWriter(log.path)


def _clusters(log: EventLog) -> list[int]:
    return [event["Cluster"] for event in log.new_events()]


def test_every_kind_of_event_is_read_as_it_was_written(
    log: EventLog, writer: EventLogWriter
) -> None:
    job = JobId(7, 3)
    writer.submitted(job, TIMESTAMP, "a/key:1")
    writer.started(job, TIMESTAMP + 1, capacity_class="big", executor="t", node="n", memory_mb=2048)
    writer.image_size(job, TIMESTAMP + 2)
    writer.evicted(
        job, TIMESTAMP + 3, "went away", HoldCode.JOB_OUT_OF_RESOURCES, HoldSubcode.MEMORY
    )
    writer.shadow_exception(job, TIMESTAMP + 4, "broken")
    writer.held(job, TIMESTAMP + 5, "too much", HoldCode.JOB_OUT_OF_RESOURCES, HoldSubcode.MEMORY)
    writer.released(job, TIMESTAMP + 6, "again")
    writer.terminated(job, TIMESTAMP + 7, exit_code=3, memory_mb=1800)
    writer.terminated(job, TIMESTAMP + 8, signal=9)
    writer.aborted(job, TIMESTAMP + 9, "no more")
    events = list(log.new_events())
    assert [event["EventTypeNumber"] for event in events] == [
        EventType.SUBMIT,
        EventType.EXECUTE,
        EventType.IMAGE_SIZE,
        EventType.JOB_EVICTED,
        EventType.SHADOW_EXCEPTION,
        EventType.JOB_HELD,
        EventType.JOB_RELEASED,
        EventType.JOB_TERMINATED,
        EventType.JOB_TERMINATED,
        EventType.JOB_ABORTED,
    ]
    assert {(event["Cluster"], event["Proc"]) for event in events} == {job}
    assert events[0]["LogNotes"] == "a/key:1"
    slot = events[1]["ExecuteProps"]
    assert (slot["CapacityClass"], slot["SwarmTaskId"], slot["SwarmNode"]) == ("big", "t", "n")
    assert slot["Memory"] == 2048
    assert (events[3]["Reason"], events[3]["ReasonCode"]) == (
        "went away",
        HoldCode.JOB_OUT_OF_RESOURCES,
    )
    assert events[4]["Message"] == "broken"
    held = events[5]
    assert (held["HoldReason"], held["HoldReasonCode"], held["HoldReasonSubCode"]) == (
        "too much",
        HoldCode.JOB_OUT_OF_RESOURCES,
        HoldSubcode.MEMORY,
    )
    assert events[6]["Reason"] == "again"
    assert (events[7]["ReturnValue"], events[7]["RequestMemory"]) == (3, 1800)
    assert events[8]["TerminatedBySignal"] == 9
    assert events[9]["Reason"] == "no more"
    assert not log.damaged


def test_each_event_is_read_once(log: EventLog, writer: EventLogWriter) -> None:
    assert _clusters(log) == []
    for cluster in (1, 2):
        writer.submitted(JobId(cluster, 0), TIMESTAMP, "k")
    assert _clusters(log) == [1, 2]
    assert _clusters(log) == []
    writer.submitted(JobId(3, 0), TIMESTAMP, "k")
    assert _clusters(log) == [3]
    assert not log.damaged


def test_a_partial_event_does_not_block(log: EventLog, writer: EventLogWriter) -> None:
    writer.submitted(JobId(1, 0), TIMESTAMP, "k")
    event = log.path.read_bytes()
    log.path.write_bytes(event + event[:30])
    began = time.monotonic()
    assert _clusters(log) == []
    assert time.monotonic() - began < 0.5
    log.path.write_bytes(event + event)
    assert _clusters(log) == [1, 1]
    assert not log.damaged


def test_a_partial_event_that_stays(log: EventLog, writer: EventLogWriter) -> None:
    writer.submitted(JobId(1, 0), TIMESTAMP, "k")
    event = log.path.read_bytes()
    log.path.write_bytes(event + event[:30])
    _clusters(log)
    os.utime(log.path)
    # It has not grown: the events before it are read.
    assert _clusters(log) == [1]
    log.path.write_bytes(event + event[:30] + b"\n...\n")
    assert _clusters(log) == []
    assert log.damaged
    log.damaged = False
    writer.submitted(JobId(2, 0), TIMESTAMP, "k")
    assert _clusters(log) == [2]
    assert not log.damaged


GARBAGE = [b"no event\n...\n", b"\x00\x01\n...\n", b"000 (bad\n...\n", b"...\n...\n"]


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_is_detected_and_skipped(
    log: EventLog, writer: EventLogWriter, garbage: bytes
) -> None:
    writer.submitted(JobId(1, 0), TIMESTAMP, "k")
    assert _clusters(log) == [1]
    with log.path.open("ab") as file:
        file.write(garbage)
    _clusters(log)
    assert log.damaged
    log.damaged = False
    writer.submitted(JobId(2, 0), TIMESTAMP, "k")
    writer.submitted(JobId(3, 0), TIMESTAMP, "k")
    assert _clusters(log)[-1] == 3
    writer.submitted(JobId(4, 0), TIMESTAMP, "k")
    assert _clusters(log) == [4]
    assert not log.damaged


def test_a_file_that_is_not_a_log(log: EventLog) -> None:
    log.path.write_bytes(b"something else\n...\n")
    assert _clusters(log) == []
    assert log.damaged
    assert not log.is_valid
    log.quarantine()
    assert not log.path.exists()
    assert log.path.with_suffix(".damaged").exists()
    assert log.is_valid


def test_a_shorter_file_is_read_from_its_beginning(log: EventLog, writer: EventLogWriter) -> None:
    for cluster in (1, 2):
        writer.submitted(JobId(cluster, 0), TIMESTAMP, "k")
    _clusters(log)
    os.truncate(log.path, 0)
    writer.submitted(JobId(3, 0), TIMESTAMP, "k")
    assert _clusters(log) == [3]
    assert log.damaged


def test_a_longer_new_file_is_read_from_its_beginning(
    log: EventLog, writer: EventLogWriter
) -> None:
    writer.submitted(JobId(1, 0), TIMESTAMP, "k")
    _clusters(log)
    os.truncate(log.path, 0)
    for cluster in (3, 4, 5):
        writer.submitted(JobId(cluster, 0), TIMESTAMP + 60, "k")
    assert _clusters(log) == [3, 4, 5]
    assert log.damaged


def test_a_file_that_is_deleted_and_created_again(log: EventLog, writer: EventLogWriter) -> None:
    writer.submitted(JobId(1, 0), TIMESTAMP, "k")
    _clusters(log)
    log.path.unlink()
    assert _clusters(log) == []
    assert log.damaged
    log.damaged = False
    assert _clusters(log) == []
    assert not log.damaged
    writer.submitted(JobId(2, 0), TIMESTAMP, "k")
    assert _clusters(log) == [2]


def test_the_bindings_state_has_their_position(log: EventLog, writer: EventLogWriter) -> None:
    """`EventLog` uses the offset in the reader's pickled state."""
    writer.submitted(JobId(1, 0), TIMESTAMP, "k")
    _clusters(log)
    state, offset = log._reader.__getstate__()
    assert offset == log.path.stat().st_size
    assert f"/proc/self/fd/{log._fd}" in str(pickle.dumps(state))
