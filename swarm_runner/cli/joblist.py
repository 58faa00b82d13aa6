"""Jobs as the access point knows them. Looking changes nothing: whoever runs them goes on alone."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import NamedTuple

from swarm_runner.condor.ports import EXPLAIN_PROJECTION, AccessPointPort, Ad, JobQuery
from swarm_runner.errors import Diagnostic, InvalidInputError
from swarm_runner.model.job import Job, JobId, JobState
from swarm_runner.model.pool import Pool
from swarm_runner.model.pool_status import Slot
from swarm_runner.runner import outcomes
from swarm_runner.runner.ad_reader import COMPLETED, apply_ad, job_id_from_ad
from swarm_runner.runner.explanation import Explanation
from swarm_runner.runner.explanation import explain as words_about
from swarm_runner.runner.job_table import JobTable
from swarm_runner.runner.vm import outcome as guests

_JOB_ID = re.compile(r"[0-9]{1,9}\.[0-9]{1,9}")


class JobList(NamedTuple):
    """Jobs in order. Of `unfetched` ones the outputs wait at the access point."""

    jobs: list[Job]
    awaiting_retrieval: list[Job]


def list_jobs(access_point: AccessPointPort, runner: str, ended_limit: int) -> JobList:
    """A runner's jobs: those in the queue, and the latest `ended` others."""
    return _query(access_point, JobQuery(runner_name=runner), ended_limit)


def find_jobs(access_point: AccessPointPort, runner: str, names: Sequence[str]) -> list[Job]:
    """The jobs of these names: `cluster.proc` of whichever runner, or a key of this one.

    Raises InvalidInputError that tells every name of which there is no job.
    """
    ids = {name: JobId(*map(int, name.split("."))) for name in names if _JOB_ID.fullmatch(name)}
    numbered = JobQuery(ids=list(ids.values()))
    by_id = {job.id: job for job in _query(access_point, numbered).jobs} if ids else {}
    named: dict[str, list[Job]] = {
        name: [by_id[which]] for name, which in ids.items() if which in by_id
    }
    # What looks like a job's number may be a key too.
    keys = [name for name in names if name not in named]
    if keys:
        for job in _query(access_point, JobQuery(runner_name=runner, keys=keys)).jobs:
            named.setdefault(job.key, []).append(job)
    message = f"no such job; `swarm-runner jobs --runner {runner}` lists them"
    faults = [Diagnostic(message, source=name) for name in names if name not in named]
    if faults:
        raise InvalidInputError(faults)
    return sorted({job for found in named.values() for job in found}, key=_sort_key)


def explain_jobs(
    access_point: AccessPointPort, jobs: Sequence[Job], pool: Pool
) -> list[tuple[Job, Explanation]]:
    """Why each job is where it is."""
    open_ids = [job.id for job in jobs if not job.state.ended]
    ads: dict[JobId, Ad] = {}
    slots: list[Slot] = []
    if open_ids:
        found = access_point.jobs(JobQuery(ids=open_ids), EXPLAIN_PROJECTION)
        ads = {job_id_from_ad(ad): ad for ad in found}
        slots = access_point.slots()
    now = time.time()
    return [(job, words_about(job, ads.get(job.id), slots, pool, now)) for job in jobs]


def _sort_key(job: Job) -> JobId:
    return job.id


def _query(
    access_point: AccessPointPort, query: JobQuery, ended_limit: int | None = None
) -> JobList:
    accounts = JobTable()
    unfetched: list[JobId] = []
    # The queue first: a job that leaves it in between is then in the history for sure.
    for ad in access_point.jobs(query):
        apply_ad(accounts, ad, left_queue=False)
        if ad.get("JobStatus") == COMPLETED and job_id_from_ad(ad) in accounts.active:
            _complete_spooled(accounts, ad)
            if outcomes.awaiting_retrieval(ad):
                unfetched.append(job_id_from_ad(ad))
    if ended_limit != 0:
        for ad in access_point.history(query, limit=ended_limit):
            apply_ad(accounts, ad, left_queue=True)
    found = sorted(accounts.jobs.values(), key=_sort_key)
    return JobList(found, [accounts.jobs[which] for which in unfetched])


def _complete_spooled(job_table: JobTable, ad: Ad) -> None:
    """A spooled job stays in the queue until its outputs are fetched, and a moment longer."""
    at = float(ad.get("CompletionDate", 0))
    job_table.finish(job_table.jobs[job_id_from_ad(ad)], JobState.COMPLETED, guests.from_ad(ad), at)
