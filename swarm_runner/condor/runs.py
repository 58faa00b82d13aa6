"""How jobs fared on their executors: job ads read for it."""

from __future__ import annotations

from swarm_runner.condor.port import Ad
from swarm_runner.model.health import JobRun
from swarm_runner.model.job import JobId

RUN_PROJECTION = (
    "ClusterId",
    "ProcId",
    "JobStatus",
    "MachineAttrSwarmTaskId0",
    "SwarmRunnerTool",
    "ContainerImage",
    "DockerImage",
    "EnteredCurrentStatus",
    "JobCurrentStartExecutingDate",
    "JobCurrentStartDate",
    "ExitCode",
    "ExitBySignal",
    "HoldReasonCode",
)
COMPLETED, HELD = 4, 5
# Holds that tell nothing of the executor: by a user, a policy, for spooling, for a limit
# (HTCondor manual, "HoldReasonCode").
_NON_EXECUTOR_HOLD_CODES = (1, 3, 16, 26, 34)


def job_run_from_ad(ad: Ad) -> JobRun | None:
    """The latest run of a job that ended or was put on hold; None if it never ran."""
    task = ad.get("MachineAttrSwarmTaskId0")
    # A run that never came to its command leaves the first date as the run before set it.
    began = max(ad.get("JobCurrentStartExecutingDate", 0), ad.get("JobCurrentStartDate", 0))
    if not task or not began:
        return None
    status, ended = ad.get("JobStatus"), ad["EnteredCurrentStatus"]
    well = status == COMPLETED and ad.get("ExitCode") == 0 and not ad.get("ExitBySignal", False)
    held = status == HELD and ad.get("HoldReasonCode") not in _NON_EXECUTOR_HOLD_CODES
    return JobRun(
        job=str(JobId(ad["ClusterId"], ad["ProcId"])),
        task=task,
        job_type=ad.get("SwarmRunnerTool")
        or ad.get("ContainerImage")
        or ad.get("DockerImage")
        or "?",
        ended_s=ended,
        # An old start time is that of a run before this one.
        runtime_s=max(ended - began, 0),
        succeeded=well,
        failed=held or (status == COMPLETED and not well),
    )
