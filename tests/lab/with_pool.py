"""`python -m tests.lab.with_pool NAME PORT COMMAND...`: a command beside a pool of its own.

For tests that run in another environment than this one. The command finds the pool by
SWARM_RUNNER_JOB_CONF; the classes have room for many small jobs at a time.
"""

from __future__ import annotations

import os
import subprocess
import sys

from tests.lab.pool import lab_pool

CLASSES = {
    "normal": {"cpus": 12, "memory_mb": 1664, "replicas": 2},
    "big": {"cpus": 4, "memory_mb": 2560, "replicas": 1},
}


def main() -> int:
    """Bring the pool up, run the command, take the pool down; the command's exit code."""
    name, port, *command = sys.argv[1:]
    with lab_pool(name, int(port), {"classes": CLASSES}) as lab:
        environment = os.environ | {"SWARM_RUNNER_JOB_CONF": str(lab.job_conf)}
        return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
