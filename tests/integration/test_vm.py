"""Virtual machines on a pool of their own: the tutorial's guest, and guests that end otherwise.

All of them run at once, the tutorial's commands beside a batch: HTCondor takes a minute for each.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import pytest

from swarm_runner.config.job_conf import parse_job_conf
from swarm_runner.model.job import Job, JobEvent, OutcomeKind
from swarm_runner.runner import Runner
from tests.integration.conftest import TIMEOUT_S
from tests.integration.guests import TASK_SCRIPT, full_featured_vm, in_place_vm, vm_invocation
from tests.lab.pool import LabPool, lab_pool
from tests.unit.runner.vm.test_disk_header import qcow2

ROOT = Path(__file__).parents[2]
NAME = "swarm-runner-test-vm"
PORT = 9720
# The tutorial's class, with room for all that is here at once.
JOB_CONF = ROOT / "examples" / "vm" / "job_conf.yml"
TUTORIAL = parse_job_conf(JOB_CONF.read_text(), str(JOB_CONF)).destination()
CLASS = TUTORIAL.pool.classes["vm"].model_dump(exclude_unset=True)
CLASSES = {"vm": CLASS | {"cpus": 7, "memory_mb": 768, "virtual_machines": 6}}
PROCESSES = ["sh", "-c", "cat /proc/[0-9]*/comm"]


@dataclass
class FinishedJobs:
    """What came of the batch, and of the tutorial's commands."""

    directory: Path
    jobs: dict[str, Job]
    tutorial: Path
    command_output: str

    def outcome_kind(self, key: str) -> OutcomeKind:
        outcome = self.jobs[key].outcome
        assert outcome is not None
        return outcome.kind

    def message(self, key: str) -> str:
        outcome = self.jobs[key].outcome
        assert outcome is not None
        return outcome.message


@pytest.fixture(scope="module")
def vm_pool() -> Iterator[LabPool]:
    with lab_pool(NAME, PORT, {"classes": CLASSES}) as pool:
        yield pool


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tutorial's files, which become its results."""
    directory = tmp_path_factory.mktemp("tutorial") / "vm"
    shutil.copytree(ROOT / "examples" / "vm", directory)
    return directory


def commands() -> list[str]:
    """What the tutorial tells to type, once there is a pool."""
    text = (ROOT / "docs" / "virtual-machines.md").read_text()
    text = text.partition("## 2. ")[2].partition("## What comes back")[0]
    return re.findall(r"^    \$ (.*)$", text, re.MULTILINE)


@pytest.fixture(scope="module")
def ended(vm_pool: LabPool, tutorial: Path) -> FinishedJobs:
    making, running = commands()[:3], commands()[3:]
    with run_script(making, tutorial, vm_pool.job_conf) as first:
        said = first.communicate(timeout=TIMEOUT_S)[0]
    assert first.returncode == 0, said
    directory = vm_pool.volume / "guests"
    directory.mkdir()
    directory.chmod(0o777)  # jobs write here as a user of their own
    (directory / "task").write_text(TASK_SCRIPT)
    with vm_executor_container(vm_pool) as container:
        killed = container.exec_run(["sh", "-c", "kill -KILL $(cat /run/libvirtd.pid)"])
        assert killed.exit_code == 0, "libvirtd is run again: none of what follows notices"
        names = [str(directory / name) for name in ("task", "task.qcow2")]
        made = container.exec_run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", *names])
        assert made.exit_code == 0, made.output
    with run_script(running, tutorial, vm_pool.job_conf) as then:
        jobs = run(vm_pool, directory, tutorial / "guest.img")
        said = then.communicate(timeout=TIMEOUT_S)[0]
    assert then.returncode == 0, said
    return FinishedJobs(directory, jobs, tutorial, said)


@contextlib.contextmanager
def vm_executor_container(vm_pool: LabPool) -> Iterator[Any]:
    """The executor's container; the second one, if that has a KVM."""
    [line] = vm_pool.provisioner.status().executors
    with contextlib.closing(docker.from_env()) as engine:
        label = f"swarm-runner.twin-of={line.container[:12]}"
        twins = engine.containers.list(filters={"label": label})
        yield twins[0] if twins else engine.containers.get(line.container)


def run_script(lines: list[str], directory: Path, job_conf: Path) -> subprocess.Popen[str]:
    """A shell that runs what the tutorial tells to type, in its directory."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.Popen(
        ["/bin/sh", "-ec", "\n".join(lines)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=directory,
        env=os.environ | {"SWARM_RUNNER_JOB_CONF": str(job_conf), "PATH": path},
    )


def run(vm_pool: LabPool, directory: Path, guest_image: Path) -> dict[str, Job]:
    """A batch of guests that end in different ways."""
    shutil.copy(guest_image, directory / "guest.img")
    (directory / "for-ever").write_text("while :; do sleep 1; done\n")
    (directory / "answer.img").write_bytes(bytes(2**16))
    (directory / "in-place.img").write_bytes(bytes(2**16))
    (directory / "in-place.img").chmod(0o666)  # QEMU is the pool's user
    # A header that says what is needed to be sent, and what QEMU does not take.
    (directory / "broken.qcow2").write_bytes(qcow2(cluster_bits=99))
    answer = {"file": "answer.img", "device": "vdc", "permission": "w", "returned": "new.img"}
    hanging = {"file": "for-ever", "device": "vdb"}
    batch = [
        vm_invocation(
            directory, "good", [{"file": "task", "device": "vdb"}, answer], success_text="42"
        ),
        full_featured_vm(directory),
        vm_invocation(directory, "hangs", [hanging], time_limit_s=35),
        vm_invocation(directory, "removed", [hanging]),
        vm_invocation(
            directory, "broken", [{"file": "broken.qcow2", "device": "vdb", "format": "qcow2"}]
        ),
    ]
    batch.append(in_place_vm(directory))
    with Runner(vm_pool.destination, name="guests") as runner:
        runner.submit(batch)
        for change in runner.watch(TIMEOUT_S):
            if change.job.key == "removed" and change.event is JobEvent.STARTED:
                assert runner.remove([change.job], "it's too slow") == 1
        return {job.key: job for job in runner.jobs()}


def test_the_status_is_as_the_tutorial_shows_it(vm_pool: LabPool) -> None:
    text = (ROOT / "docs" / "virtual-machines.md").read_text()
    [shown] = re.findall(r"^    (machines_htcondor-executor-vm .*)$", text, re.MULTILINE)
    [line] = vm_pool.provisioner.status().executors
    # On a machine whose KVM works that is what it says.
    expected = shown.replace(TUTORIAL.pool.name, NAME).replace("emulated", line.virtualization)
    with run_script(["swarm-runner pool status"], ROOT, vm_pool.job_conf) as status:
        said = status.communicate(timeout=TIMEOUT_S)[0]
    assert expected in [row.rstrip() for row in said.splitlines()]


def test_the_tutorial_word_for_word(ended: FinishedJobs) -> None:
    assert "the sum of the squares is 338350" in ended.command_output
    assert "exit code 0" in ended.command_output
    assert (ended.tutorial / "returned-answer.img").stat().st_size == 2**16
    assert (ended.tutorial / "answer.img").read_bytes() == bytes(2**16), "a copy was written to"


def test_the_tutorial_shows_its_files() -> None:
    text = (ROOT / "docs" / "virtual-machines.md").read_text()
    blocks = re.findall(r"^```yaml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    shown = [(ROOT / "examples" / "vm" / name).read_text() for name in ("job_conf.yml", "vm.yml")]
    assert blocks == shown


def test_a_guest_reads_one_disk_and_writes_to_another(ended: FinishedJobs) -> None:
    outcome = ended.jobs["good"].outcome
    assert outcome is not None
    assert outcome.ok, outcome.message
    assert (ended.directory / "new.img").read_bytes().startswith(b"42\n")
    assert (ended.directory / "answer.img").read_bytes() == bytes(2**16)
    assert "the answer is written" in (ended.directory / "good.txt").read_text()


def test_what_a_guest_has_is_what_it_asked_for(ended: FinishedJobs) -> None:
    """A SATA disk to boot from, a qcow2 disk, two processors, a network card; or none of them."""
    outcome = ended.jobs["various"].outcome
    assert outcome is not None
    assert outcome.ok, outcome.message
    said = (ended.directory / "various.txt").read_text()
    assert "network cards: 1" in said
    assert "processors: 2" in said
    said = (ended.directory / "good.txt").read_text()
    assert "network cards: 0" in said
    assert "processors: 1" in said


def test_a_guest_whose_disks_are_left_on_the_volume(ended: FinishedJobs) -> None:
    outcome = ended.jobs["in-place"].outcome
    assert outcome is not None
    assert outcome.ok, outcome.message
    assert (ended.directory / "in-place.img").read_bytes().startswith(b"42\n")


def test_two_run_at_once_on_one_executor(ended: FinishedJobs) -> None:
    one, other = ended.jobs["good"], ended.jobs["hangs"]
    assert one.executor == other.executor is not None
    assert one.started_at is not None
    assert other.started_at is not None
    assert one.ended_at is not None
    assert other.ended_at is not None
    assert one.started_at < other.ended_at
    assert other.started_at < one.ended_at


def test_a_guest_that_never_powers_off_is_ended(ended: FinishedJobs) -> None:
    assert ended.outcome_kind("hangs") is OutcomeKind.TIME_LIMIT
    assert not (ended.directory / "hangs.txt").exists()


def test_a_guest_that_is_removed(ended: FinishedJobs) -> None:
    assert ended.outcome_kind("removed") is OutcomeKind.REMOVED
    assert "it's too slow" in ended.message("removed")


@pytest.mark.usefixtures("ended")
def test_of_guests_that_ended_or_were_ended_no_qemu_is_left(vm_pool: LabPool) -> None:
    limit = time.monotonic() + TIMEOUT_S
    with vm_executor_container(vm_pool) as container:
        while "qemu-system" in (said := container.exec_run(PROCESSES).output.decode()):
            assert time.monotonic() < limit, said
            time.sleep(1)
        assert "libvirtd" in said


def test_a_disk_that_qemu_does_not_open_ends_its_job_with_qemus_words(ended: FinishedJobs) -> None:
    assert ended.outcome_kind("broken") is OutcomeKind.GUEST_NOT_STARTED
    assert "qemu" in ended.message("broken")
    assert "luster size" in ended.message("broken")
    assert ended.jobs["broken"].starts <= 1


def test_an_executor_whose_virtual_machines_are_switched_off_is_shown_and_replaced(
    ended: FinishedJobs, vm_pool: LabPool
) -> None:
    [line] = vm_pool.provisioner.status().executors
    assert (line.ready, line.problem) == (True, "")
    assert line.virtualization in ("emulated", "kvm")
    # A QEMU that opens whatever it is given, and starts nothing.
    with vm_executor_container(vm_pool) as container:
        replaced = container.exec_run(["ln", "-sf", "/bin/true", "/usr/bin/qemu-system-x86_64"])
        assert replaced.exit_code == 0
    with Runner(vm_pool.destination, name="unlucky") as runner:
        [job] = runner.submit([vm_invocation(ended.directory, "unlucky", [])])
        limit = time.monotonic() + TIMEOUT_S
        # What vm-gahp logged last; before that, it may have missed the libvirtd that was killed.
        while "libvirt domain" not in line.problem and time.monotonic() < limit:
            time.sleep(1)
            [line] = vm_pool.provisioner.status().executors
        assert "offline" in line.problem
        assert "Failed to create libvirt domain" in line.problem
        assert not line.ready
        assert "there is none that can take jobs" in runner.explain(job).summary
        runner.remove([job])
        runner.wait([job], TIMEOUT_S)
    mended, status = vm_pool.provisioner.repair(timeout_s=TIMEOUT_S)
    assert [(mending.task, mending.action) for mending in mended] == [(line.task, "draining")]
    [fresh] = [other for other in status.executors if not other.retiring]
    assert fresh.task != line.task
    assert (fresh.ready, fresh.problem) == (True, "")
