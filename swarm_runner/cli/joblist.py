"""Jobs as the access point knows them. Looking changes nothing: whoever runs them goes on alone."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import NamedTuple

from swarm_runner.condor.port import EXPLAINED, AccessPointPort, Ad, Selection
from swarm_runner.errors import Fault, InvalidInputError
from swarm_runner.model.job import Job, JobId, JobState
from swarm_runner.model.pool import Pool
from swarm_runner.model.status import Slot
from swarm_runner.policy.explain import Explanation
from swarm_runner.policy.explain import explain as words_about
from swarm_runner.runner import guests, outcomes
from swarm_runner.runner.accounts import Accounts
from swarm_runner.runner.ads import COMPLETED, job_id, observe

_ID = re.compile(r"[0-9]{1,9}\.[0-9]{1,9}")


class JobList(NamedTuple):
    """Jobs in order. Of `unfetched` ones the outputs wait at the access point."""

    jobs: list[Job]
    unfetched: list[Job]


def jobs(access_point: AccessPointPort, runner: str, ended: int) -> JobList:
    """A runner's jobs: those in the queue, and the latest `ended` others."""
    return _read(access_point, Selection(runner=runner), ended)


def find(access_point: AccessPointPort, runner: str, names: Sequence[str]) -> list[Job]:
    """The jobs of these names: `cluster.proc` of whichever runner, or a key of this one.

    Raises InvalidInputError that tells every name of which there is no job.
    """
    ids = {name: JobId(*map(int, name.split("."))) for name in names if _ID.fullmatch(name)}
    numbered = Selection(ids=list(ids.values()))
    by_id = {job.id: job for job in _read(access_point, numbered).jobs} if ids else {}
    named: dict[str, list[Job]] = {
        name: [by_id[which]] for name, which in ids.items() if which in by_id
    }
    # What looks like a job's number may be a key too.
    keys = [name for name in names if name not in named]
    if keys:
        for job in _read(access_point, Selection(runner=runner, keys=keys)).jobs:
            named.setdefault(job.key, []).append(job)
    message = f"no such job; `swarm-runner jobs --runner {runner}` lists them"
    faults = [Fault(name, message) for name in names if name not in named]
    if faults:
        raise InvalidInputError(faults)
    return sorted({job for found in named.values() for job in found}, key=_order)


def explain(
    access_point: AccessPointPort, jobs: Sequence[Job], pool: Pool
) -> list[tuple[Job, Explanation]]:
    """Why each job is where it is."""
    open_ids = [job.id for job in jobs if not job.state.ended]
    ads: dict[JobId, Ad] = {}
    slots: list[Slot] = []
    if open_ids:
        found = access_point.jobs(Selection(ids=open_ids), EXPLAINED)
        ads = {job_id(ad): ad for ad in found}
        slots = access_point.slots()
    now = time.time()
    return [(job, words_about(job, ads.get(job.id), slots, pool, now)) for job in jobs]


def _order(job: Job) -> JobId:
    return job.id


def _read(access_point: AccessPointPort, chosen: Selection, ended: int | None = None) -> JobList:
    accounts = Accounts()
    unfetched: list[JobId] = []
    # The queue first: a job that leaves it in between is then in the history for sure.
    for ad in access_point.jobs(chosen):
        observe(accounts, ad, left=False)
        if ad.get("JobStatus") == COMPLETED and job_id(ad) in accounts.active:
            _complete(accounts, ad)
            if outcomes.unfetched(ad):
                unfetched.append(job_id(ad))
    if ended != 0:
        for ad in access_point.history(chosen, limit=ended):
            observe(accounts, ad, left=True)
    found = sorted(accounts.jobs.values(), key=_order)
    return JobList(found, [accounts.jobs[which] for which in unfetched])


def _complete(accounts: Accounts, ad: Ad) -> None:
    """A spooled job stays in the queue until its outputs are fetched, and a moment longer."""
    at = float(ad.get("CompletionDate", 0))
    accounts.end(accounts.jobs[job_id(ad)], JobState.COMPLETED, guests.from_ad(ad), at)
