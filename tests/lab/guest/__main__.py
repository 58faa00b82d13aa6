"""`python -m tests.lab.guest [TESTS...]`: run tests in an emulated machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.lab.guest import disk
from tests.lab.hosts.commands import run
from tests.matrix.pytest_report import VARIABLE

PROGRAM = "qemu-system-x86_64"
TESTS = "tests/smoke --network mesh"
MEMORY_MB = 5120
TIMEOUT_S = 5400
_REPORT = "/srv/report.json"
# Mitigations empty the emulated TLB at every system call. The CPU is the oldest with SSE 4 and AES.
_KERNEL = (
    "console=ttyS0 root=/dev/vda rw init=/srv/init panic=-1 quiet mitigations=off tsc=reliable"
)
_CPU = "Westmere"


def main() -> int:
    """Build the disk, start the guest, show its console, and return the tests' exit code."""
    tests = " ".join(sys.argv[1:]) or TESTS
    environment = {
        "PYTHONPATH": "/srv/repository/tests/matrix:/srv/repository",
        "PYTEST_ADDOPTS": "-p pytest_report",
        "SWARM_RUNNER_MATRIX_ENGINE": "1",
        VARIABLE: _REPORT,
    }
    try:
        _install()
        disk.create(tests, environment, _report)
        subprocess.run(_command(), check=False, timeout=TIMEOUT_S, stdin=subprocess.DEVNULL)
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        _report(str(error))
        return 1
    if (file := os.environ.get(VARIABLE)) and (report := disk.read(_REPORT)):
        Path(file).write_text(report)
    code = disk.read("/srv/exit-code").strip()
    if not code:
        _report("the guest ended before its tests did; its console is above")
    return int(code or 1)


def _command() -> list[str]:
    kernel, initial = disk.kernel()
    # KVM where it works; this is said with ACCELERATOR=kvm, since a broken one opens as well.
    # With a thread for each processor, TCG of QEMU 7.2 may run code that the kernel is patching on
    # another one (`Oops: int3` when the first memory limit is set).
    accelerator = os.environ.get("ACCELERATOR", "tcg,thread=single")
    return [
        *("nice", "-n", "10", PROGRAM, "-accel", accelerator, "-cpu", _CPU),
        *("-smp", "2", "-m", str(MEMORY_MB)),
        *("-display", "none", "-serial", "stdio", "-monitor", "none", "-no-reboot", "-nic", "none"),
        *("-kernel", str(kernel), "-initrd", str(initial), "-append", _KERNEL),
        *("-drive", f"file={disk.DISK},format=raw,if=virtio,cache=unsafe"),
    ]


def _install() -> None:
    """Install QEMU if it is missing, and nothing that it only recommends."""
    if shutil.which(PROGRAM) is None:
        run("apt-get", "-qq", "update")
        options = ("-qqy", "-o", "DPkg::Lock::Timeout=300", "--no-install-recommends")
        run(
            *("env", "DEBIAN_FRONTEND=noninteractive"),
            *("apt-get", *options, "install", "qemu-system-x86", "e2fsprogs"),
        )


def _report(message: str) -> None:
    sys.stderr.write(f"guest: {message}\n")


if __name__ == "__main__":
    sys.exit(main())
