"""The metrics of a pool, from the rounds of its autoscaler."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from swarm_runner._version import __version__
from swarm_runner.errors import UnreachableError
from swarm_runner.metrics.definitions import POOL_METRICS
from swarm_runner.metrics.store import Labels, MetricStore
from swarm_runner.metrics.usage import MEMORY_REASON
from swarm_runner.model.pool import Pool
from swarm_runner.model.pool_status import ExecutorReplacement, ScheddStatistics, Slot
from swarm_runner.model.refusals import RULES
from swarm_runner.model.scaling import FinishedJob, IdleJobGroup, ScalingRecord
from swarm_runner.provisioner.autoscaler import AutoscalerRound
from swarm_runner.provisioner.observation import PoolObservation

SCHEDD_INTERVAL_S = 15.0
_BYTES_PER_MB = 2**20
# HTCondor's names of the reasons for which this project's jobs are held or vacated. The others are
# counted as one: with each protocol of a file transfer, HTCondor has names without number.
HOLD_REASONS = frozenset(
    {
        *("UserRequest", "JobPolicy", "FailedToCreateProcess", "TransferOutputError"),
        *("TransferInputError", "HookPrepareJobFailure", "StartdHeldJob", "SystemPolicy"),
        *(MEMORY_REASON, "InvalidDockerImage", "JobDurationExceeded", "JobExecuteExceeded"),
    }
)
KNOWN_REASONS = HOLD_REASONS | {"StartdShutdown", "ClaimDeactivated", "JobRemoved"}
PROBLEMS = ("broken_slot", "docker_probe", "failing_jobs", "unresponsive", "virtual_machines")
_COUNTED_TWICE = ("TransferInputError", "TransferOutputError")
# Every job is held while its inputs are spooled.
_NOT_HOLDS = frozenset({"SpoolingInput"})
OTHER_REASON = "other"
SOURCES = ("swarm", "slots", "queue", "schedd")
PULL_RESULTS = ("succeeded", "failed")
HISTOGRAMS_OF_CLASSES = (
    *("job_wait_seconds", "job_execute_seconds", "job_memory_used_ratio"),
    "executor_start_seconds",
)
OUTCOMES = ("succeeded", "failed", "signalled", "removed")


class PoolMetrics:
    """Turns each round of an autoscaler into metrics: pass `record_round` to it as `on_round`.

    Counters begin at 0 with the process, as Prometheus expects: a job that ended before is not
    counted, and one that ends is counted once. When a source does not answer, its gauges keep
    what was known last; `last_poll_timestamp_seconds` says from when that is.

    Args:
        pool: The pool.
        query_schedd: Returns what the schedd advertises; called every 15 s.
        token_expiry_s: When the observer's token expires, in seconds since the epoch.
        clock: Returns the time in seconds since the epoch.
    """

    def __init__(
        self,
        pool: Pool,
        query_schedd: Callable[[], ScheddStatistics],
        token_expiry_s: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store = MetricStore(POOL_METRICS)
        self._pool = pool
        self._classes = frozenset(pool.classes)
        self._query_schedd = query_schedd
        self._clock = clock
        self._held_jobs = 0
        self._schedd_query_s = float("-inf")
        # The jobs that the history had last; None before the first answer.
        self._known_ended: frozenset[str] | None = None
        # Pulls of each executor's task, succeeded and failed; None before the first answer.
        self._known_pulls: dict[str, tuple[int, int]] | None = None
        self._initialise(token_expiry_s)

    def record_round(self, autoscaler_round: AutoscalerRound) -> None:
        """Record one round."""
        self.store.observe("round_duration_seconds", autoscaler_round.duration_s)
        observation = autoscaler_round.observation
        self._record_poll("swarm", observation is not None, autoscaler_round.ended_s)
        if observation is not None:
            self._record_poll("slots", observation.slots is not None, autoscaler_round.ended_s)
            self._record_poll("queue", observation.idle_jobs is not None, autoscaler_round.ended_s)
        self._record_schedd()
        if observation is not None:
            self._record_executors(observation)
            if observation.slots is not None:
                self._record_slots(observation.slots)
                self._record_image_pulls(observation, observation.slots)
            if observation.idle_jobs is not None:
                self._record_queue(observation, observation.idle_jobs)
                self._record_finished(observation.finished_jobs)
        for record in autoscaler_round.records:
            if isinstance(record, ScalingRecord):
                self._record_scaling(record)
            elif observation is not None and record.action == "draining":
                problem = _replacement_problem(record, observation)
                self.store.increment("executors_replaced_total", record.capacity_class, problem)

    def _initialise(self, token_expiry_s: float | None) -> None:
        """Make the series appear whose labels are known: `rate` needs the first increase, too."""
        self.store.set("build_info", 1, __version__)
        if token_expiry_s is not None:
            self.store.set("token_expiry_timestamp_seconds", token_expiry_s)
        for reason in (*sorted(HOLD_REASONS), OTHER_REASON):
            self.store.increment("holds_total", reason, amount=0)
        for reason in (*sorted(KNOWN_REASONS), OTHER_REASON):
            self.store.increment("job_vacates_total", reason, amount=0)
        for rule in RULES:
            self.store.increment("refusals_total", rule, amount=0)
        for result in PULL_RESULTS:
            self.store.increment("image_pulls_total", result, amount=0)
        for source in SOURCES:
            self.store.increment("poll_errors_total", source, amount=0)
        for name, capacity_class in self._pool.classes.items():
            for outcome in OUTCOMES:
                self.store.increment("jobs_finished_total", name, outcome, amount=0)
            for problem in PROBLEMS:
                self.store.increment("executors_replaced_total", name, problem, amount=0)
            for direction in ("up", "down"):
                self.store.increment("scalings_total", name, direction, amount=0)
            self.store.increment("job_starts_total", name, amount=0)
            self.store.increment("memory_escalations_total", name, amount=0)
            for histogram in HISTOGRAMS_OF_CLASSES:
                self.store.create_histogram(histogram, name)
            limits = capacity_class.replica_limits
            self.store.set("executors_min", limits.minimum, name)
            if limits.maximum is not None:
                self.store.set("executors_max", limits.maximum, name)

    def _record_poll(self, source: str, answered: bool, time_s: float) -> None:
        if answered:
            self.store.set("last_poll_timestamp_seconds", time_s, source)
        else:
            self.store.increment("poll_errors_total", source)

    def _record_schedd(self) -> None:
        now = self._clock()
        if now - self._schedd_query_s < SCHEDD_INTERVAL_S:
            return
        self._schedd_query_s = now
        try:
            statistics = self._query_schedd()
        except UnreachableError:
            self._record_poll("schedd", False, now)
            return
        self._record_poll("schedd", True, now)
        self._held_jobs = statistics.held_jobs
        if statistics.duty_cycle is not None:
            self.store.set("schedd_duty_cycle_ratio", statistics.duty_cycle)
        if statistics.spool_free_bytes is not None and statistics.spool_size_bytes is not None:
            self.store.set("disk_free_bytes", statistics.spool_free_bytes)
            self.store.set("disk_size_bytes", statistics.spool_size_bytes)

    def _record_executors(self, observation: PoolObservation) -> None:
        counts: dict[Labels, float] = {
            (name, state): count
            for name, snapshot in observation.classes.items()
            for state, count in snapshot.executors.model_dump().items()
        }
        self.store.set_all("executors", counts)
        replicas = observation.status.replicas
        desired: dict[Labels, float] = {(n,): r for n, r in replicas.items() if n in self._classes}
        self.store.set_all("executors_desired", desired)
        deadlines: dict[Labels, float] = {}
        for executor in observation.status.executors:
            if executor.vacated_at is not None and executor.capacity_class in self._classes:
                key = (executor.capacity_class,)
                deadlines[key] = min(deadlines.get(key, executor.vacated_at), executor.vacated_at)
        self.store.set_all("retiring_until_timestamp_seconds", deadlines)
        for name, times_s in observation.startup_times_s.items():
            for time_s in times_s:
                self.store.observe("executor_start_seconds", time_s, name)

    def _record_slots(self, slots: Sequence[Slot]) -> None:
        """Sum what is free and what is claimed; a partitionable slot has what jobs left of it."""
        totals = {name: [0.0] * 6 for name in self._classes}
        for slot in slots:
            if not slot.partitionable or slot.capacity_class not in totals:
                continue
            # A pool has thousands of slots, and this runs every other second.
            total = totals[slot.capacity_class]
            total[0] += slot.cpus
            total[1] += slot.total_cpus
            total[2] += slot.memory_mb
            total[3] += slot.total_memory_mb
            total[4] += slot.gpus
            total[5] += slot.total_gpus
        for number, unit, scale in (
            (0, "slot_cpus", 1),
            (2, "slot_memory_bytes", _BYTES_PER_MB),
            (4, "slot_gpus", 1),
        ):
            values: dict[Labels, float] = {}
            for name, total in totals.items():
                free, everything = total[number], total[number + 1]
                values[name, "free"] = float(round(free * scale))
                values[name, "claimed"] = float(round((everything - free) * scale))
            self.store.set_all(unit, values)

    def _record_image_pulls(self, observation: PoolObservation, slots: Sequence[Slot]) -> None:
        """Count what executors pulled since their last ad."""
        known = self._known_pulls
        self._known_pulls = {
            slot.task: (slot.image_pulls, slot.failed_image_pulls)
            for slot in slots
            if slot.partitionable
        }
        if known is None:
            return
        for task, counts in self._known_pulls.items():
            before = known.get(task, (0, 0))
            if counts == before:  # as on nearly every executor, every other second
                continue
            for result, count, earlier in zip(PULL_RESULTS, counts, before, strict=True):
                # A gateway that was started again counts from 0.
                amount = count - earlier if count >= earlier else count
                self.store.increment("image_pulls_total", result, amount=amount)
        # An executor whose ad is missing for a while is not counted again.
        missing = known.keys() - self._known_pulls.keys()
        if missing:
            for executor in observation.status.executors:
                if executor.task in missing:
                    self._known_pulls[executor.task] = known[executor.task]

    def _record_queue(
        self, observation: PoolObservation, idle_jobs: Sequence[IdleJobGroup]
    ) -> None:
        jobs: dict[Labels, float] = {("", "held"): self._held_jobs}
        oldest: dict[Labels, float] = {}
        for name, snapshot in observation.classes.items():
            jobs[name, "idle"] = sum(group.count for group in snapshot.idle_jobs)
            jobs[name, "running"] = snapshot.running_jobs
            oldest[name,] = max((g.oldest_wait_s for g in snapshot.idle_jobs), default=0.0)
        self.store.set_all("jobs", jobs)
        self.store.set_all("oldest_idle_seconds", oldest)
        unmatchable = sum(g.count for g in idle_jobs if g.capacity_class not in self._classes)
        self.store.set("jobs_unmatchable", unmatchable)

    def _record_finished(self, finished: Sequence[FinishedJob]) -> None:
        known = self._known_ended
        self._known_ended = frozenset(job.job for job in finished)
        if known is None:
            return
        for job in finished:
            if job.job not in known:
                self._record_finished_job(job)

    def _record_finished_job(self, job: FinishedJob) -> None:
        # A class that left the configuration must not add series without end.
        name = job.capacity_class if job.capacity_class in self._classes else ""
        self.store.increment("jobs_finished_total", name, job.outcome)
        self.store.increment("job_starts_total", name, amount=job.starts)
        if job.wait_s is not None:
            self.store.observe("job_wait_seconds", job.wait_s, name)
        if job.runtime_s is not None:
            self.store.observe("job_execute_seconds", job.runtime_s, name)
        if job.memory_used_ratio is not None:
            self.store.observe("job_memory_used_ratio", job.memory_used_ratio, name)
        for reason, count in job.holds.items():
            if reason not in _NOT_HOLDS:
                self.store.increment("holds_total", _known_reason(reason), amount=count)
        if job.refused_by:
            self.store.increment("refusals_total", job.refused_by)
        for reason, count in job.vacates.items():
            # "TransferInputErrorCedar" is counted as "TransferInputError", too.
            if not (reason.startswith(_COUNTED_TWICE) and reason not in _COUNTED_TWICE):
                self.store.increment("job_vacates_total", _known_reason(reason), amount=count)
        escalations = job.vacates.get(MEMORY_REASON, 0) - job.holds.get(MEMORY_REASON, 0)
        self.store.increment("memory_escalations_total", name, amount=max(escalations, 0))

    def _record_scaling(self, record: ScalingRecord) -> None:
        self.store.set("frozen", int(record.frozen), record.capacity_class)
        if record.action == "scaled":
            direction = "up" if record.wanted > record.replicas else "down"
            self.store.increment("scalings_total", record.capacity_class, direction)


def _known_reason(reason: str) -> str:
    return reason if reason in KNOWN_REASONS else OTHER_REASON


def _replacement_problem(record: ExecutorReplacement, observation: PoolObservation) -> str:
    """Return the kind of problem for which an executor was replaced."""
    slots = [slot for slot in observation.slots or () if slot.task == record.task]
    if not slots:
        return "unresponsive"
    if any(slot.broken_reason for slot in slots):
        return "broken_slot"
    if any(slot.virtualization and slot.problem for slot in slots):
        return "virtual_machines"
    return "failing_jobs" if all(slot.docker for slot in slots) else "docker_probe"
