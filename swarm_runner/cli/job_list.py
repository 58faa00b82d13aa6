"""Jobs as the access point knows them. Reading them does not affect the runner that owns them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from swarm_runner.condor.ports import AccessPointPort, Ad, JobQuery
from swarm_runner.errors import Diagnostic, InvalidInputError
from swarm_runner.model.htcondor import JobStatus
from swarm_runner.model.job import Job, JobId, JobState
from swarm_runner.runner import outcomes
from swarm_runner.runner.ad_reader import apply_ad, job_id_from_ad
from swarm_runner.runner.job_table import JobTable
from swarm_runner.runner.vm import outcome as vm_outcome

_JOB_ID = re.compile(r"[0-9]{1,9}\.[0-9]{1,9}")


class JobList(NamedTuple):
    """Jobs in the order of their IDs, and those whose outputs are still on the access point."""

    jobs: list[Job]
    awaiting_retrieval: list[Job]


def list_jobs(access_point: AccessPointPort, runner: str, ended_limit: int) -> JobList:
    """Return a runner's jobs: those in the queue, and the last `ended_limit` that left it."""
    return _query(access_point, JobQuery(runner_name=runner), ended_limit)


def find_jobs(access_point: AccessPointPort, runner: str, names: Sequence[str]) -> list[Job]:
    """Return the jobs with these names: job IDs of any runner, or keys of this one.

    Raises InvalidInputError with every name that no job has.
    """
    ids = {name: JobId(*map(int, name.split("."))) for name in names if _JOB_ID.fullmatch(name)}
    query = JobQuery(ids=list(ids.values()))
    by_id = {job.id: job for job in _query(access_point, query).jobs} if ids else {}
    by_name: dict[str, list[Job]] = {
        name: [by_id[job_id]] for name, job_id in ids.items() if job_id in by_id
    }
    # A key may look like a job ID.
    keys = [name for name in names if name not in by_name]
    if keys:
        for job in _query(access_point, JobQuery(runner_name=runner, keys=keys)).jobs:
            by_name.setdefault(job.key, []).append(job)
    message = f"no such job; `swarm-runner jobs --runner {runner}` lists them"
    diagnostics = [Diagnostic(message, source=name) for name in names if name not in by_name]
    if diagnostics:
        raise InvalidInputError(diagnostics)
    return sorted({job for jobs in by_name.values() for job in jobs}, key=_sort_key)


def _sort_key(job: Job) -> JobId:
    return job.id


def _query(
    access_point: AccessPointPort, query: JobQuery, ended_limit: int | None = None
) -> JobList:
    job_table = JobTable()
    awaiting_retrieval: list[JobId] = []
    # Read the queue first: a job that leaves it meanwhile is then in the history.
    for ad in access_point.jobs(query):
        apply_ad(job_table, ad, left_queue=False)
        if ad.get("JobStatus") == JobStatus.COMPLETED and job_id_from_ad(ad) in job_table.active:
            _complete_spooled(job_table, ad)
            if outcomes.awaiting_retrieval(ad):
                awaiting_retrieval.append(job_id_from_ad(ad))
    if ended_limit != 0:
        for ad in access_point.history(query, limit=ended_limit):
            apply_ad(job_table, ad, left_queue=True)
    jobs = sorted(job_table.jobs.values(), key=_sort_key)
    return JobList(jobs, [job_table.jobs[job_id] for job_id in awaiting_retrieval])


def _complete_spooled(job_table: JobTable, ad: Ad) -> None:
    """Complete a spooled job, which stays in the queue until its outputs are retrieved."""
    ended_at = float(ad.get("CompletionDate", 0))
    job = job_table.jobs[job_id_from_ad(ad)]
    job_table.finish(job, JobState.COMPLETED, vm_outcome.from_ad(ad), ended_at)
