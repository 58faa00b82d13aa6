"""A schedd in memory: it queues, logs, spools and remembers; what jobs do, the test says."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from swarm_runner.condor.ads import FINISHED_PROJECTION, finished_job_from_ad
from swarm_runner.condor.ports import (
    TRACK_PROJECTION,
    Ad,
    JobQuery,
    SubmitInDoubtError,
    SubmitResult,
)
from swarm_runner.errors import UnreachableError
from swarm_runner.model.job import JobId
from swarm_runner.model.pool_status import Slot
from swarm_runner.model.scaling import FinishedJob, IdleJobGroup
from swarm_runner.submit.description import SubmitBatch
from swarm_runner.testing.event_log import EventLogWriter
from swarm_runner.testing.job_ads import (
    apply_output_remaps,
    awaiting_input,
    group_idle_jobs,
    matches,
    project,
    split_file_list,
    write_files,
)
from swarm_runner.testing.submit_language import evaluate, make_job_ads

IDLE, RUNNING, REMOVED, COMPLETED, HELD = 1, 2, 3, 4, 5
HOLD_USER_REQUEST, HOLD_SPOOLING_INPUT, HOLD_TRANSFER_OUTPUT_ERROR, HOLD_JOB_OUT_OF_RESOURCES = (
    1,
    16,
    12,
    34,
)
SUBCODE_OUT_OF_MEMORY, SUBCODE_ENOENT = 102, 2
_USER_NAME = "swarm-runner"


class FakeAccessPoint:
    """Satisfies `condor.port.AccessPointPort` without HTCondor's daemons.

    Jobs do nothing by themselves: `start`, `finish`, `evict`, `trouble` and `outgrow` say what
    happens to one. It writes a real event log for the jobs that ask for one.

    `queue` and `past` hold whole job ads, `calls` counts the messages by method. While
    `reachable` is false every method raises OutOfReachError. Each entry of `doubts` makes one
    submit raise SubmitInDoubtError: after it was committed (True), or instead (False).
    """

    def __init__(self, clock: Callable[[], float] = time.time, slots: Iterable[Slot] = ()) -> None:
        self.queue: dict[JobId, dict[str, Any]] = {}
        self.history_ads: list[dict[str, Any]] = []
        self.calls: Counter[str] = Counter()
        self.reachable = True
        self.submit_failures: list[bool] = []
        self.slot_list = list(slots)
        self._clock = clock
        self._last_cluster = 0
        # What the access point keeps of spooled jobs: their inputs, then their outputs.
        self.sandboxes: dict[JobId, dict[str, bytes]] = {}

    # The port.

    def submit(self, batch: SubmitBatch, *, spool: bool = False) -> SubmitResult:
        """See AccessPointPort.submit."""
        self._record_call("submit")
        doubt = self.submit_failures.pop(0) if self.submit_failures else None
        if doubt is False:
            raise SubmitInDoubtError("the connection broke (a fake one)")
        self._last_cluster += 1
        made = make_job_ads(batch, self._last_cluster)
        for ad in made:
            self._enqueue(ad, spool)
        if doubt:
            raise SubmitInDoubtError("the connection broke (a fake one)")
        return SubmitResult(self._last_cluster, 0, len(made), spool or None)

    def spool(self, result: SubmitResult) -> None:
        """See AccessPointPort.spool."""
        self._record_call("spool")
        for job in result.ids:
            ad = self.queue[job]
            directory = Path(ad["SUBMIT_Iwd"])
            wanted = split_file_list(ad.get("TransferInput")) + split_file_list(ad.get("In"))
            self.sandboxes[job] = {name: (directory / name).read_bytes() for name in wanted}
            ad["StageInFinish"] = self._now
            self._set_status(ad, IDLE)

    def retrieve(self, ids: Sequence[JobId]) -> None:
        """See AccessPointPort.retrieve."""
        self._record_call("retrieve")
        for job in ids:
            ad = self.queue[job]
            write_files(
                Path(ad["SUBMIT_Iwd"]),
                apply_output_remaps(ad, self.sandboxes.pop(job)),
                self._clock(),
            )
            ad["StageOutFinish"] = self._now + 1
            self._leave_queue(job)

    def jobs(self, query: JobQuery, projection: Sequence[str] = TRACK_PROJECTION) -> list[Ad]:
        """See AccessPointPort.jobs."""
        self._record_call("jobs")
        return [project(ad, projection) for ad in self.queue.values() if matches(ad, query)]

    def history(
        self,
        query: JobQuery,
        projection: Sequence[str] = TRACK_PROJECTION,
        limit: int | None = None,
    ) -> list[Ad]:
        """See AccessPointPort.history."""
        self._record_call("history")
        after = query.after
        newer = takewhile(
            lambda ad: (ad["ClusterId"], ad["ProcId"]) != after, reversed(self.history_ads)
        )
        found = [project(ad, projection) for ad in newer if matches(ad, query)]
        return found[:limit]

    def remove(self, ids: Iterable[JobId], reason: str) -> int:
        """See AccessPointPort.remove."""
        self._record_call("remove")
        return sum(self._remove(job, reason) for job in list(ids) if job in self.queue)

    def remove_unspooled(self, ids: Iterable[JobId], reason: str) -> int:
        """See AccessPointPort.remove_unspooled."""
        self._record_call("remove_unspooled")
        waiting = [job for job in ids if job in self.queue and awaiting_input(self.queue[job])]
        return sum(self._remove(job, reason) for job in waiting)

    def release(self, ids: Iterable[JobId], reason: str) -> int:
        """See AccessPointPort.release."""
        self._record_call("release")
        held = [
            job
            for job in ids
            if job in self.queue
            and self._status(job) == HELD
            and not awaiting_input(self.queue[job])
        ]
        for job in held:
            ad = self.queue[job]
            for name in ("HoldReason", "HoldReasonCode", "HoldReasonSubCode"):
                del ad[name]
            self._set_status(ad, IDLE)
            self._event_log(ad).released(job, self._clock(), f"{reason} (by user {_USER_NAME})")
        return len(held)

    def hold(self, ids: Iterable[JobId], reason: str) -> int:
        """See AccessPointPort.hold."""
        self._record_call("hold")
        free = [job for job in ids if job in self.queue and self._status(job) in (IDLE, RUNNING)]
        for job in free:
            self._hold(job, f"{reason} (by user {_USER_NAME})", HOLD_USER_REQUEST, 0)
        return len(free)

    def slots(self) -> list[Slot]:
        """See AccessPointPort.slots."""
        self._record_call("slots")
        return list(self.slot_list)

    def idle_jobs(self) -> list[IdleJobGroup]:
        """See PoolView.waiting."""
        self._record_call("waiting")
        return group_idle_jobs(self.queue)

    def recent_jobs(self, limit: int) -> list[FinishedJob]:
        """See PoolView.ended."""
        return [
            finished_job_from_ad(ad) for ad in self.history(JobQuery(), FINISHED_PROJECTION, limit)
        ]

    # What happens to jobs.

    def start(self, job: JobId, executor: str = "task-1", node: str = "node-1") -> None:
        """A slot of the job's class takes it, and its command begins to run."""
        ad = self.queue[job]
        ad["NumJobStarts"] = ad.get("NumJobStarts", 0) + 1
        ad["JobCurrentStartDate"] = ad["JobCurrentStartExecutingDate"] = self._now
        ad["MachineAttrCapacityClass0"] = capacity_class = evaluate(ad, "SwarmRunnerClass")
        ad["MachineAttrSwarmTaskId0"], ad["MachineAttrSwarmNode0"] = executor, node
        ad["RemoteHost"] = f"slot1_1@{node}"
        self._set_status(ad, RUNNING)
        self._event_log(ad).started(
            job,
            self._clock(),
            capacity_class=capacity_class,
            executor=executor,
            node=node,
            memory_mb=ad["RequestMemory"],
        )

    def finish(
        self,
        job: JobId,
        exit_code: int = 0,
        *,
        signal: int | None = None,
        outputs: Mapping[str, bytes] | None = None,
    ) -> None:
        """The command ends. `outputs` are what it wrote, by name; standard output is `stdout`.

        An output that the invocation names and the command did not write puts the job on hold.
        """
        ad, written = self.queue[job], dict(outputs or {})
        if ad.get("Out"):
            written[ad["Out"]] = written.pop("stdout", b"")
        missing = [
            name for name in split_file_list(ad.get("TransferOutput")) if name not in written
        ]
        if missing:
            reason = f"reading from file {missing[0]}: (errno 2) No such file or directory"
            self.hold_by_htcondor(
                job,
                HOLD_TRANSFER_OUTPUT_ERROR,
                SUBCODE_ENOENT,
                f"Transfer output files failure: {reason}",
            )
            return
        ad["ExitBySignal"] = signal is not None
        ad |= {"ExitCode": exit_code} if signal is None else {"ExitSignal": signal}
        ad["CompletionDate"] = self._now
        self._set_status(ad, COMPLETED)
        self._event_log(ad).terminated(
            job,
            self._clock(),
            exit_code=exit_code,
            signal=signal,
            memory_mb=ad["RequestMemory"],
        )
        if job in self.sandboxes:
            self.sandboxes[job] = written
        else:
            write_files(Path(ad["Iwd"]), apply_output_remaps(ad, written), self._clock())
            self._leave_queue(job)

    def evict(self, job: JobId, reason: str = "the executor went away") -> None:
        """The job loses its slot and waits for another."""
        ad = self.queue[job]
        ad["VacateReason"] = reason
        self._set_status(ad, IDLE)
        self._event_log(ad).evicted(job, self._clock(), reason)

    def hold_by_htcondor(self, job: JobId, code: int, subcode: int, reason: str) -> None:
        """HTCondor itself puts the job on hold; the numbers are its hold reason codes."""
        if self._status(job) == RUNNING:
            self._event_log(self.queue[job]).evicted(job, self._clock(), reason, code, subcode)
        self._hold(job, reason, code, subcode)

    def exceed_memory(self, job: JobId) -> None:
        """The job uses more memory than it has: the schedd asks for more, or holds it."""
        ad = self.queue[job]
        reason = f"Docker job has gone over memory limit of {ad['RequestMemory']} Mb"
        more = ad.pop("RetryRequestMemory", 0)
        if more > ad["RequestMemory"]:
            self.evict(job, reason)
            ad["RequestMemory"] = more
        else:
            self.hold_by_htcondor(job, HOLD_JOB_OUT_OF_RESOURCES, SUBCODE_OUT_OF_MEMORY, reason)

    @property
    def _now(self) -> int:
        return int(self._clock())

    def _record_call(self, method: str) -> None:
        self.calls[method] += 1
        if not self.reachable:
            raise UnreachableError("the access point does not answer (a fake one)")

    def _status(self, job: JobId) -> int:
        return int(self.queue[job]["JobStatus"])

    def _event_log(self, ad: Mapping[str, Any]) -> EventLogWriter:
        return EventLogWriter(Path(ad.get("UserLog", "/nowhere/log")))

    def _set_status(self, ad: dict[str, Any], status: int) -> None:
        if status != RUNNING and "RemoteHost" in ad:
            ad["LastRemoteHost"] = ad.pop("RemoteHost")
        ad["JobStatus"], ad["EnteredCurrentStatus"] = status, self._now

    def _enqueue(self, ad: dict[str, Any], spool: bool) -> None:
        job = JobId(ad["ClusterId"], ad["ProcId"])
        ad["QDate"] = self._now
        self.queue[job] = ad
        self._set_status(ad, IDLE)
        if spool:
            ad["SUBMIT_Iwd"] = ad["Iwd"]
            self._set_status(ad, HELD)
            ad |= {"HoldReasonCode": HOLD_SPOOLING_INPUT, "HoldReason": "Spooling input data files"}
        self._event_log(ad).submitted(job, self._clock(), ad.get("SubmitEventNotes"))

    def _hold(self, job: JobId, reason: str, code: int, subcode: int) -> None:
        ad = self.queue[job]
        self._set_status(ad, HELD)
        ad |= {"HoldReason": reason, "HoldReasonCode": code, "HoldReasonSubCode": subcode}
        ad["NumHolds"] = ad.get("NumHolds", 0) + 1
        self._event_log(ad).held(job, self._clock(), reason, code, subcode)

    def _remove(self, job: JobId, reason: str) -> bool:
        ad = self.queue[job]
        ad["RemoveReason"] = f"{reason} (by user {_USER_NAME})"
        self._set_status(ad, REMOVED)
        self._event_log(ad).aborted(job, self._clock(), ad["RemoveReason"])
        self._leave_queue(job)
        return True

    def _leave_queue(self, job: JobId) -> None:
        self.history_ads.append(self.queue.pop(job))
