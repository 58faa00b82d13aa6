"""Jobs on the pool, and what is known of them: starts counted outside HTCondor, deliveries, ads."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swarm_runner.condor.access_point import AccessPoint
from swarm_runner.condor.access_point_process import AccessPointProcess
from swarm_runner.condor.connection import htcondor
from swarm_runner.condor.ports import JobQuery
from swarm_runner.errors import SwarmRunnerError, UnreachableError
from swarm_runner.model.htcondor import EventType, JobStatus
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.job import JobEvent, JobState
from swarm_runner.model.pool import Destination
from swarm_runner.runner import Runner
from tests.polling import poll_until

IMAGE = "debian:trixie"
POLL_INTERVAL_S = 0.3
# Event numbers of the HTCondor manual: what begins a reconnection, and what ends it.
DISCONNECTED, RECONNECTED = 22, 23
CONNECTED = (
    RECONNECTED,
    *(EventType.EXECUTE, EventType.JOB_EVICTED, EventType.JOB_TERMINATED, EventType.JOB_ABORTED),
    *(EventType.JOB_HELD, EventType.JOB_RECONNECT_FAILED),
)
RETRY_S = 1.0
# A call during a fault must not take a minute.
CALL_TIMEOUT_S = 20.0
# Each start adds a line to the job's own file. The lock goes away with the processes that have it:
# who does not get it runs beside an earlier start of the same job. A killed job adds no end.
_RECORD = (
    "exec 9>>starts/{key}; flock -n 9 || echo {key} >>overlaps; echo start >&9; "
    "trap 'echo end >&9' EXIT; "
)
# A job waits here without using a processor until somebody opens the pipe for writing.
_GATE = "gate"


@dataclass
class Deliveries:
    """What a runner reported of each job, by its key."""

    ended: Counter[str] = field(default_factory=Counter)
    failed: dict[str, str] = field(default_factory=dict)
    evicted: int = 0


class Load:
    """Jobs of one runner in a directory of the pool's volume.

    *Steady* jobs run until `release`. *Probes* run for some seconds. The runner asks for changes in
    a thread, as a workflow engine does, and its calls are in a child process, as in a server.
    """

    def __init__(
        self,
        destination: Destination,
        volume: Path,
        access_point: type[AccessPoint] = AccessPoint,
        **update: Any,
    ) -> None:
        self.volume = volume
        self.directory = volume / f"faults-{uuid.uuid4().hex[:8]}"
        self.directory.mkdir()
        (self.directory / "starts").mkdir()
        for directory in (self.directory, self.directory / "starts"):
            directory.chmod(0o1777)  # the jobs' user writes here
        os.mkfifo(self.directory / _GATE)
        (self.directory / _GATE).chmod(0o666)
        update = {"state_directory": str(self.directory / "state")} | update
        self.destination = destination.model_copy(update=update)
        self.name = self.directory.name
        self.access_point = _in_process(self.destination, AccessPoint)
        self._runners_access_point = _in_process(self.destination, access_point)
        self.runner = Runner(
            self.destination, name=self.name, access_point=self._runners_access_point
        )
        self.others: list[Load] = []
        self.abandoned: list[str] = []
        self.deliveries = Deliveries()
        self.steady: list[str] = []
        self.probes: list[str] = []
        self.refusals: list[str] = []
        self._numbers = itertools.count()
        self._disconnections: set[tuple[int, int, int]] = set()
        self._old_disconnections: set[tuple[int, int, int]] = set()
        self._stop = threading.Event()
        self._tracker: threading.Thread | None = None

    def start_tracking(self) -> None:
        """Ask the runner for changes from now on."""
        self._tracker = threading.Thread(target=self._track, daemon=True)
        self._tracker.start()

    def fork(self, access_point: type[AccessPoint] = AccessPoint, **update: Any) -> Load:
        """Return jobs of another runner, which count with these; it is not tracking yet."""
        other = Load(self.destination, self.volume, access_point, **update)
        self.others.append(other)
        return other

    def close(self) -> None:
        """Remove what is still queued, and stop tracking."""
        self.close_others()
        self._stop.set()
        if self._tracker is not None:
            self._tracker.join()
        with contextlib.suppress(SwarmRunnerError):
            self.runner.remove_all("the faults are over")
        self.runner.close()
        self._runners_access_point.close()
        self.access_point.close()

    def close_others(self) -> None:
        """Close the forks; remember their jobs that nobody was told of."""
        while self.others:
            other = self.others.pop()
            self.abandoned += (f"{other.name}/{key}" for key in other.undelivered())
            other.close()

    def new_key(self) -> str:
        """Return the key of a new probe."""
        key = f"probe-{next(self._numbers)}"
        self.probes.append(key)
        return key

    def invocation(self, key: str, shell: str, **fields: Any) -> Invocation:
        """Return an invocation that records its starts."""
        values: dict[str, Any] = {
            "key": key,
            "image": IMAGE,
            "shell": _RECORD.format(key=key) + shell,
            "resources": {"memory_mb": 32, "disk_mb": 1},
            "working_directory": str(self.directory),
            "in_place": True,
            "capacity_class": "normal",
        }
        return Invocation.model_validate(values | fields)

    def start_steady(self, count: int, timeout_s: float) -> None:
        """Submit jobs that run until `release`, and wait until all of them run."""
        keys = [f"steady-{len(self.steady) + number}" for number in range(count)]
        self.runner.submit(self.invocation(key, f"read _ <{_GATE}; true") for key in keys)
        self.steady += keys
        poll_until(
            self.start_counts, lambda counts: counts.keys() >= set(keys), timeout_s=timeout_s
        )

    def probe(self, seconds: int, **fields: Any) -> str:
        """Submit a job of some seconds; return its key. Raises SwarmRunnerError."""
        key = self.new_key()
        self.submit_until_accepted([self.invocation(key, f"sleep {seconds}", **fields)])
        return key

    def submit_until_accepted(self, invocations: list[Invocation]) -> None:
        """Submit, and submit again with the same keys while the access point does not answer."""
        while True:
            try:
                self.runner.submit(invocations)
            except SwarmRunnerError as error:
                # Nothing answers, or what is queued is unknown: the key decides.
                self.refusals.append(str(error))
            else:
                return
            if self._stop.wait(RETRY_S):
                return

    @contextlib.contextmanager
    def feeding(self, interval_s: float = 8.0) -> Iterator[None]:
        """Submit a probe every few seconds during the block."""
        stop = threading.Event()

        def feed() -> None:
            while not stop.wait(interval_s):
                self.probe(2)

        feeder = threading.Thread(target=feed, daemon=True)
        feeder.start()
        try:
            yield
        finally:
            stop.set()
            feeder.join()

    def start_counts(self) -> dict[str, int]:
        """Return how often each job has started, by the files that the jobs wrote."""
        files = (self.directory / "starts").iterdir()
        return {file.name: file.read_text().count("start\n") for file in files}

    def starts_after_end(self) -> int:
        """Return how many starts came after their job had ended by itself."""
        files = (self.directory / "starts").iterdir()
        return sum(file.read_text().partition("end\n")[2].count("start\n") for file in files)

    def overlaps(self) -> int:
        """Return how many starts ran beside an earlier start of the same job."""
        file = self.directory / "overlaps"
        return len(file.read_text().splitlines()) if file.exists() else 0

    def undelivered(self) -> list[str]:
        """Return the probes whose end the runner has not reported yet."""
        return [key for key in self.probes if not self.deliveries.ended[key]]

    def running(self) -> int:
        """Return how many steady jobs run, as the queue says. Raises UnreachableError."""
        ads = self.access_point.jobs(
            JobQuery(runner_name=self.name), ("SwarmRunnerKey", "JobStatus")
        )
        return sum(
            ad["JobStatus"] == JobStatus.RUNNING and ad["SwarmRunnerKey"].startswith("steady-")
            for ad in ads
        )

    def disconnected(self) -> set[tuple[int, int, int]]:
        """Return which jobs HTCondor tries to reconnect to, and since when, by the event log.

        The queue shows them as running. What `forget_disconnections` knows is not among them: a
        truncated log may lack the end of it.
        """
        log = self.runner.event_log
        found: dict[tuple[int, int], tuple[int, int, int]] = {}
        # A damaged log tells no more than what is read until then.
        with contextlib.suppress(htcondor().HTCondorException):
            for event in htcondor().JobEventLog(str(log)).events(0) if log else ():
                job = event.cluster, event.proc
                if event.type == DISCONNECTED:
                    found[job] = *job, event.timestamp
                    self._disconnections.add(found[job])
                elif event.type in CONNECTED:
                    found.pop(job, None)
        return set(found.values()) - self._old_disconnections

    def forget_disconnections(self) -> None:
        """Let `disconnected` tell of later ones only."""
        self._old_disconnections |= self._disconnections

    def ad_start_counts(self) -> dict[str, int]:
        """Return NumJobStarts of each job that has ended.

        Those in the queue lag: a shadow updates its job's ad every 15 minutes.
        """
        query, names = JobQuery(runner_name=self.name), ("SwarmRunnerKey", "NumJobStarts")
        ads = self.access_point.history(query, names)
        return {ad["SwarmRunnerKey"]: ad.get("NumJobStarts", 0) for ad in ads}

    def release(self, timeout_s: float) -> None:
        """Let the steady jobs end, and wait until the runner has reported each."""
        gate = self.directory / _GATE

        def all_ended() -> bool:
            with contextlib.suppress(OSError):  # nobody waits at the gate just now
                os.close(os.open(gate, os.O_WRONLY | os.O_NONBLOCK))
            return all(self.deliveries.ended[key] for key in self.steady)

        poll_until(all_ended, timeout_s=timeout_s)

    def _track(self) -> None:
        while not self._stop.wait(POLL_INTERVAL_S):
            try:
                changes = self.runner.poll()
            except UnreachableError:
                continue
            for job, event, reason in changes:
                if event is JobEvent.EVICTED:
                    self.deliveries.evicted += 1
                elif event is JobEvent.ENDED:
                    self.deliveries.ended[job.key] += 1
                    if not (job.state is JobState.COMPLETED and job.outcome and job.outcome.ok):
                        self.deliveries.failed[job.key] = f"{job.outcome} {reason}"


def _in_process(destination: Destination, access_point: type[AccessPoint]) -> AccessPointProcess:
    """Return an access point whose calls end in time."""
    return AccessPointProcess(
        access_point.connect,
        destination.pool,
        destination.token_directory,
        timeout_s=CALL_TIMEOUT_S,
    )
