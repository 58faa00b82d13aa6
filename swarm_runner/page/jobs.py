"""The jobs in the queue, as the page shows them: filters, a list, and why each waits. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self
from urllib.parse import urlencode

from swarm_runner.condor.ports import Ad
from swarm_runner.model.htcondor import JobStatus
from swarm_runner.model.job import Job, JobId, JobState
from swarm_runner.model.pool import Pool
from swarm_runner.model.pool_status import Slot
from swarm_runner.runner.explanation import Explanation, explain

PAGE_SIZE = 50
MAX_CHOICES = 100
MAX_FILTER_LENGTH = 200
# Up to here, a free executor is about to be matched (runner/explanation.py); later, how long the
# job has been idle is part of the sentence, and counts in whole minutes.
_MATCH_TIMEOUT_S = 90
_MINUTE_S = 60
_STATES = {
    JobStatus.IDLE: JobState.IDLE,
    JobStatus.RUNNING: JobState.RUNNING,
    JobStatus.TRANSFERRING_OUTPUT: JobState.RUNNING,
    JobStatus.SUSPENDED: JobState.RUNNING,
    JobStatus.HELD: JobState.HELD,
    JobStatus.REMOVED: JobState.REMOVED,
    JobStatus.COMPLETED: JobState.COMPLETED,
}
_EXPLAINED = (
    "JobStatus",
    "JobUniverse",
    "SwarmRunnerClass",
    "RequestCpus",
    "RequestMemory",
    "RequestDisk",
    "RequestGPUs",
    "LastRejMatchReason",
)


@dataclass(slots=True, eq=False)
class JobRow:
    """One job of any user. Times are in seconds since the epoch.

    It is not frozen: there are thousands, and freezing would triple the time to make them. Texts
    are as the user or HTCondor wrote them: show them as text.
    """

    id: JobId
    state: JobState
    key: str
    tool: str
    user: str
    capacity_class: str
    node: str
    task: str
    queued_s: float
    entered_s: float
    """When it came into its state."""
    starts: int
    memory_mb: int | None
    ad: Ad = field(repr=False)

    @classmethod
    def from_ad(cls, ad: Ad) -> Self | None:
        """Return the job of an ad; None if the ad is damaged."""
        get = ad.get
        state = _STATES.get(get("JobStatus", 0))
        cluster, proc = get("ClusterId"), get("ProcId")
        if state is None or cluster is None or proc is None:
            return None
        # Before the first run, its own expression says where the job would run.
        ran_in = None if state is JobState.IDLE else get("MachineAttrCapacityClass0")
        running = state is JobState.RUNNING
        entered_s = float(get("EnteredCurrentStatus", 0))
        return cls(
            id=JobId(cluster, proc),
            state=state,
            key=get("SwarmRunnerKey", ""),
            tool=get("SwarmRunnerTool", ""),
            user=get("User", "").partition("@")[0],
            capacity_class=ran_in or get("SwarmRunnerClass", ""),
            node=get("MachineAttrSwarmNode0", "") if running else "",
            task=get("MachineAttrSwarmTaskId0", "") if running else "",
            queued_s=float(get("QDate", entered_s)),
            entered_s=entered_s,
            starts=get("NumJobStarts", 0),
            memory_mb=get("RequestMemory"),
            ad=ad,
        )


@dataclass(frozen=True, slots=True)
class JobFilter:
    """What a browser wants of the list; an empty text stands for everything."""

    state: str = ""
    capacity_class: str = ""
    tool: str = ""
    user: str = ""
    find: str = ""
    """A part of a key, or the begin of a job ID."""
    page: int = 1

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> Self:
        """Return the filter in a URL's query. What makes no sense there counts as absent."""
        number = query.get("page", "1")
        is_number = number.isascii() and number.isdigit() and len(number) < 8
        text = {name: query.get(name, "").strip()[:MAX_FILTER_LENGTH] for name in _PARAMETERS}
        return cls(
            state=text["state"],
            capacity_class=text["class"],
            tool=text["tool"],
            user=text["user"],
            find=text["find"],
            page=max(int(number), 1) if is_number else 1,
        )

    def query(self, page: int | None = None) -> str:
        """Return the URL's query of this filter, for one of its pages."""
        number = self.page if page is None else page
        values = {
            "state": self.state,
            "class": self.capacity_class,
            "tool": self.tool,
            "user": self.user,
            "find": self.find,
            "page": "" if number == 1 else str(number),
        }
        return urlencode({name: value for name, value in values.items() if value}, errors="replace")

    @property
    def is_empty(self) -> bool:
        """Whether it selects every job."""
        return replace(self, page=1) == JobFilter()

    def accepts(self, job: JobRow) -> bool:
        """Return whether the filter selects a job."""
        return (
            self.state in ("", job.state)
            and self.capacity_class in ("", job.capacity_class)
            and self.tool in ("", job.tool)
            and self.user in ("", job.user)
            and (not self.find or self.find in job.key or str(job.id).startswith(self.find))
        )


_PARAMETERS = ("state", "class", "tool", "user", "find")


@dataclass(frozen=True, slots=True)
class JobPage:
    """One page of the filtered list, and how many jobs and pages there are."""

    jobs: Sequence[JobRow]
    total: int
    number: int
    pages: int


class JobBoard:
    """The jobs of one query of the queue.

    `complete` is false if the queue has more jobs than were read.
    """

    def __init__(self, ads: Sequence[Ad], read_s: float, limit: int) -> None:
        rows = [row for ad in ads if (row := JobRow.from_ad(ad))]
        self.jobs = sorted(rows, key=_waiting_first)
        self.by_id = {row.id: row for row in rows}
        self.read_s = read_s
        self.complete = len(ads) < limit
        self.by_state = Counter(row.state for row in rows)
        self.tools = _frequent_values(row.tool for row in rows)
        self.users = _frequent_values(row.user for row in rows)
        self.classes = _frequent_values(row.capacity_class for row in rows)

    def select(self, job_filter: JobFilter) -> JobPage:
        """Return the page of the list that a filter names; the last one if there are fewer."""
        found = (
            self.jobs if job_filter.is_empty else [j for j in self.jobs if job_filter.accepts(j)]
        )
        pages = max(-(-len(found) // PAGE_SIZE), 1)
        number = min(job_filter.page, pages)
        begin = (number - 1) * PAGE_SIZE
        return JobPage(found[begin : begin + PAGE_SIZE], len(found), number, pages)


def _waiting_first(job: JobRow) -> tuple[int, float, JobId]:
    """Held jobs first, then idle ones, the longest in its state first."""
    return (_STATE_ORDER[job.state], job.entered_s, job.id)


_STATE_ORDER = {
    JobState.HELD: 0,
    JobState.IDLE: 1,
    JobState.RUNNING: 2,
    JobState.COMPLETED: 3,
    JobState.REMOVED: 4,
}


def _frequent_values(values: Any) -> list[str]:
    return sorted(value for value, _ in Counter(filter(None, values)).most_common(MAX_CHOICES))


class Explainer:
    """Explains jobs on the basis of one observation of the slots.

    Jobs that request the same get the same sentence, which is computed once: a list of 50 jobs
    on a thousand executors takes milliseconds.
    """

    def __init__(self, pool: Pool, slots: Sequence[Slot]) -> None:
        self._pool = pool
        self._slots: dict[str, list[Slot]] = defaultdict(list)
        for slot in slots:
            self._slots[slot.capacity_class].append(slot)
        self._known: dict[tuple[object, ...], Explanation] = {}

    def explain(self, row: JobRow, now_s: float) -> Explanation:
        """Return why a job is in its state."""
        if row.state is not JobState.IDLE:
            return self._explain(row, now_s)
        idle_s = _round_idle_time(now_s - row.entered_s)
        key = (idle_s, *map(row.ad.get, _EXPLAINED))
        if key not in self._known:
            self._known[key] = self._explain(row, row.entered_s + idle_s)
        return self._known[key]

    def _explain(self, row: JobRow, now_s: float) -> Explanation:
        job = Job(
            row.id,
            row.key,
            row.state,
            capacity_class=row.capacity_class or None,
            node=row.node or None,
        )
        if row.state is JobState.COMPLETED:
            return Explanation("The job has ended. Its output has not been retrieved yet.")
        slots = self._slots.get(row.ad.get("SwarmRunnerClass", ""), [])
        ad = {"EnteredCurrentStatus": row.entered_s, **row.ad}
        return explain(job, ad, slots, self._pool, now_s)


def _round_idle_time(idle_s: float) -> float:
    """Return a time for which all sentences are the same, up to a minute."""
    if idle_s <= _MATCH_TIMEOUT_S:
        return 0
    return max(idle_s - idle_s % _MINUTE_S, _MATCH_TIMEOUT_S + 1)
