"""Virtual machines: their disks are looked at, what comes back is named, their end is judged."""

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
MARKED: dict[str, Any] = {"success": {"text": "all done"}}


@pytest.fixture
def vm_harness(harness: RunnerHarness) -> RunnerHarness:
    """With a class for virtual machines, and disks on the volume."""
    machines = CapacityClass(memory_mb=512, disk_mb=2000, virtual_machines=1, emulate=True)
    pool = harness.destination.pool
    pool = pool.model_copy(update={"classes": pool.classes | {"vm": machines}})
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


def test_a_guest_that_says_so_did_its_work(vm_harness: RunnerHarness) -> None:
    job = finished_job(
        vm_harness, vm_invocation(vm_harness, **MARKED), **{"console.txt": b"x\r\nall done\r\n"}
    )
    assert job.outcome is not None
    assert job.outcome.ok
    assert (vm_harness.volume / "console.txt").read_bytes() == b"x\r\nall done\r\n"
    assert (vm_harness.volume / "new.img").read_bytes() == b"42"
    assert (vm_harness.volume / "answer.img").stat().st_size == MB, "the user's own is as it was"


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
    assert "no FAT file system can be read" in recovered(vm_harness)
    # An earlier guest's disk, given to the next one.
    (vm_harness.volume / "answer.img").write_bytes(disk)
    again = vm_invocation(vm_harness, "again", success={"file": "/done/ok", "disk": "vdb"})
    with (
        vm_harness.runner() as runner,
        pytest.raises(InvalidInputError, match="holds the file /done/ok"),
    ):
        runner.submit([again])


def test_a_file_is_looked_for_by_a_library_that_not_everybody_has(
    vm_harness: RunnerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fat, "LIBRARY", "no_such_library")
    marked = vm_invocation(vm_harness, success={"file": "/done/ok", "disk": "vdb"})
    assert "pip install 'swarm-runner[guests]'" in error_message(vm_harness, marked)


@pytest.mark.parametrize(
    ("fields", "console", "says"),
    [
        ({}, b"hello", "names no success marker, so that it is unknown"),
        (MARKED, b"panic", "'all done' is not in"),
        (MARKED, b"", "'all done' is not in"),
    ],
)
def test_without_its_marker_nobody_knows(
    vm_harness: RunnerHarness, fields: dict[str, Any], console: bytes, says: str
) -> None:
    outcome = finished_job(
        vm_harness, vm_invocation(vm_harness, **fields), **{"console.txt": console}
    ).outcome
    assert outcome is not None
    assert (outcome.kind, outcome.ok) == (OutcomeKind.UNCONFIRMED, False)
    assert says in outcome.message


def test_who_looks_when_the_console_is_gone_cannot_confirm_it(vm_harness: RunnerHarness) -> None:
    job = finished_job(
        vm_harness, vm_invocation(vm_harness, **MARKED), **{"console.txt": b"all done"}
    )
    (vm_harness.volume / "console.txt").unlink()
    with vm_harness.runner() as runner:
        [again] = runner.recover()
    assert again.id == job.id
    assert again.outcome is not None
    assert again.outcome.kind is OutcomeKind.UNCONFIRMED
    assert "cannot be read" in again.outcome.message


def recovered(harness: RunnerHarness) -> str:
    """What a runner that begins anew says of the guest, which it cannot confirm."""
    with harness.runner() as runner:
        [job] = runner.recover()
    assert job.outcome is not None
    assert job.outcome.kind is OutcomeKind.UNCONFIRMED
    return job.outcome.message


def test_a_console_of_an_earlier_guest_confirms_nothing(vm_harness: RunnerHarness) -> None:
    console = vm_harness.volume / "console.txt"
    finished_job(vm_harness, vm_invocation(vm_harness, **MARKED), **{"console.txt": b"all done"})
    earlier, later = vm_harness.clock() - 1000, vm_harness.clock() + 1000
    os.utime(console, (earlier, earlier))
    assert "is older than its start" in recovered(vm_harness)
    os.utime(console, (later, later))
    assert "was overwritten after its end" in recovered(vm_harness)


def test_a_marker_that_is_there_before_the_guest_starts_is_refused(
    vm_harness: RunnerHarness,
) -> None:
    (vm_harness.volume / "answer.img").write_bytes(bytes(5000) + b"all done" + bytes(MB))
    says = error_message(
        vm_harness, vm_invocation(vm_harness, success={"text": "all done", "disk": "vdb"})
    )
    assert f"{vm_harness.volume}/answer.img holds 'all done' before the guest starts" in says


@pytest.mark.parametrize(
    ("content", "disk", "says"),
    [
        (qcow2(), {}, "is declared raw, but is qcow2 inside; say format: qcow2"),
        (b"boot", {"format": "qcow2"}, "is no qcow2 by its own header; say format: raw"),
        (b"KDMV".ljust(MB, b"\0"), {}, "is vmdk inside; make a raw or qcow2 disk of it first"),
        (qcow2(backing=9), {"format": "qcow2"}, "the difference to a backing file"),
        (b"", {}, "is empty"),
        (None, {}, "does not exist"),
        (b"x", {"permission": "w", "returned": "d.img"}, "would be overwritten"),
        (b"x", {"permission": "w", "returned": "no/d.img"}, "is no directory here"),
        (
            qcow2(size=3000 * MB),
            {"format": "qcow2", "permission": "w"},
            "3016 MB disk fits no class",
        ),
    ],
)
def test_a_disk_that_will_not_do_is_refused_before_anything_is_sent(
    vm_harness: RunnerHarness, content: bytes | None, disk: dict[str, Any], says: str
) -> None:
    if content is not None:
        (vm_harness.volume / "d.img").write_bytes(content)
    assert says in error_message(
        vm_harness, vm_invocation(vm_harness, disks=[{"file": "d.img"} | disk])
    )


def test_what_no_executor_runs_is_refused_whatever_plugin_routes(vm_harness: RunnerHarness) -> None:
    assert "vm.type: xen: the pool's executors run kvm" in error_message(
        vm_harness, vm_invocation(vm_harness, type="xen")
    )


def test_a_disk_that_is_a_directory(vm_harness: RunnerHarness) -> None:
    (vm_harness.volume / "d.img").mkdir()
    assert "Is a directory" in error_message(
        vm_harness, vm_invocation(vm_harness, disks=[{"file": "d.img"}])
    )


def test_a_disk_comes_back_to_itself_only_when_asked(vm_harness: RunnerHarness) -> None:
    disk = {"file": str(vm_harness.volume / "answer.img"), "permission": "w", "overwrite": True}
    finished_job(vm_harness, vm_invocation(vm_harness, disks=[disk]))
    assert (vm_harness.volume / "answer.img").read_bytes() == b"42"


@pytest.mark.parametrize("returned", ["new.img", "./new.img", "there/new.img"])
def test_two_guests_do_not_bring_their_disks_to_one_file(
    vm_harness: RunnerHarness, returned: str
) -> None:
    (vm_harness.volume / "there").symlink_to(".")
    disk = {"file": "answer.img", "permission": "w", "returned": returned}
    both = (
        vm_invocation(vm_harness, "a"),
        vm_invocation(vm_harness, "b", console="b.txt", disks=[disk]),
    )
    assert "new.img is what a writes too" in error_message(vm_harness, *both)


def test_two_guests_do_not_write_to_one_disk_in_place(vm_harness: RunnerHarness) -> None:
    disk = {"file": str(vm_harness.volume / "answer.img"), "permission": "w", "overwrite": True}
    fields: dict[str, Any] = {"disks": [disk], "checkpoint": True}
    both = [vm_invocation(vm_harness, key, console=f"{key}.txt", **fields) for key in "ab"]
    assert error_message(vm_harness, *both).count("answer.img is what a writes too") == 1


@pytest.mark.parametrize("order", [1, -1])
def test_a_guest_does_not_bring_its_disk_to_where_another_reads(
    vm_harness: RunnerHarness, order: int
) -> None:
    (vm_harness.volume / "new.img").write_bytes(b"x")
    both = [
        vm_invocation(vm_harness, "a"),
        vm_invocation(vm_harness, "b", console="b.txt", disks=[{"file": "./new.img"}]),
    ]
    assert "new.img is what a of the same batch writes" in error_message(vm_harness, *both[::order])


def test_a_checkpoint_needs_a_volume(vm_harness: RunnerHarness, tmp_path: Path) -> None:
    disk = tmp_path / "disk.img"
    disk.write_bytes(b"x")
    wrong = vm_invocation(vm_harness, disks=[{"file": str(disk)}], checkpoint=True)
    assert "on none of the pool's volumes" in error_message(vm_harness, wrong)


def test_disks_from_elsewhere_are_spooled(vm_harness: RunnerHarness) -> None:
    for name in ("guest.img", "answer.img"):
        (vm_harness.home / name).write_bytes(b"x")
    job = finished_job(
        vm_harness,
        vm_invocation(vm_harness, **MARKED).model_copy(
            update={"working_directory": str(vm_harness.home)}
        ),
    )
    assert job.outcome is not None
    assert job.outcome.kind is OutcomeKind.UNCONFIRMED
    assert (vm_harness.home / "new.img").read_bytes() == b"42"


def test_what_waits_at_the_access_point_is_not_judged_by_what_lies_here(
    vm_harness: RunnerHarness,
) -> None:
    for name in ("guest.img", "answer.img"):
        (vm_harness.home / name).write_bytes(b"x")
    (vm_harness.home / "console.txt").write_bytes(b"all done")
    with vm_harness.runner() as runner:
        away = vm_invocation(vm_harness, **MARKED).model_copy(
            update={"working_directory": str(vm_harness.home)}
        )
        [job] = runner.submit([away])
        vm_harness.access_point.queue[job.id]["SwarmRunnerHost"] = "another-machine"
        vm_harness.run_later(vm_harness.access_point.start, job.id)
        now = vm_harness.clock()
        os.utime(vm_harness.home / "console.txt", (now, now))
        vm_harness.run_later(
            vm_harness.access_point.finish, job.id, outputs={"console.txt": b"", "answer.img": b""}
        )
        [job] = runner.wait([job], timeout_s=5)
    assert job.outcome is not None
    assert job.outcome.kind is OutcomeKind.UNCONFIRMED
    assert "waits at the access point" in job.outcome.message
