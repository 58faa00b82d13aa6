"""Virtual machines at the command line: what is refused, with a sentence and exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.cli.conftest import Cli, SelfRunningAccessPoint
from tests.unit.runner.vm.test_disk_header import qcow2

JOB_CONF = """\
runners:
  swarm:
    pool:
      name: galaxy
      classes:
        normal: {cpus: 1, memory_mb: 4096}
        vm: {cpus: 2, memory_mb: 512, virtual_machines: 2, emulate: true}
execution:
  default: swarm
  environments:
    swarm: {runner: swarm}
"""
# As on the slides of 2019, but for the type.
SLIDES = """\
tool_id: vm_sample_job
vm: {type: %s, memory_mb: %s, disks: [{file: disk.img, device: vda, permission: w, format: raw}]}
"""
VM_SUCCESS_TEXT = "], success: {text: all done}}\n"


@pytest.fixture(autouse=True)
def vm_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "job_conf.yml").write_text(JOB_CONF)
    (tmp_path / "disk.img").write_bytes(b"boot".ljust(2**16, b"\0"))
    monkeypatch.setenv("SWARM_RUNNER_JOB_CONF", str(tmp_path / "job_conf.yml"))


def test_the_slides_vm_ends_unconfirmed(
    cli: Cli, access_point: SelfRunningAccessPoint, tmp_path: Path
) -> None:
    (tmp_path / "vm.yml").write_text(SLIDES % ("kvm", 64))
    done = cli("submit", "vm.yml", "--wait")
    assert done.code == 1
    assert "unconfirmed" in done.out
    assert "names no success marker" in " ".join(done.out.split())
    assert (tmp_path / "returned-disk.img").read_bytes() == b"made"
    [ad] = access_point.history_ads
    assert ad["SwarmRunnerClass"] == "vm"


def test_an_old_console_does_not_confirm_a_job_whose_outputs_were_not_retrieved(
    cli: Cli, access_point: SelfRunningAccessPoint, tmp_path: Path
) -> None:
    (tmp_path / "vm.yml").write_text((SLIDES % ("kvm", 64)).replace("]}\n", VM_SUCCESS_TEXT))
    assert cli("submit", "vm.yml").code == 0
    (tmp_path / "console.txt").write_text("all done")
    for _ in range(2):
        access_point.advance()
    access_point.paused = True
    [job] = cli("jobs", "--json").data
    assert job["outcome"]["kind"] == "unconfirmed"
    assert "have not been retrieved from the access point" in job["outcome"]["message"]


@pytest.mark.parametrize(
    ("text", "content", "message"),
    [
        (SLIDES % ("vmware", 64), None, "HTCondor dropped it with version 10.1"),
        (SLIDES % ("virtualbox", 64), None, "'virtualbox' is not supported; write type: kvm"),
        (SLIDES % ("kvm", 64), qcow2(), "is declared raw, but contains qcow2"),
        (SLIDES % ("kvm", 513), None, "513 MB memory, 1024 MB disk fits no class of pool galaxy"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_is_submitted(
    cli: Cli,
    access_point: SelfRunningAccessPoint,
    tmp_path: Path,
    text: str,
    content: bytes | None,
    message: str,
) -> None:
    (tmp_path / "vm.yml").write_text(text)
    if content is not None:
        (tmp_path / "disk.img").write_bytes(content)
    done = cli("submit", "vm.yml")
    assert (done.code, done.out) == (2, "")
    assert message in " ".join(done.err.split())
    assert not access_point.queue
    assert not access_point.calls["submit"]
