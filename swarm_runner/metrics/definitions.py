"""Every metric: its name, type, labels, meaning and stability. The reference is made from here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PREFIX = "swarm_runner_"
# Jobs wait and run for seconds or for days.
DURATION_BUCKETS_S = (1, 10, 30, 60, 300, 900, 3600, 14_400, 86_400)
START_BUCKETS_S = (1, 2.5, 5, 10, 20, 40, 90)
SHORT_BUCKETS_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
RATIO_BUCKETS = (0.1, 0.25, 0.5, 0.75, 0.9, 1)


@dataclass(frozen=True, slots=True)
class MetricDefinition:
    """One metric.

    Attributes:
        name: Its name without the prefix; a counter's ends with `_total`.
        type: Prometheus's type.
        help: What it measures, as a sentence.
        labels: Its labels beside `pool`.
        stability: `stable` changes only with a major version, `beta` with a minor one, `alpha` at
            any time.
        buckets: The upper bounds of a histogram.
    """

    name: str
    type: Literal["gauge", "counter", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    stability: Literal["stable", "beta", "alpha"] = "beta"
    buckets: tuple[float, ...] = ()

    @property
    def full_name(self) -> str:
        """The name as Prometheus reads it."""
        return f"{PREFIX}{self.name}"

    @property
    def label_names(self) -> tuple[str, ...]:
        """All labels, the pool first."""
        return ("pool", *self.labels)


def _gauge(name: str, help_text: str, *labels: str) -> MetricDefinition:
    return MetricDefinition(name, "gauge", help_text, labels)


def _counter(name: str, help_text: str, *labels: str) -> MetricDefinition:
    return MetricDefinition(name, "counter", help_text, labels)


def _histogram(
    name: str, help_text: str, buckets: tuple[float, ...], *labels: str
) -> MetricDefinition:
    return MetricDefinition(name, "histogram", help_text, labels, buckets=buckets)


QUEUE = (
    _gauge(
        "jobs",
        "Jobs in the queue by state. The schedd counts held jobs of all classes together: their "
        "class is empty.",
        "class",
        "state",
    ),
    _gauge("jobs_unmatchable", "Idle jobs that fit no class; no executor ever accepts them."),
    _gauge(
        "oldest_idle_seconds",
        "How long the oldest idle job has been waiting, as far as this process has seen.",
        "class",
    ),
    _histogram(
        "job_wait_seconds",
        "Time from submit to the first start of jobs that ended.",
        DURATION_BUCKETS_S,
        "class",
    ),
    _histogram(
        "job_execute_seconds",
        "Time of the last run of jobs that ended.",
        DURATION_BUCKETS_S,
        "class",
    ),
    _histogram(
        "job_memory_used_ratio",
        "Most memory that ended jobs used, relative to their request.",
        RATIO_BUCKETS,
        "class",
    ),
    _counter(
        "jobs_finished_total",
        "Jobs that left the queue: succeeded, failed, signalled or removed.",
        "class",
        "outcome",
    ),
    _counter("job_starts_total", "Starts of jobs that ended.", "class"),
    _counter(
        "job_vacates_total",
        "Vacates of jobs that ended, by HTCondor's reason; rare reasons are counted as other.",
        "reason",
    ),
    _counter(
        "memory_escalations_total",
        "How often jobs that ended were killed for their memory and tried with more.",
        "class",
    ),
    _counter(
        "holds_total",
        "Holds of jobs that ended, by HTCondor's reason; rare reasons are counted as other.",
        "kind",
    ),
    _counter(
        "refusals_total",
        "Jobs that ended because an executor refused them, by the rule. What the access point "
        "refuses at submit is never in its queue, and not counted.",
        "rule",
    ),
)
EXECUTORS = (
    _gauge("executors", "Executors by what they are doing.", "class", "state"),
    _gauge("executors_desired", "Replicas of the class's service.", "class"),
    _gauge("executors_min", "Configured minimum of executors.", "class"),
    _gauge("executors_max", "Configured maximum of executors; absent without one.", "class"),
    _gauge("slot_cpus", "CPUs of all executors, claimed by jobs or free.", "class", "state"),
    _gauge("slot_memory_bytes", "Memory of all executors, claimed or free.", "class", "state"),
    _gauge("slot_gpus", "GPUs of all executors, claimed or free.", "class", "state"),
    _histogram(
        "executor_start_seconds",
        "Time from the creation of an executor's task to its first slot.",
        START_BUCKETS_S,
        "class",
    ),
    _counter(
        "executors_replaced_total",
        "Executors that were drained because they did not work, by the problem.",
        "class",
        "reason",
    ),
    _counter(
        "image_pulls_total",
        "Pulls of images by the executors' gateways: succeeded or failed. However many jobs wait "
        "for an image, it is one pull; an executor's last minute is not counted.",
        "result",
    ),
    _gauge(
        "retiring_until_timestamp_seconds",
        "Earliest time at which a job of a retiring executor will be vacated; absent without one.",
        "class",
    ),
)
DECISIONS = (
    _counter("scalings_total", "Changes of a class's replicas.", "class", "direction"),
    _gauge("frozen", "1 if the class is not scaled because data is missing.", "class"),
    _histogram(
        "round_duration_seconds", "Time of one round: observe, decide, act.", SHORT_BUCKETS_S
    ),
    _counter("poll_errors_total", "Observations without an answer of the source.", "source"),
    _gauge("last_poll_timestamp_seconds", "When the source answered last.", "source"),
)
HEALTH = (
    _gauge("build_info", "1; the label is the version of the software that observes.", "version"),
    _gauge("schedd_duty_cycle_ratio", "Share of time that the schedd was busy recently."),
    _gauge("disk_free_bytes", "Free space on the disk of the job queue, the spool."),
    _gauge("disk_size_bytes", "Size of the disk of the job queue, the spool."),
    _gauge(
        "token_expiry_timestamp_seconds",
        "When the token expires that the observer uses; absent if it does not expire.",
    ),
)
RUNNER = (
    _histogram("submit_seconds", "Time of a call of submit.", SHORT_BUCKETS_S, "runner"),
    _counter("submits_unresolved_total", "Calls of submit that left jobs in doubt.", "runner"),
    _histogram(
        "event_lag_seconds",
        "Time from a start or an end of a job to the poll that reported it.",
        SHORT_BUCKETS_S,
        "runner",
    ),
    _gauge("tracked_jobs", "Jobs that the runner tracks by state.", "runner", "state"),
    _counter(
        "log_gaps_total",
        "How often the event log was damaged, replaced or not written.",
        "runner",
    ),
)

GROUPS = {
    "Queue": QUEUE,
    "Executors": EXECUTORS,
    "Decisions": DECISIONS,
    "Health": HEALTH,
    "An embedded runner": RUNNER,
}
POOL_METRICS = (*QUEUE, *EXECUTORS, *DECISIONS, *HEALTH)


def reference() -> str:
    """Return the tables of docs/reference/metrics.md."""
    lines: list[str] = []
    for title, definitions in GROUPS.items():
        lines += [f"## {title}", "", "| metric | type | labels | meaning | stability |"]
        lines.append("| --- | --- | --- | --- | --- |")
        for definition in definitions:
            labels = ", ".join(f"`{label}`" for label in definition.label_names)
            lines.append(
                f"| `{definition.full_name}` | {definition.type} | {labels} | {definition.help} | "
                f"{definition.stability} |"
            )
        lines.append("")
    return "\n".join(lines)
