"""VMs on a separate pool: the tutorial's VM, and VMs with other outcomes.

The tutorial's commands and a batch run at the same time: HTCondor needs a minute for each VM.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import pytest

from swarm_runner.config.job_conf import parse_job_conf
from swarm_runner.model.job import Job, JobEvent, OutcomeKind
from swarm_runner.runner import Runner
from swarm_runner.swarm.execution import execute
from tests.integration.vm_invocations import (
    SUCCESS_TEXT,
    TASK_SCRIPT,
    full_featured_vm,
    in_place_vm,
    vm_invocation,
)
from tests.lab.pool import LabPool, lab_pool
from tests.polling import poll_until
from tests.unit.runner.vm.test_disk_header import qcow2

ROOT = Path(__file__).parents[2]
NAME = "swarm-runner-test-vm"
PORT = 9720
# Emulated guests on a busy host.
TIMEOUT_S = 1800
# The tutorial's class, large enough for all VMs of this module at once.
JOB_CONF = ROOT / "examples" / "vm" / "job_conf.yml"
TUTORIAL = parse_job_conf(JOB_CONF.read_text(), str(JOB_CONF)).destination()
CLASS = TUTORIAL.pool.classes["vm"].model_dump(exclude_unset=True)
CLASSES = {"vm": CLASS | {"cpus": 7, "memory_mb": 768, "virtual_machines": 6}}
PROCESSES = ["sh", "-c", "cat /proc/[0-9]*/comm"]


@dataclass
class FinishedJobs:
    """The results of the batch and of the tutorial's commands."""

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
    """A copy of the tutorial's directory."""
    directory = tmp_path_factory.mktemp("tutorial") / "vm"
    shutil.copytree(ROOT / "examples" / "vm", directory)
    return directory


def commands() -> list[str]:
    """The commands that the tutorial shows after it has brought a pool up."""
    text = (ROOT / "docs" / "virtual-machines.md").read_text()
    text = text.partition("## 2. ")[2].partition("## What comes back")[0]
    return re.findall(r"^    \$ (.*)$", text, re.MULTILINE)


@pytest.fixture(scope="module")
def finished(vm_pool: LabPool, tutorial: Path) -> FinishedJobs:
    preparation, submission = commands()[:3], commands()[3:]
    with run_script(preparation, tutorial, vm_pool.job_conf) as script:
        output = script.communicate(timeout=TIMEOUT_S)[0]
    assert script.returncode == 0, output
    directory = vm_pool.volume / "vm"
    directory.mkdir()
    directory.chmod(0o777)  # the jobs' user writes here
    (directory / "task").write_text(TASK_SCRIPT)
    with vm_executor_container(vm_pool) as container:
        # The executor restarts libvirtd. All jobs below run with the new one.
        killed = container.exec_run(["sh", "-c", "kill -KILL $(cat /run/libvirtd.pid)"])
        assert killed.exit_code == 0, killed.output
        names = [str(directory / name) for name in ("task", "task.qcow2")]
        converted = container.exec_run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", *names])
        assert converted.exit_code == 0, converted.output
    with run_script(submission, tutorial, vm_pool.job_conf) as script:
        jobs = run_batch(vm_pool, directory, tutorial / "guest.img")
        output = script.communicate(timeout=TIMEOUT_S)[0]
    assert script.returncode == 0, output
    return FinishedJobs(directory, jobs, tutorial, output)


@contextlib.contextmanager
def vm_executor_container(vm_pool: LabPool) -> Iterator[Any]:
    """The container in which the executor's daemons run: the KVM sidecar, if there is one."""
    [executor] = poll_until(
        vm_pool.provisioner.status, lambda status: status.ready("vm") == 1
    ).executors
    with contextlib.closing(docker.from_env()) as client:
        label = f"swarm-runner.twin-of={executor.container[:12]}"
        sidecars = client.containers.list(filters={"label": label})
        yield sidecars[0] if sidecars else client.containers.get(executor.container)


def run_script(lines: list[str], directory: Path, job_conf: Path) -> subprocess.Popen[str]:
    """Start a shell that runs the tutorial's commands in its directory."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.Popen(
        ["/bin/sh", "-ec", "\n".join(lines)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=directory,
        env=os.environ | {"SWARM_RUNNER_JOB_CONF": str(job_conf), "PATH": path},
    )


def run_batch(vm_pool: LabPool, directory: Path, guest_image: Path) -> dict[str, Job]:
    """Run a batch of VMs with different outcomes; return the jobs by key."""
    shutil.copy(guest_image, directory / "guest.img")
    (directory / "forever").write_text("while :; do sleep 1; done\n")
    (directory / "answer.img").write_bytes(bytes(2**16))
    (directory / "in-place.img").write_bytes(bytes(2**16))
    (directory / "in-place.img").chmod(0o666)  # QEMU runs as the pool's user
    # The runner's checks accept this header; QEMU does not.
    (directory / "broken.qcow2").write_bytes(qcow2(cluster_bits=99))
    answer = {"file": "answer.img", "device": "vdc", "permission": "w", "returned": "new.img"}
    hanging = {"file": "forever", "device": "vdb"}
    batch = [
        vm_invocation(
            directory, "good", [{"file": "task", "device": "vdb"}, answer], success_text="42"
        ),
        full_featured_vm(directory),
        vm_invocation(directory, "hangs", [hanging], time_limit_s=60),
        vm_invocation(directory, "removed", [hanging]),
        vm_invocation(
            directory, "broken", [{"file": "broken.qcow2", "device": "vdb", "format": "qcow2"}]
        ),
    ]
    batch.append(in_place_vm(directory))
    with Runner(vm_pool.destination, name="vm") as runner:
        runner.submit(batch)
        for change in runner.watch(TIMEOUT_S):
            if change.job.key == "removed" and change.event is JobEvent.STARTED:
                assert runner.remove([change.job], "it's too slow") == 1
        return {job.key: job for job in runner.jobs()}


def test_the_status_is_as_the_tutorial_shows_it(vm_pool: LabPool) -> None:
    text = (ROOT / "docs" / "virtual-machines.md").read_text()
    [shown] = re.findall(r"^    (machines_htcondor-executor-vm .*)$", text, re.MULTILINE)
    [executor] = vm_pool.provisioner.status().executors
    # The tutorial shows an executor without KVM.
    expected = shown.replace(TUTORIAL.pool.name, NAME).replace("emulated", executor.virtualization)

    def status_lines() -> list[str]:
        with run_script(["swarm-runner pool status"], ROOT, vm_pool.job_conf) as status:
            return [line.rstrip() for line in status.communicate(timeout=TIMEOUT_S)[0].splitlines()]

    poll_until(status_lines, lambda lines: expected in lines)


def test_the_tutorials_commands(finished: FinishedJobs) -> None:
    assert "the sum of the squares is 338350" in finished.command_output
    assert "exit code 0" in finished.command_output
    assert (finished.tutorial / "returned-answer.img").stat().st_size == 2**16
    # The guest wrote to a copy.
    assert (finished.tutorial / "answer.img").read_bytes() == bytes(2**16)


def test_the_tutorial_shows_its_files() -> None:
    text = (ROOT / "docs" / "virtual-machines.md").read_text()
    blocks = re.findall(r"^```yaml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    shown = [(ROOT / "examples" / "vm" / name).read_text() for name in ("job_conf.yml", "vm.yml")]
    assert blocks == shown


def test_a_guest_reads_one_disk_and_writes_to_another(finished: FinishedJobs) -> None:
    assert_succeeded(finished.jobs["good"])
    assert (finished.directory / "new.img").read_bytes().startswith(b"42\n")
    assert (finished.directory / "answer.img").read_bytes() == bytes(2**16)
    assert SUCCESS_TEXT in (finished.directory / "good.txt").read_text()


def test_a_guest_has_the_devices_of_its_invocation(finished: FinishedJobs) -> None:
    """A SATA disk to boot from, a qcow2 disk, two CPUs, a network card; or none of them."""
    assert_succeeded(finished.jobs["full"])
    console = (finished.directory / "full.txt").read_text()
    assert "network cards: 1" in console
    assert "processors: 2" in console
    console = (finished.directory / "good.txt").read_text()
    assert "network cards: 0" in console
    assert "processors: 1" in console


def test_a_guest_uses_its_disks_on_the_volume(finished: FinishedJobs) -> None:
    assert_succeeded(finished.jobs["in-place"])
    assert (finished.directory / "in-place.img").read_bytes().startswith(b"42\n")


def test_two_guests_run_at_once_on_one_executor(finished: FinishedJobs) -> None:
    first, second = finished.jobs["good"], finished.jobs["hangs"]
    assert first.executor == second.executor is not None
    assert first.started_at is not None
    assert second.started_at is not None
    assert first.ended_at is not None
    assert second.ended_at is not None
    assert first.started_at < second.ended_at
    assert second.started_at < first.ended_at


def test_a_guest_that_never_powers_off_is_stopped(finished: FinishedJobs) -> None:
    assert finished.outcome_kind("hangs") is OutcomeKind.TIME_LIMIT
    assert not (finished.directory / "hangs.txt").exists()


def test_a_guest_that_is_removed(finished: FinishedJobs) -> None:
    assert finished.outcome_kind("removed") is OutcomeKind.REMOVED
    assert "it's too slow" in finished.message("removed")


@pytest.mark.usefixtures("finished")
def test_no_qemu_is_left_after_the_jobs(vm_pool: LabPool) -> None:
    with vm_executor_container(vm_pool) as container:
        poll_until(
            lambda: execute(container, PROCESSES).output,
            lambda names: b"libvirtd" in names and b"qemu-system" not in names,
        )


def test_a_disk_that_qemu_rejects_is_reported_with_qemus_message(finished: FinishedJobs) -> None:
    assert finished.outcome_kind("broken") is OutcomeKind.GUEST_NOT_STARTED
    assert "qemu" in finished.message("broken")
    assert "luster size" in finished.message("broken")
    assert finished.jobs["broken"].starts <= 1


def test_an_executor_whose_vms_are_offline_is_reported_and_replaced(
    finished: FinishedJobs, vm_pool: LabPool
) -> None:
    # A QEMU that accepts every argument and starts nothing.
    with vm_executor_container(vm_pool) as container:
        replaced = container.exec_run(["ln", "-sf", "/bin/true", "/usr/bin/qemu-system-x86_64"])
        assert replaced.exit_code == 0
    [executor] = vm_pool.provisioner.status().executors
    assert executor.virtualization in ("emulated", "kvm")
    with Runner(vm_pool.destination, name="unlucky") as runner:
        [job] = runner.submit([vm_invocation(finished.directory, "unlucky", [])])
        # The last error that vm-gahp logged. An earlier one may be about the killed libvirtd.
        [executor] = poll_until(
            lambda: vm_pool.provisioner.status().executors,
            lambda executors: "Failed to create libvirt domain" in executors[0].problem,
        )
        assert "offline" in executor.problem
        assert not executor.ready
        # The executor's ad arrives before the schedd knows that the job does not run.
        poll_until(
            lambda: runner.explain(job).summary,
            lambda summary: "of which none can accept jobs" in summary,
        )
        runner.remove([job])
        runner.wait([job], TIMEOUT_S)
    replacements, status = vm_pool.provisioner.repair(timeout_s=TIMEOUT_S)
    assert [(r.task, r.action) for r in replacements] == [(executor.task, "draining")]
    [new] = [other for other in status.executors if not other.retiring]
    assert new.task != executor.task
    assert (new.ready, new.problem) == (True, "")


def assert_succeeded(job: Job) -> None:
    assert job.outcome is not None
    assert job.outcome.ok, job.outcome.message
