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
from swarm_runner.runner import fat
from tests.unit.model.test_disk_header import qcow2
from tests.unit.runner.conftest import World
from tests.unit.runner.test_fat import GOLDEN

MB = 2**20
MARKED: dict[str, Any] = {"success": {"text": "all done"}}


@pytest.fixture
def here(world: World) -> World:
    """With a class for virtual machines, and disks on the volume."""
    machines = CapacityClass(memory_mb=512, disk_mb=2000, virtual_machines=1, emulate=True)
    pool = world.destination.pool
    pool = pool.model_copy(update={"classes": pool.classes | {"vm": machines}})
    (world.volume / "guest.img").write_bytes(b"boot".ljust(2 * MB, b"\0"))
    (world.volume / "answer.img").write_bytes(bytes(MB))
    return replace(world, destination=world.destination.model_copy(update={"pool": pool}))


def machine(world: World, key: str = "k", **fields: Any) -> Invocation:
    disks = [
        {"file": "guest.img"},
        {"file": "answer.img", "device": "vdb", "permission": "w", "returned": "new.img"},
    ]
    vm = {"memory_mb": 64, "disks": disks} | fields
    return world.invocation(key, image=None, command=None, vm=vm)


def ended(world: World, invocation: Invocation, **outputs: bytes) -> Job:
    with world.runner() as runner:
        [job] = runner.submit([invocation])
        assert job.memory_mb == 64
        world.later(world.access_point.start, job.id)
        written = {"console.txt": b"hello", "answer.img": b"42"} | outputs
        world.later(world.access_point.finish, job.id, outputs=written)
        [job] = runner.wait([job], timeout_s=5)
    return job


def said(world: World, *invocations: Invocation) -> str:
    with world.runner() as runner, pytest.raises(InvalidInputError) as caught:
        runner.submit(invocations)
    assert not world.access_point.queue
    return str(caught.value)


def test_a_guest_that_says_so_did_its_work(here: World) -> None:
    job = ended(here, machine(here, **MARKED), **{"console.txt": b"x\r\nall done\r\n"})
    assert job.outcome is not None
    assert job.outcome.ok
    assert (here.volume / "console.txt").read_bytes() == b"x\r\nall done\r\n"
    assert (here.volume / "new.img").read_bytes() == b"42"
    assert (here.volume / "answer.img").stat().st_size == MB, "the user's own is as it was"


def test_a_marker_on_a_returned_disk(here: World) -> None:
    marked = machine(here, success={"text": "all done", "disk": "vdb"})
    outcome = ended(here, marked, **{"answer.img": bytes(5000) + b"all done"}).outcome
    assert outcome is not None
    assert outcome.ok


def test_a_file_on_a_returned_disk(here: World) -> None:
    marked = machine(here, success={"file": "/done/ok", "disk": "vdb"})
    disk = gzip.decompress(GOLDEN.read_bytes())
    outcome = ended(here, marked, **{"answer.img": disk}).outcome
    assert outcome is not None
    assert outcome.ok
    assert "the file /done/ok, is in" in outcome.message
    (here.volume / "new.img").write_bytes(bytes(100))
    os.utime(here.volume / "new.img", (here.clock(), here.clock()))
    assert "no FAT file system can be read" in recovered(here)
    # An earlier guest's disk, given to the next one.
    (here.volume / "answer.img").write_bytes(disk)
    again = machine(here, "again", success={"file": "/done/ok", "disk": "vdb"})
    with here.runner() as runner, pytest.raises(InvalidInputError, match="holds the file /done/ok"):
        runner.submit([again])


def test_a_file_is_looked_for_by_a_library_that_not_everybody_has(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fat, "LIBRARY", "no_such_library")
    marked = machine(here, success={"file": "/done/ok", "disk": "vdb"})
    assert "pip install 'swarm-runner[guests]'" in said(here, marked)


@pytest.mark.parametrize(
    ("fields", "console", "says"),
    [
        ({}, b"hello", "names no success marker, so that it is unknown"),
        (MARKED, b"panic", "'all done' is not in"),
        (MARKED, b"", "'all done' is not in"),
    ],
)
def test_without_its_marker_nobody_knows(
    here: World, fields: dict[str, Any], console: bytes, says: str
) -> None:
    outcome = ended(here, machine(here, **fields), **{"console.txt": console}).outcome
    assert outcome is not None
    assert (outcome.kind, outcome.ok) == (OutcomeKind.UNCONFIRMED, False)
    assert says in outcome.message


def test_who_looks_when_the_console_is_gone_cannot_confirm_it(here: World) -> None:
    job = ended(here, machine(here, **MARKED), **{"console.txt": b"all done"})
    (here.volume / "console.txt").unlink()
    with here.runner() as runner:
        [again] = runner.recover()
    assert again.id == job.id
    assert again.outcome is not None
    assert again.outcome.kind is OutcomeKind.UNCONFIRMED
    assert "cannot be read" in again.outcome.message


def recovered(world: World) -> str:
    """What a runner that begins anew says of the guest, which it cannot confirm."""
    with world.runner() as runner:
        [job] = runner.recover()
    assert job.outcome is not None
    assert job.outcome.kind is OutcomeKind.UNCONFIRMED
    return job.outcome.message


def test_a_console_of_an_earlier_guest_confirms_nothing(here: World) -> None:
    console = here.volume / "console.txt"
    ended(here, machine(here, **MARKED), **{"console.txt": b"all done"})
    earlier, later = here.clock() - 1000, here.clock() + 1000
    os.utime(console, (earlier, earlier))
    assert "is older than its start" in recovered(here)
    os.utime(console, (later, later))
    assert "was overwritten after its end" in recovered(here)


def test_a_marker_that_is_there_before_the_guest_starts_is_refused(here: World) -> None:
    (here.volume / "answer.img").write_bytes(bytes(5000) + b"all done" + bytes(MB))
    says = said(here, machine(here, success={"text": "all done", "disk": "vdb"}))
    assert f"{here.volume}/answer.img holds 'all done' before the guest starts" in says


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
    here: World, content: bytes | None, disk: dict[str, Any], says: str
) -> None:
    if content is not None:
        (here.volume / "d.img").write_bytes(content)
    assert says in said(here, machine(here, disks=[{"file": "d.img"} | disk]))


def test_what_no_executor_runs_is_refused_whatever_plugin_routes(here: World) -> None:
    assert "vm.type: xen: the pool's executors run kvm" in said(here, machine(here, type="xen"))


def test_a_disk_that_is_a_directory(here: World) -> None:
    (here.volume / "d.img").mkdir()
    assert "Is a directory" in said(here, machine(here, disks=[{"file": "d.img"}]))


def test_a_disk_comes_back_to_itself_only_when_asked(here: World) -> None:
    disk = {"file": str(here.volume / "answer.img"), "permission": "w", "overwrite": True}
    ended(here, machine(here, disks=[disk]))
    assert (here.volume / "answer.img").read_bytes() == b"42"


@pytest.mark.parametrize("returned", ["new.img", "./new.img", "there/new.img"])
def test_two_guests_do_not_bring_their_disks_to_one_file(here: World, returned: str) -> None:
    (here.volume / "there").symlink_to(".")
    disk = {"file": "answer.img", "permission": "w", "returned": returned}
    both = (machine(here, "a"), machine(here, "b", console="b.txt", disks=[disk]))
    assert "new.img is what a writes too" in said(here, *both)


def test_two_guests_do_not_write_to_one_disk_in_place(here: World) -> None:
    disk = {"file": str(here.volume / "answer.img"), "permission": "w", "overwrite": True}
    fields: dict[str, Any] = {"disks": [disk], "checkpoint": True}
    both = [machine(here, key, console=f"{key}.txt", **fields) for key in "ab"]
    assert said(here, *both).count("answer.img is what a writes too") == 1


@pytest.mark.parametrize("order", [1, -1])
def test_a_guest_does_not_bring_its_disk_to_where_another_reads(here: World, order: int) -> None:
    (here.volume / "new.img").write_bytes(b"x")
    both = [machine(here, "a"), machine(here, "b", console="b.txt", disks=[{"file": "./new.img"}])]
    assert "new.img is what a of the same batch writes" in said(here, *both[::order])


def test_a_checkpoint_needs_a_volume(here: World, tmp_path: Path) -> None:
    disk = tmp_path / "disk.img"
    disk.write_bytes(b"x")
    wrong = machine(here, disks=[{"file": str(disk)}], checkpoint=True)
    assert "on none of the pool's volumes" in said(here, wrong)


def test_disks_from_elsewhere_are_spooled(here: World) -> None:
    for name in ("guest.img", "answer.img"):
        (here.home / name).write_bytes(b"x")
    job = ended(
        here, machine(here, **MARKED).model_copy(update={"working_directory": str(here.home)})
    )
    assert job.outcome is not None
    assert job.outcome.kind is OutcomeKind.UNCONFIRMED
    assert (here.home / "new.img").read_bytes() == b"42"


def test_what_waits_at_the_access_point_is_not_judged_by_what_lies_here(here: World) -> None:
    for name in ("guest.img", "answer.img"):
        (here.home / name).write_bytes(b"x")
    (here.home / "console.txt").write_bytes(b"all done")
    with here.runner() as runner:
        away = machine(here, **MARKED).model_copy(update={"working_directory": str(here.home)})
        [job] = runner.submit([away])
        here.access_point.queue[job.id]["SwarmRunnerHost"] = "another-machine"
        here.later(here.access_point.start, job.id)
        now = here.clock()
        os.utime(here.home / "console.txt", (now, now))
        here.later(
            here.access_point.finish, job.id, outputs={"console.txt": b"", "answer.img": b""}
        )
        [job] = runner.wait([job], timeout_s=5)
    assert job.outcome is not None
    assert job.outcome.kind is OutcomeKind.UNCONFIRMED
    assert "waits at the access point" in job.outcome.message
