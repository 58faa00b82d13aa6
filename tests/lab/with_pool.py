"""`python -m tests.lab.with_pool NAME PORT COMMAND...`: run a command with a new pool.

For tests that run in another virtual environment. The command finds the pool through
SWARM_RUNNER_JOB_CONF. Each executor runs several small jobs at a time.
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
    """Bring the pool up, run the command, take the pool down. Return the command's exit code."""
    name, port, *command = sys.argv[1:]
    with lab_pool(name, int(port), {"classes": CLASSES}) as lab:
        environment = os.environ | {"SWARM_RUNNER_JOB_CONF": str(lab.job_conf)}
        return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
