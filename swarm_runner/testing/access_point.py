"""A schedd in memory: it queues, logs and spools jobs; the test decides what happens to them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from swarm_runner.condor.pool_query import (
    FINISHED_PROJECTION,
    JOB_PROJECTION,
    QUEUE_PROJECTION,
    finished_job_from_ad,
)
from swarm_runner.condor.ports import (
    TRACK_PROJECTION,
    Ad,
    JobQuery,
    SubmitInDoubtError,
    SubmitResult,
)
from swarm_runner.errors import UnreachableError
from swarm_runner.model.htcondor import HoldCode, HoldSubcode, JobStatus
from swarm_runner.model.job import JobId
from swarm_runner.model.pool_status import Slot
from swarm_runner.model.scaling import FinishedJob, IdleJobGroup
from swarm_runner.model.shares import encode_account
from swarm_runner.model.submitter import Submitter
from swarm_runner.runner.published_ports import PORTS_ATTRIBUTE
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

_USER_NAME = "swarm-runner"
_LOST_CONNECTION = "the connection was lost (FakeAccessPoint)"


class FakeAccessPoint:
    """Implements `condor.ports.AccessPointPort` without HTCondor's daemons.

    Jobs do not run: `start`, `publish_ports`, `finish`, `evict`, `hold_by_htcondor` and
    `exceed_memory` control what happens to a job. A job that names an event log gets a real one.

    Attributes:
        queue: The complete ads of the queued jobs.
        history_ads: The complete ads of the jobs that left the queue, the oldest first.
        calls: The number of calls of each method of the port.
        reachable: While it is false, every method of the port raises UnreachableError.
        submit_failures: Each entry makes one submit raise SubmitInDoubtError: after its
            transaction was committed (True), or without one (False).
        slot_list: What `slots` returns.
        submitter_list: What `submitters` returns, beside the users who have idle jobs.
        sandboxes: The files of spooled jobs: their inputs, and their outputs once they have ended.
    """

    def __init__(self, clock: Callable[[], float] = time.time, slots: Iterable[Slot] = ()) -> None:
        self.queue: dict[JobId, dict[str, Any]] = {}
        self.history_ads: list[dict[str, Any]] = []
        self.calls: Counter[str] = Counter()
        self.reachable = True
        self.submit_failures: list[bool] = []
        self.slot_list = list(slots)
        self.submitter_list: list[Submitter] = []
        self._clock = clock
        self._last_cluster = 0
        self.sandboxes: dict[JobId, dict[str, bytes]] = {}

    # The methods of the port.

    def submit(self, batch: SubmitBatch, *, spool: bool = False) -> SubmitResult:
        """See AccessPointPort.submit."""
        self._record_call("submit")
        committed = self.submit_failures.pop(0) if self.submit_failures else None
        if committed is False:
            raise SubmitInDoubtError(_LOST_CONNECTION)
        self._last_cluster += 1
        ads = make_job_ads(batch, self._last_cluster)
        for ad in ads:
            self._enqueue(ad, spool)
        if committed:
            raise SubmitInDoubtError(_LOST_CONNECTION)
        return SubmitResult(self._last_cluster, 0, len(ads), spool or None)

    def spool(self, result: SubmitResult) -> None:
        """See AccessPointPort.spool."""
        self._record_call("spool")
        for job in result.ids:
            ad = self.queue[job]
            directory = Path(ad["SUBMIT_Iwd"])
            names = split_file_list(ad.get("TransferInput")) + split_file_list(ad.get("In"))
            self.sandboxes[job] = {name: (directory / name).read_bytes() for name in names}
            ad["StageInFinish"] = self._now
            self._set_status(ad, JobStatus.IDLE)

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
        ads = [project(ad, projection) for ad in newer if matches(ad, query)]
        return ads[:limit]

    def remove(self, ids: Iterable[JobId], reason: str) -> int:
        """See AccessPointPort.remove."""
        self._record_call("remove")
        return sum(self._remove(job, reason) for job in list(ids) if job in self.queue)

    def remove_unspooled(self, ids: Iterable[JobId], reason: str) -> int:
        """See AccessPointPort.remove_unspooled."""
        self._record_call("remove_unspooled")
        unspooled = [job for job in ids if job in self.queue and awaiting_input(self.queue[job])]
        return sum(self._remove(job, reason) for job in unspooled)

    def release(self, ids: Iterable[JobId], reason: str) -> int:
        """See AccessPointPort.release."""
        self._record_call("release")
        held = [
            job
            for job in ids
            if job in self.queue
            and self._status(job) == JobStatus.HELD
            and not awaiting_input(self.queue[job])
        ]
        for job in held:
            ad = self.queue[job]
            for name in ("HoldReason", "HoldReasonCode", "HoldReasonSubCode"):
                del ad[name]
            self._set_status(ad, JobStatus.IDLE)
            self._event_log(ad).released(job, self._clock(), f"{reason} (by user {_USER_NAME})")
        return len(held)

    def hold(self, ids: Iterable[JobId], reason: str) -> int:
        """See AccessPointPort.hold."""
        self._record_call("hold")
        holdable = [
            job
            for job in ids
            if job in self.queue and self._status(job) in (JobStatus.IDLE, JobStatus.RUNNING)
        ]
        for job in holdable:
            self._hold(job, f"{reason} (by user {_USER_NAME})", HoldCode.USER_REQUEST, 0)
        return len(holdable)

    def submitters(self) -> list[Submitter]:
        """See AccessPointPort.submitters."""
        self._record_call("submitters")
        idle = [ad for ad in self.queue.values() if ad["JobStatus"] == JobStatus.IDLE]
        waiting = Counter(map(_submitter_name, idle))
        listed = {submitter.name for submitter in self.submitter_list}
        others = [name for name in waiting if name not in listed]
        found = [Submitter(name=name, idle_jobs=waiting[name]) for name in others]
        return [*self.submitter_list, *found]

    def slots(self) -> list[Slot]:
        """See AccessPointPort.slots."""
        self._record_call("slots")
        return list(self.slot_list)

    def idle_jobs(self, *, by_submitter: bool = False) -> list[IdleJobGroup]:
        """See PoolQueryPort.idle_jobs."""
        self._record_call("idle_jobs")
        return group_idle_jobs(self.queue, by_submitter=by_submitter)

    def recent_jobs(self, limit: int) -> list[FinishedJob]:
        """See PoolQueryPort.recent_jobs."""
        return [
            finished_job_from_ad(ad) for ad in self.history(JobQuery(), FINISHED_PROJECTION, limit)
        ]

    def queued_jobs(self, limit: int) -> list[Ad]:
        """See JobQueryPort.queued_jobs."""
        return self.jobs(JobQuery(), QUEUE_PROJECTION)[:limit]

    def find_job(self, job_id: JobId) -> Ad | None:
        """See JobQueryPort.find_job."""
        query = JobQuery(ids=[job_id])
        found = self.jobs(query, JOB_PROJECTION) or self.history(query, JOB_PROJECTION, 1)
        return found[0] if found else None

    # Methods for tests: what happens to a job.

    def start(self, job: JobId, executor: str = "task-1", node: str = "node-1") -> None:
        """Start a job on an executor of its class."""
        ad = self.queue[job]
        ad["JobCurrentStartDate"] = self._now
        ad["MachineAttrCapacityClass0"] = capacity_class = evaluate(ad, "SwarmRunnerClass")
        ad["MachineAttrSwarmTaskId0"], ad["MachineAttrSwarmNode0"] = executor, node
        ad["RemoteHost"] = f"slot1_1@{node}"
        self._set_status(ad, JobStatus.RUNNING)
        self._event_log(ad).started(
            job,
            self._clock(),
            capacity_class=capacity_class,
            executor=executor,
            node=node,
            memory_mb=ad["RequestMemory"],
        )

    def publish_ports(self, job: JobId, host: str = "10.0.0.1", first_port: int = 30_000) -> None:
        """Publish the ports of a running job, as its executor does a moment after its start."""
        ad = self.queue[job]
        parts = [ad["MachineAttrSwarmTaskId0"]]
        for number, name in enumerate(ad["ContainerServiceNames"].split(",")):
            parts.append(f"{name}={ad[f'{name}_ContainerPort']}={first_port + number}@{host}")
        ad[PORTS_ATTRIBUTE] = "|".join(parts)

    def finish(
        self,
        job: JobId,
        exit_code: int = 0,
        *,
        signal: int | None = None,
        outputs: Mapping[str, bytes] | None = None,
    ) -> None:
        """End a job's command, which has written `outputs`, by name; `stdout` is its output.

        If an output that the invocation names is missing, the job is held, as by HTCondor.
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
                HoldCode.TRANSFER_OUTPUT_ERROR,
                HoldSubcode.ENOENT,
                f"Transfer output files failure: {reason}",
            )
            return
        ad["ExitBySignal"] = signal is not None
        ad |= {"ExitCode": exit_code} if signal is None else {"ExitSignal": signal}
        ad["CompletionDate"] = self._now
        self._set_status(ad, JobStatus.COMPLETED)
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

    def evict(self, job: JobId, reason: str = "the executor stopped") -> None:
        """End a run before the command has ended; the job becomes idle."""
        ad = self.queue[job]
        ad["VacateReason"] = reason
        self._set_status(ad, JobStatus.IDLE)
        self._event_log(ad).evicted(job, self._clock(), reason)

    def hold_by_htcondor(self, job: JobId, code: int, subcode: int, reason: str) -> None:
        """Hold a job with HTCondor's hold code and subcode."""
        if self._status(job) == JobStatus.RUNNING:
            self._event_log(self.queue[job]).evicted(job, self._clock(), reason, code, subcode)
        self._hold(job, reason, code, subcode)

    def exceed_memory(self, job: JobId) -> None:
        """Let a job exceed its memory: it retries with a larger request, or is held."""
        ad = self.queue[job]
        reason = f"Docker job has gone over memory limit of {ad['RequestMemory']} Mb"
        retry_memory_mb = ad.pop("RetryRequestMemory", 0)
        if retry_memory_mb > ad["RequestMemory"]:
            self.evict(job, reason)
            ad["RequestMemory"] = retry_memory_mb
        else:
            self.hold_by_htcondor(job, HoldCode.JOB_OUT_OF_RESOURCES, HoldSubcode.MEMORY, reason)

    @property
    def _now(self) -> int:
        return int(self._clock())

    def _record_call(self, method: str) -> None:
        self.calls[method] += 1
        if not self.reachable:
            raise UnreachableError("the access point does not answer (FakeAccessPoint)")

    def _status(self, job: JobId) -> int:
        return int(self.queue[job]["JobStatus"])

    def _event_log(self, ad: Mapping[str, Any]) -> EventLogWriter:
        return EventLogWriter(Path(ad.get("UserLog", "/nowhere/log")))

    def _set_status(self, ad: dict[str, Any], status: int) -> None:
        if status != JobStatus.RUNNING and "RemoteHost" in ad:
            ad["LastRemoteHost"] = ad.pop("RemoteHost")
            # The shadow tells the schedd of a start when the job leaves its slot.
            ad["NumJobStarts"] = ad.get("NumJobStarts", 0) + 1
            ad["JobCurrentStartExecutingDate"] = ad["JobCurrentStartDate"]
        ad["JobStatus"], ad["EnteredCurrentStatus"] = status, self._now

    def _enqueue(self, ad: dict[str, Any], spool: bool) -> None:
        job = JobId(ad["ClusterId"], ad["ProcId"])
        ad |= {"QDate": self._now, "User": f"{_USER_NAME}@fake"}
        self.queue[job] = ad
        self._set_status(ad, JobStatus.IDLE)
        if spool:
            ad["SUBMIT_Iwd"] = ad["Iwd"]
            self._set_status(ad, JobStatus.HELD)
            ad |= {
                "HoldReasonCode": HoldCode.SPOOLING_INPUT,
                "HoldReason": "Spooling input data files",
            }
        self._event_log(ad).submitted(job, self._clock(), ad.get("SubmitEventNotes"))

    def _hold(self, job: JobId, reason: str, code: int, subcode: int) -> None:
        ad = self.queue[job]
        self._set_status(ad, JobStatus.HELD)
        ad |= {"HoldReason": reason, "HoldReasonCode": code, "HoldReasonSubCode": subcode}
        ad["NumHolds"] = ad.get("NumHolds", 0) + 1
        self._event_log(ad).held(job, self._clock(), reason, code, subcode)

    def _remove(self, job: JobId, reason: str) -> bool:
        ad = self.queue[job]
        ad["RemoveReason"] = f"{reason} (by user {_USER_NAME})"
        self._set_status(ad, JobStatus.REMOVED)
        self._event_log(ad).aborted(job, self._clock(), ad["RemoveReason"])
        self._leave_queue(job)
        return True

    def _leave_queue(self, job: JobId) -> None:
        self.history_ads.append(self.queue.pop(job))


def _submitter_name(ad: Mapping[str, Any]) -> str:
    """Return the submitter of a job, as the access point names those of the pool's identity."""
    account = ad.get("SwarmRunnerAccount")
    return f"{encode_account(_USER_NAME)}.{account}" if account else _USER_NAME
