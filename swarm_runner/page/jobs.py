"""The jobs in the queue, as the page shows them: filters, a list, and why each waits. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Self
from urllib.parse import urlencode

from swarm_runner.condor.ports import Ad
from swarm_runner.model.htcondor import JobStatus
from swarm_runner.model.job import Job, JobId, JobState
from swarm_runner.model.pool import Pool
from swarm_runner.model.pool_status import Slot
from swarm_runner.model.shares import SEPARATOR, decode_account
from swarm_runner.runner.explanation import Explanation, explain

PAGE_SIZE = 50
MAX_CHOICES = 100
MAX_FILTER_LENGTH = 200
# Up to here, a free executor is about to be matched (runner/explanation.py); later, how long the
# job has been idle is part of the sentence, and counts in whole minutes.
_MATCH_TIMEOUT_S = 90
_MINUTE_S, _HOUR_S = 60, 3600
_STATES: Mapping[int, JobState] = {
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


@dataclass(frozen=True, slots=True)
class JobRow:
    """One job of any user. Times are in seconds since the epoch.

    Texts are as the user or HTCondor wrote them: show them as text.
    """

    id: JobId
    state: JobState
    key: str
    tool: str
    user: str
    capacity_class: str
    node: str
    queued_s: float
    entered_s: float
    """When it came into its state."""
    ad: Ad = field(repr=False, compare=False)

    @classmethod
    def from_ad(cls, ad: Ad) -> Self | None:
        """Return the job of an ad; None if the ad is damaged."""
        if not _is_complete(ad):
            return None
        state = _STATES[ad["JobStatus"]]
        entered_s = float(ad.get("EnteredCurrentStatus", 0))
        running = state is JobState.RUNNING
        return cls(
            id=JobId(ad["ClusterId"], ad["ProcId"]),
            state=state,
            key=ad.get("SwarmRunnerKey", ""),
            tool=ad.get("SwarmRunnerTool", ""),
            user=_user(ad),
            capacity_class=_capacity_class(ad),
            node=ad.get("MachineAttrSwarmNode0", "") if running else "",
            queued_s=float(ad.get("QDate", entered_s)),
            entered_s=entered_s,
            ad=ad,
        )


def _is_complete(ad: Ad) -> bool:
    return ad.get("JobStatus") in _STATES and "ClusterId" in ad and "ProcId" in ad


def _user(ad: Ad) -> str:
    """Return who has the job's share: an account below an identity, or the identity itself."""
    account = ad.get("AccountingGroup")
    if account:
        return _decode(str(account))
    name: str = ad.get("User", "").partition("@")[0]
    return name


# The same few users have thousands of jobs.
_decode = lru_cache(maxsize=4096)(decode_account)


def _is_of(user: str, name: str) -> bool:
    """Whether this is how people may write the user: an account also without its identity."""
    return name in (user, user.partition(SEPARATOR)[2])


def _capacity_class(ad: Ad) -> str:
    """Return where a job runs or ran; before its first run, its own expression says where."""
    ran_in = None if ad["JobStatus"] == JobStatus.IDLE else ad.get("MachineAttrCapacityClass0")
    name: str = ran_in or ad.get("SwarmRunnerClass", "")
    return name


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

    def accepts(self, ad: Ad) -> bool:
        """Return whether the filter selects a job."""
        return (
            (not self.state or self.state == _STATES[ad["JobStatus"]])
            and (not self.capacity_class or self.capacity_class == _capacity_class(ad))
            and (not self.tool or self.tool == ad.get("SwarmRunnerTool"))
            and (not self.user or _is_of(_user(ad), self.user))
            and (not self.find or self._finds(ad))
        )

    def _finds(self, ad: Ad) -> bool:
        job_id = f"{ad['ClusterId']}.{ad['ProcId']}"
        return self.find in ad.get("SwarmRunnerKey", "") or job_id.startswith(self.find)


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

    It keeps their ads, and makes a row of those that are shown: thousands are not. `complete` is
    false if the queue has more jobs than were read.
    """

    def __init__(self, ads: Sequence[Ad], read_s: float, limit: int) -> None:
        self._ads = sorted(filter(_is_complete, ads), key=_waiting_first)
        self._by_id: dict[tuple[int, int], Ad] = {
            (ad["ClusterId"], ad["ProcId"]): ad for ad in self._ads
        }
        self.read_s = read_s
        self.complete = len(ads) < limit
        self.by_state: Counter[JobState] = Counter()
        for status, count in Counter(ad["JobStatus"] for ad in self._ads).items():
            self.by_state[_STATES[status]] += count
        self.tools = _frequent_values(ad.get("SwarmRunnerTool") for ad in self._ads)
        self.users = _frequent_values(map(_user, self._ads))
        self.classes = _frequent_values(map(_capacity_class, self._ads))

    def __len__(self) -> int:
        return len(self._ads)

    def find(self, job_id: JobId) -> JobRow | None:
        """Return a job of the queue; None if there is no such job."""
        ad = self._by_id.get(job_id)
        return None if ad is None else JobRow.from_ad(ad)

    def select(self, job_filter: JobFilter) -> JobPage:
        """Return the page of the list that a filter names; the last one if there are fewer."""
        found = self._ads if job_filter.is_empty else list(filter(job_filter.accepts, self._ads))
        pages = max(-(-len(found) // PAGE_SIZE), 1)
        number = min(job_filter.page, pages)
        begin = (number - 1) * PAGE_SIZE
        rows = [row for ad in found[begin : begin + PAGE_SIZE] if (row := JobRow.from_ad(ad))]
        return JobPage(rows, len(found), number, pages)


_ORDER = {int(JobStatus.HELD): 0, int(JobStatus.IDLE): 1, int(JobStatus.RUNNING): 2}


def _waiting_first(ad: Ad) -> tuple[int, float, int, int]:
    """Held jobs first, then idle ones, those that have been so for longest first."""
    order = _ORDER.get(ad["JobStatus"], 3)
    return order, ad.get("EnteredCurrentStatus", 0), ad["ClusterId"], ad["ProcId"]


def _frequent_values(values: Iterable[str | None]) -> list[str]:
    """Return the most frequent ones, in order."""
    counts = Counter(values)
    return sorted(value for value, _ in counts.most_common(MAX_CHOICES) if value)


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
        request = tuple(map(row.ad.get, _EXPLAINED))
        if idle_s == 0 or not self._depends_on_time(row, request):
            return self._explain_once(row, request, 0)
        return self._explain_once(row, request, idle_s)

    def _depends_on_time(self, row: JobRow, request: tuple[object, ...]) -> bool:
        """Return whether a sentence says for how long a job has been idle: a slot is free."""
        early = self._explain_once(row, request, 0)
        return early != self._explain_once(row, request, _MATCH_TIMEOUT_S + 1)

    def _explain_once(self, row: JobRow, request: tuple[object, ...], idle_s: float) -> Explanation:
        key = (idle_s, *request)
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
    """Return a time for which the sentence is the same: it has minutes, and later hours."""
    if idle_s <= _MATCH_TIMEOUT_S:
        return 0
    step_s = _MINUTE_S if idle_s < 2 * _HOUR_S else _HOUR_S
    return max(idle_s - idle_s % step_s, _MATCH_TIMEOUT_S + 1)
