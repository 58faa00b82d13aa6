"""HTCondor's measurements of a job, as Galaxy job metrics of the plugin `htcondor`."""

from __future__ import annotations

from typing import Any

from galaxy import model
from galaxy.job_metrics.formatting import FormattedMetric, JobMetricFormatter
from galaxy.job_metrics.instrumenters import InstrumentPlugin
from galaxy.job_metrics.safety import Safety
from sqlalchemy import insert

from swarm_runner import Job

PLUGIN = "htcondor"
_TITLES = {
    "starts": "Times Started",
    "memory_requested_mb": "Final Memory Request (MB)",
    "capacity_class": "Capacity Class",
    "node": "Node",
    "cpus_used": "CPUs Used (Average)",
    "memory_used_mb": "Peak Memory Observed (MB)",
    "disk_used_mb": "Disk Used (MB)",
    "execute_s": "Execution Time (s)",
}


class _Formatter(JobMetricFormatter):  # type: ignore[misc]
    def format(self, key: str, value: Any) -> FormattedMetric:
        """Return a title and the value as text."""
        if isinstance(value, str):
            return FormattedMetric(_TITLES.get(key, key), value)
        return FormattedMetric(_TITLES.get(key, key), f"{float(value):g}")


class HTCondorMetrics(InstrumentPlugin):  # type: ignore[misc]
    """Formats the metrics for Galaxy. The runner records them itself, with `record_metrics`."""

    plugin_type = PLUGIN
    formatter = _Formatter()
    default_safety = Safety.SAFE

    def job_properties(self, job_id: Any, job_directory: str) -> dict[str, Any]:
        """Return nothing: the job's directory has no files of this plugin."""
        del job_id, job_directory
        return {}


def register(job_metrics: Any) -> None:
    """Register the plugin, so that Galaxy can show the metrics."""
    job_metrics.plugin_classes.setdefault(PLUGIN, HTCondorMetrics)


def record_metrics(session: Any, galaxy_job_id: int, job: Job) -> None:
    """Insert a job's metrics. The caller commits, together with the job's final state."""
    metrics: dict[str, Any] = {
        "capacity_class": job.capacity_class,
        "node": job.node,
        "starts": job.starts,
        "memory_requested_mb": job.memory_mb,
    }
    if job.usage is not None:
        metrics |= {
            "cpus_used": job.usage.cpus,
            "memory_used_mb": job.usage.memory_mb,
            "disk_used_mb": job.usage.disk_mb,
            "execute_s": job.usage.execute_s,
        }
    texts: list[dict[str, Any]] = []
    numbers: list[dict[str, Any]] = []
    for name, value in metrics.items():
        if value is not None:
            row = {
                "job_id": galaxy_job_id,
                "plugin": PLUGIN,
                "metric_name": name,
                "metric_value": value,
            }
            (texts if isinstance(value, str) else numbers).append(row)
    # Plain inserts: Galaxy's objects would load all metrics that the job already has.
    for table, rows in (
        (model.JobMetricText.table, texts),
        (model.JobMetricNumeric.table, numbers),
    ):
        if rows:
            session.execute(insert(table), rows)
