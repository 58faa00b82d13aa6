"""Faults of the central manager's daemons, of its clock and of its name."""

from __future__ import annotations

import io
import tarfile
import time
from pathlib import Path

from swarm_runner.condor.access_point import AccessPoint
from swarm_runner.condor.connection import Connection, htcondor
from swarm_runner.condor.ports import SubmitInDoubtError, SubmitResult
from swarm_runner.errors import SwarmRunnerError
from swarm_runner.submit.description import SubmitBatch
from tests.faults.fault import PoolFault
from tests.faults.load import Load
from tests.faults.pool import FaultPool
from tests.integration.process_signals import signal_daemon
from tests.polling import poll_until

ROOT = Path(__file__).parents[2]
# The file of Debian's package libfaketime, which tests/lab/faketime fetches.
FAKETIME = ROOT / ".state" / "faketime" / "libfaketime.so.1"
OUTAGE_S = 30
# Longer than ads of executors live (CLASSAD_LIFETIME).
LONGER_THAN_AN_AD_S = 230
_CLOCK_FILE = "/etc/swarm-runner-clock"
# An ad is a minute old at most.
_CLOCK_TOLERANCE_S = 120
_CLOCK_LIBRARY = "/usr/local/lib/libfaketime.so.1"
# The master starts again with the library, and so do all others: they have its environment.
# All see a new time at once, as on a real host. Files keep their times: to the master, its own
# program would be a new one, for which it restarts.
_USE_CLOCK = f"""
set -e
echo +0s >{_CLOCK_FILE}
mv /usr/sbin/condor_master /usr/local/lib/
cat >/usr/sbin/condor_master <<'END'
#!/bin/sh
export LD_PRELOAD={_CLOCK_LIBRARY} FAKETIME_TIMESTAMP_FILE={_CLOCK_FILE}
export FAKETIME_DONT_FAKE_MONOTONIC=1 FAKETIME_NO_CACHE=1 NO_FAKE_STAT=1
exec /usr/local/lib/condor_master "$@"
END
chmod 755 /usr/sbin/condor_master
"""
# Until nobody takes the old daemons for the new ones.
DAEMONS_END_S = 10
# Answers every question with NXDOMAIN, as Docker Engine 29 may for hours.
_NAME_SERVER = """
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))
while True:
    query, client = server.recvfrom(512)
    server.sendto(query[:2] + b"\\x81\\x83" + query[4:6] + bytes(6) + query[12:], client)
"""
# With a dot, as it is not in /etc/hosts.
_RESOLVE = """
import os, socket
socket.getaddrinfo(os.environ["SWARM_RUNNER_MANAGER"] + ".", 9)
"""
_USE_NAME_SERVER = """
import pathlib, sys
file = pathlib.Path("/etc/resolv.conf")
kept = pathlib.Path("/run/resolv.conf.kept")
if sys.argv[1] == "cut":
    kept.write_text(file.read_text())
    file.write_text("nameserver 127.0.0.1\\n")
else:
    file.write_text(kept.read_text())
"""


def _kill_schedd(pool: FaultPool, _load: Load | None) -> None:
    signal_daemon(pool.container(), "condor_schedd")


def _try_to_kill_schedd(pool: FaultPool) -> bool:
    """Kill it unless it is just being restarted."""
    try:
        _kill_schedd(pool, None)
    except RuntimeError:
        return False
    return True


def _kill_schedd_repeatedly(pool: FaultPool, load: Load) -> str:
    """Kill the schedd while it commits: some submits are in doubt."""
    first = len(load.refusals)
    with load.feeding(1.0):
        for _ in range(4):
            time.sleep(6)
            poll_until(lambda: _try_to_kill_schedd(pool))
    return f"{len(load.refusals) - first} submits failed or were in doubt, and were repeated"


class LosesAnswers(AccessPoint):
    """Loses the answer to the first submit of its process."""

    lost = False

    def submit(self, batch: SubmitBatch, *, spool: bool = False) -> SubmitResult:
        """Commit the jobs, and fail as if the answer had not come."""
        result = super().submit(batch, spool=spool)
        if not LosesAnswers.lost:
            LosesAnswers.lost = True
            raise SubmitInDoubtError("the answer was lost")
        return result


def _lose_an_answer(_pool: FaultPool, load: Load) -> None:
    other = load.fork(LosesAnswers)
    other.submit_until_accepted([other.invocation(other.new_key(), "sleep 2") for _ in range(10)])
    other.start_tracking()


def _restart_collector(pool: FaultPool, _load: Load) -> None:
    signal_daemon(pool.container(), "condor_collector")


def _lose_negotiator(pool: FaultPool, _load: Load) -> None:
    signal_daemon(pool.container(), "condor_negotiator", "STOP")
    try:
        time.sleep(OUTAGE_S)
    finally:
        signal_daemon(pool.container(), "condor_negotiator")


def _freeze_manager(pool: FaultPool, _load: Load) -> None:
    manager = pool.container()
    manager.pause()
    try:
        time.sleep(OUTAGE_S)
    finally:
        manager.unpause()


def _restart_manager(pool: FaultPool, _load: Load) -> None:
    pool.container().kill()


def _prepare_clock(pool: FaultPool, _load: Load) -> None:
    """Restart the manager's daemons with a clock that can be turned."""
    manager = pool.container()
    content = FAKETIME.read_bytes()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        entry = tarfile.TarInfo(Path(_CLOCK_LIBRARY).name)
        entry.size, entry.mode = len(content), 0o755
        tar.addfile(entry, io.BytesIO(content))
    manager.put_archive(str(Path(_CLOCK_LIBRARY).parent), archive.getvalue())
    pool.exec_in(manager, "sh", "-c", _USE_CLOCK)
    pool.exec_in(manager, "condor_restart")
    time.sleep(DAEMONS_END_S)


def _turn_clock(pool: FaultPool, offset_s: int) -> None:
    """Set the clock of the manager's daemons."""
    manager = pool.container()
    pool.exec_in(manager, "sh", "-c", f"echo {offset_s:+d}s >{_CLOCK_FILE}")
    poll_until(
        lambda: _schedd_clock(pool) - time.time(),
        lambda difference: abs(difference - offset_s) < _CLOCK_TOLERANCE_S,
        retry_on=(SwarmRunnerError, IndexError),
        timeout_s=120,
    )


def _schedd_clock(pool: FaultPool) -> float:
    """Return the time that the schedd last advertised."""
    settings = pool.destination
    connection = Connection(settings.pool.address, settings.pool.name, settings.token_directory)
    ads = connection.query_collector(
        lambda collector: collector.query(htcondor().AdType.Schedd, projection=["MyCurrentTime"])
    )
    return float(ads[0]["MyCurrentTime"])


def _set_clock_back(pool: FaultPool, _load: Load) -> None:
    _turn_clock(pool, -3600)


def _prepare_late_clock(pool: FaultPool, load: Load) -> None:
    """Set the clock back, unless the fault before did."""
    if pool.container().exec_run(["test", "-e", _CLOCK_FILE]).exit_code:
        _prepare_clock(pool, load)
        _set_clock_back(pool, load)


def _set_clock_ahead(pool: FaultPool, _load: Load) -> None:
    _turn_clock(pool, 0)


def _cut_names(pool: FaultPool, seconds: float) -> str:
    executors = [c for name in pool.destination.pool.classes for c in pool.containers(name)]
    for executor in executors:
        executor.exec_run(["python3", "-c", _NAME_SERVER], detach=True)
        pool.exec_in(executor, "python3", "-c", _USE_NAME_SERVER, "cut")
    try:
        if not executors[0].exec_run(["python3", "-c", _RESOLVE]).exit_code:
            raise RuntimeError("the name is still resolved")
        time.sleep(seconds)
        ready = pool.provisioner.status().ready("normal")
    finally:
        for executor in executors:
            pool.exec_in(executor, "python3", "-c", _USE_NAME_SERVER, "restore")
    if ready != pool.executors:
        raise AssertionError(f"{ready} of {pool.executors} executors were ready after the cut")
    return f"{ready} of {pool.executors} executors took jobs at its end"


def _cut_names_shortly(pool: FaultPool, _load: Load) -> str:
    return _cut_names(pool, OUTAGE_S)


def _cut_names_long(pool: FaultPool, _load: Load) -> str:
    return _cut_names(pool, LONGER_THAN_AN_AD_S)


SCHEDD_KILLED = PoolFault("schedd killed", "SIGKILL to condor_schedd", _kill_schedd, short=True)
COMMIT_IN_DOUBT = PoolFault(
    "commit in doubt",
    "the answer to a submit of 10 jobs is lost after its commit",
    _lose_an_answer,
    short=True,
)
# The executors' next ads may come a minute later.
COLLECTOR_RESTARTED = PoolFault(
    "collector restarted", "SIGKILL to condor_collector", _restart_collector
)
FAULTS = (
    SCHEDD_KILLED,
    COMMIT_IN_DOUBT,
    PoolFault(
        "schedd killed during submits",
        "four SIGKILLs in half a minute, a submit a second",
        _kill_schedd_repeatedly,
        # Jobs of two seconds begin and end all the time, some of them while there is no schedd.
        loses_ends=True,
        evicts=True,
    ),
    COLLECTOR_RESTARTED,
    PoolFault(
        "negotiator lost",
        f"condor_negotiator stopped for {OUTAGE_S} s, then killed",
        _lose_negotiator,
    ),
    PoolFault("manager frozen", f"its container paused for {OUTAGE_S} s", _freeze_manager),
    PoolFault("manager killed", "SIGKILL to its container", _restart_manager, loses_ends=True),
    PoolFault(
        "clock set back by an hour",
        "that of the manager's daemons, by libfaketime",
        _set_clock_back,
        prepare=_prepare_clock,
    ),
    PoolFault(
        "clock set ahead by an hour",
        "the same clock, to the right time again: beyond the end of every lease",
        _set_clock_ahead,
        prepare=_prepare_late_clock,
    ),
    PoolFault(
        "manager's name not resolved",
        f"NXDOMAIN in all executors for {OUTAGE_S} s",
        _cut_names_shortly,
    ),
    PoolFault(
        "manager's name not resolved for long",
        f"NXDOMAIN in all executors for {LONGER_THAN_AN_AD_S} s; their ads expire after 200 s",
        _cut_names_long,
    ),
)
