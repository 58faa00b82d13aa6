"""Virtual machines as jobs: checks of their disks, returned files, and outcomes."""

from __future__ import annotations

import gzip
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from swarm_runner.errors import InvalidInputError
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.job import Job, OutcomeKind
from swarm_runner.model.pool import CapacityClass
from swarm_runner.runner.vm import fat
from tests.unit.runner.conftest import RunnerHarness
from tests.unit.runner.vm.test_disk_header import qcow2
from tests.unit.runner.vm.test_fat import GOLDEN

MB = 2**20
WITH_MARKER: dict[str, Any] = {"success": {"text": "all done"}}


@pytest.fixture
def vm_harness(harness: RunnerHarness) -> RunnerHarness:
    """Return the harness with a class for virtual machines, and disks on the volume."""
    vm_class = CapacityClass(memory_mb=512, disk_mb=2000, virtual_machines=1, emulate=True)
    pool = harness.destination.pool
    pool = pool.model_copy(update={"classes": pool.classes | {"vm": vm_class}})
    (harness.volume / "guest.img").write_bytes(b"boot".ljust(2 * MB, b"\0"))
    (harness.volume / "answer.img").write_bytes(bytes(MB))
    return replace(harness, destination=harness.destination.model_copy(update={"pool": pool}))


def vm_invocation(harness: RunnerHarness, key: str = "k", **fields: Any) -> Invocation:
    disks = [
        {"file": "guest.img"},
        {"file": "answer.img", "device": "vdb", "permission": "w", "returned": "new.img"},
    ]
    vm = {"memory_mb": 64, "disks": disks} | fields
    return harness.invocation(key, image=None, command=None, vm=vm)


def finished_job(harness: RunnerHarness, invocation: Invocation, **outputs: bytes) -> Job:
    with harness.runner() as runner:
        [job] = runner.submit([invocation])
        assert job.memory_mb == 64
        harness.run_later(harness.access_point.start, job.id)
        written = {"console.txt": b"hello", "answer.img": b"42"} | outputs
        harness.run_later(harness.access_point.finish, job.id, outputs=written)
        [job] = runner.wait([job], timeout_s=5)
    return job


def error_message(harness: RunnerHarness, *invocations: Invocation) -> str:
    with harness.runner() as runner, pytest.raises(InvalidInputError) as caught:
        runner.submit(invocations)
    assert not harness.access_point.queue
    return str(caught.value)


def test_a_marker_on_the_console(vm_harness: RunnerHarness) -> None:
    job = finished_job(
        vm_harness,
        vm_invocation(vm_harness, **WITH_MARKER),
        **{"console.txt": b"x\r\nall done\r\n"},
    )
    assert job.outcome is not None
    assert job.outcome.ok
    assert (vm_harness.volume / "console.txt").read_bytes() == b"x\r\nall done\r\n"
    assert (vm_harness.volume / "new.img").read_bytes() == b"42"
    assert (vm_harness.volume / "answer.img").stat().st_size == MB, "the original disk is unchanged"


def test_a_marker_on_a_returned_disk(vm_harness: RunnerHarness) -> None:
    marked = vm_invocation(vm_harness, success={"text": "all done", "disk": "vdb"})
    outcome = finished_job(vm_harness, marked, **{"answer.img": bytes(5000) + b"all done"}).outcome
    assert outcome is not None
    assert outcome.ok


def test_a_file_on_a_returned_disk(vm_harness: RunnerHarness) -> None:
    marked = vm_invocation(vm_harness, success={"file": "/done/ok", "disk": "vdb"})
    disk = gzip.decompress(GOLDEN.read_bytes())
    outcome = finished_job(vm_harness, marked, **{"answer.img": disk}).outcome
    assert outcome is not None
    assert outcome.ok
    assert "the file /done/ok, is in" in outcome.message
    (vm_harness.volume / "new.img").write_bytes(bytes(100))
    os.utime(vm_harness.volume / "new.img", (vm_harness.clock(), vm_harness.clock()))
    assert "no FAT file system can be read" in recovered_message(vm_harness)
    # The disk of an earlier guest, used by the next one.
    (vm_harness.volume / "answer.img").write_bytes(disk)
    again = vm_invocation(vm_harness, "again", success={"file": "/done/ok", "disk": "vdb"})
    with (
        vm_harness.runner() as runner,
        pytest.raises(InvalidInputError, match="contains the file /done/ok"),
    ):
        runner.submit([again])


def test_a_marker_file_requires_an_optional_library(
    vm_harness: RunnerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fat, "LIBRARY", "no_such_library")
    marked = vm_invocation(vm_harness, success={"file": "/done/ok", "disk": "vdb"})
    assert "pip install 'swarm-runner[guests]'" in error_message(vm_harness, marked)


@pytest.mark.parametrize(
    ("fields", "console", "message"),
    [
        (
            {},
            b"hello",
            "it is unknown whether it did its work: its invocation names no success marker",
        ),
        (WITH_MARKER, b"panic", "its success marker, 'all done', is not in"),
        (WITH_MARKER, b"", "its success marker, 'all done', is not in"),
    ],
)
def test_a_guest_without_its_marker_is_unconfirmed(
    vm_harness: RunnerHarness, fields: dict[str, Any], console: bytes, message: str
) -> None:
    outcome = finished_job(
        vm_harness, vm_invocation(vm_harness, **fields), **{"console.txt": console}
    ).outcome
    assert outcome is not None
    assert (outcome.kind, outcome.ok) == (OutcomeKind.UNCONFIRMED, False)
    assert message in outcome.message


def test_a_guest_is_unconfirmed_after_its_console_was_deleted(vm_harness: RunnerHarness) -> None:
    job = finished_job(
        vm_harness, vm_invocation(vm_harness, **WITH_MARKER), **{"console.txt": b"all done"}
    )
    (vm_harness.volume / "console.txt").unlink()
    with vm_harness.runner() as runner:
        [again] = runner.recover()
    assert again.id == job.id
    assert again.outcome is not None
    assert again.outcome.kind is OutcomeKind.UNCONFIRMED
    assert "cannot be read" in again.outcome.message


def recovered_message(harness: RunnerHarness) -> str:
    """Return the message of the unconfirmed outcome that a new runner finds."""
    with harness.runner() as runner:
        [job] = runner.recover()
    assert job.outcome is not None
    assert job.outcome.kind is OutcomeKind.UNCONFIRMED
    return job.outcome.message


def test_the_console_of_an_earlier_guest_confirms_nothing(vm_harness: RunnerHarness) -> None:
    console = vm_harness.volume / "console.txt"
    finished_job(
        vm_harness, vm_invocation(vm_harness, **WITH_MARKER), **{"console.txt": b"all done"}
    )
    earlier, later = vm_harness.clock() - 1000, vm_harness.clock() + 1000
    os.utime(console, (earlier, earlier))
    assert "is older than the job's start" in recovered_message(vm_harness)
    os.utime(console, (later, later))
    assert "was overwritten after the job's end" in recovered_message(vm_harness)


def test_a_disk_that_already_contains_the_marker_is_rejected(
    vm_harness: RunnerHarness,
) -> None:
    (vm_harness.volume / "answer.img").write_bytes(bytes(5000) + b"all done" + bytes(MB))
    message = error_message(
        vm_harness, vm_invocation(vm_harness, success={"text": "all done", "disk": "vdb"})
    )
    assert f"{vm_harness.volume}/answer.img contains 'all done' before the guest starts" in message


@pytest.mark.parametrize(
    ("content", "disk", "message"),
    [
        (qcow2(), {}, "is declared raw, but contains qcow2; set format: qcow2"),
        (b"boot", {"format": "qcow2"}, "has no qcow2 header; set format: raw"),
        (b"KDMV".ljust(MB, b"\0"), {}, "contains vmdk; convert it to raw or qcow2"),
        (qcow2(backing_file_offset=9), {"format": "qcow2"}, "it needs a backing file"),
        (b"", {}, "is empty"),
        (None, {}, "does not exist"),
        (b"x", {"permission": "w", "returned": "d.img"}, "would overwrite a disk"),
        (b"x", {"permission": "w", "returned": "no/d.img"}, "is not a directory"),
        (
            qcow2(size=3000 * MB),
            {"format": "qcow2", "permission": "w"},
            "3016 MB disk fits no class",
        ),
    ],
)
def test_an_unusable_disk_is_rejected_before_anything_is_submitted(
    vm_harness: RunnerHarness, content: bytes | None, disk: dict[str, Any], message: str
) -> None:
    if content is not None:
        (vm_harness.volume / "d.img").write_bytes(content)
    assert message in error_message(
        vm_harness, vm_invocation(vm_harness, disks=[{"file": "d.img"} | disk])
    )


def test_a_disk_that_is_a_directory(vm_harness: RunnerHarness) -> None:
    (vm_harness.volume / "d.img").mkdir()
    assert "Is a directory" in error_message(
        vm_harness, vm_invocation(vm_harness, disks=[{"file": "d.img"}])
    )


def test_a_disk_overwrites_the_original_only_if_requested(vm_harness: RunnerHarness) -> None:
    disk = {"file": str(vm_harness.volume / "answer.img"), "permission": "w", "overwrite": True}
    finished_job(vm_harness, vm_invocation(vm_harness, disks=[disk]))
    assert (vm_harness.volume / "answer.img").read_bytes() == b"42"


@pytest.mark.parametrize("returned", ["new.img", "./new.img", "link/new.img"])
def test_two_guests_cannot_return_disks_to_the_same_file(
    vm_harness: RunnerHarness, returned: str
) -> None:
    (vm_harness.volume / "link").symlink_to(".")
    disk = {"file": "answer.img", "permission": "w", "returned": returned}
    both = (
        vm_invocation(vm_harness, "a"),
        vm_invocation(vm_harness, "b", console="b.txt", disks=[disk]),
    )
    assert "new.img is also written by a" in error_message(vm_harness, *both)


def test_two_guests_cannot_write_to_the_same_disk_in_place(vm_harness: RunnerHarness) -> None:
    disk = {"file": str(vm_harness.volume / "answer.img"), "permission": "w", "overwrite": True}
    fields: dict[str, Any] = {"disks": [disk], "checkpoint": True}
    both = [vm_invocation(vm_harness, key, console=f"{key}.txt", **fields) for key in "ab"]
    assert error_message(vm_harness, *both).count("answer.img is also written by a") == 1


@pytest.mark.parametrize("order", [1, -1])
def test_a_guest_cannot_return_a_disk_to_a_file_that_another_reads(
    vm_harness: RunnerHarness, order: int
) -> None:
    (vm_harness.volume / "new.img").write_bytes(b"x")
    both = [
        vm_invocation(vm_harness, "a"),
        vm_invocation(vm_harness, "b", console="b.txt", disks=[{"file": "./new.img"}]),
    ]
    assert "new.img is written by a of the same batch" in error_message(vm_harness, *both[::order])


def test_a_checkpoint_requires_a_volume(vm_harness: RunnerHarness, tmp_path: Path) -> None:
    disk = tmp_path / "disk.img"
    disk.write_bytes(b"x")
    invocation = vm_invocation(vm_harness, disks=[{"file": str(disk)}], checkpoint=True)
    assert "is not on a pool volume" in error_message(vm_harness, invocation)


def test_disks_outside_the_volumes_are_spooled(vm_harness: RunnerHarness) -> None:
    for name in ("guest.img", "answer.img"):
        (vm_harness.home / name).write_bytes(b"x")
    job = finished_job(
        vm_harness,
        vm_invocation(vm_harness, **WITH_MARKER).model_copy(
            update={"working_directory": str(vm_harness.home)}
        ),
    )
    assert job.outcome is not None
    assert job.outcome.kind is OutcomeKind.UNCONFIRMED
    assert (vm_harness.home / "new.img").read_bytes() == b"42"


def test_a_local_file_confirms_nothing_before_the_outputs_are_retrieved(
    vm_harness: RunnerHarness,
) -> None:
    for name in ("guest.img", "answer.img"):
        (vm_harness.home / name).write_bytes(b"x")
    (vm_harness.home / "console.txt").write_bytes(b"all done")
    with vm_harness.runner() as runner:
        invocation = vm_invocation(vm_harness, **WITH_MARKER).model_copy(
            update={"working_directory": str(vm_harness.home)}
        )
        [job] = runner.submit([invocation])
        vm_harness.access_point.queue[job.id]["SwarmRunnerHost"] = "another-host"
        vm_harness.run_later(vm_harness.access_point.start, job.id)
        now = vm_harness.clock()
        os.utime(vm_harness.home / "console.txt", (now, now))
        vm_harness.run_later(
            vm_harness.access_point.finish, job.id, outputs={"console.txt": b"", "answer.img": b""}
        )
        [job] = runner.wait([job], timeout_s=5)
    assert job.outcome is not None
    assert job.outcome.kind is OutcomeKind.UNCONFIRMED
    assert "have not been retrieved from the access point" in job.outcome.message
