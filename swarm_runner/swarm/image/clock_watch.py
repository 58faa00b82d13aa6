#!/usr/bin/python3
"""Restarts HTCondor's daemons when the clock is set back. condor_master runs this on the manager.

HTCondor's timers are times of the clock: after a step back, they wait until the old time returns.
HTCondor's own restart (MAX_TIME_SKIP) comes after a step ahead as well, where the next schedd finds
every job's lease over and starts the jobs again, although they still run.
"""

import subprocess
import sys
import threading
import time

INTERVAL_S = 5.0
# No step of time synchronisation while it runs, and no wait that anybody notices.
MIN_STEP_S = 60.0
RESTART = ("/usr/sbin/condor_restart",)


def clock_offset_s() -> float:
    """Return how far the clock is ahead of one that nobody sets."""
    return time.time() - time.monotonic()


def check(before_s: float, now_s: float) -> float:
    """Restart the daemons if the offset fell. Return the offset to compare the next one with."""
    if before_s - now_s < MIN_STEP_S:
        return now_s
    sys.stderr.write(
        f"swarm-runner: the clock was set back by {before_s - now_s:.0f} s; HTCondor's daemons "
        "restart, and jobs go on\n"
    )
    restarted = subprocess.run(RESTART, check=False).returncode == 0
    return now_s if restarted else before_s


def watch() -> None:
    """Check the clock, until condor_master ends this process."""
    offset_s = clock_offset_s()
    # time.sleep fails under libfaketime, by which `make faults` sets the clock.
    pause = threading.Event()
    while not pause.wait(INTERVAL_S):
        offset_s = check(offset_s, clock_offset_s())


if __name__ == "__main__":
    watch()
