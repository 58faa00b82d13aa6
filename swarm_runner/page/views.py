"""What each address of the page shows: from the state to the values of a template. No I/O."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import parse_qsl, urlencode

from swarm_runner.model.htcondor import JobStatus
from swarm_runner.model.job import JobId
from swarm_runner.model.pool_status import ExecutorReplacement
from swarm_runner.model.scaling import ScalingRecord
from swarm_runner.page.executors import count_states
from swarm_runner.page.history import INTERVAL_S, PERIOD_S, Sample
from swarm_runner.page.job_details import JobDetail
from swarm_runner.page.jobs import JobFilter, JobRow
from swarm_runner.page.plots import Frame, Series, line_plot, stacked_plot
from swarm_runner.page.state import PageState, Snapshot
from swarm_runner.page.timeline import timeline

# Beyond this, the front page links to the list of nodes.
MAX_CARDS = 400
MAX_DECISIONS = 100
MAX_MESSAGES = 20
# Of a node, as nearly all are: other names are not in addresses.
_USUAL_NAME = re.compile(r"[A-Za-z0-9 ._:@-]{1,100}")
_MAX_NAME_LENGTH = 300
_MAX_URL_LENGTH = 2000
Context = dict[str, Any]


@dataclass(frozen=True, slots=True)
class View:
    """An address: what it shows, and of what."""

    name: str
    job_filter: JobFilter = field(default_factory=JobFilter)
    node: str = ""
    """A node's key."""
    job_id: JobId | None = None

    @property
    def shows_jobs(self) -> bool:
        """Whether it needs the list of jobs."""
        return self.name in ("jobs", "job")

    @classmethod
    def parse(cls, url: str) -> Self | None:
        """Return the view of a path and its query; None if there is no such page."""
        path, _, query = url[:_MAX_URL_LENGTH].partition("?")
        values = dict(parse_qsl(query, errors="replace"))
        if path == "/jobs":
            return cls("jobs", job_filter=JobFilter.from_query(values))
        if path.startswith("/jobs/"):
            job_id = parse_job_id(path.removeprefix("/jobs/"))
            return None if job_id is None else cls("job", job_id=job_id)
        if path == "/nodes":
            return cls("nodes", node=values.get("node", "")[:_MAX_NAME_LENGTH])
        names = {"/": "overview", "/history": "history"}
        return cls(names[path]) if path in names else None


def parse_job_id(text: str) -> JobId | None:
    """Return the job ID in a text, `cluster.proc`; None if there is none."""
    cluster, dot, proc = text.partition(".")
    valid = all(part.isascii() and part.isdigit() and len(part) < 10 for part in (cluster, proc))
    return JobId(int(cluster), int(proc)) if dot and valid else None


def node_key(name: str) -> str:
    """Return what stands for a node in an address: its name, or a digest of an unusual one."""
    if _USUAL_NAME.fullmatch(name):
        return name
    return f"~{hashlib.sha256(name.encode(errors='replace')).hexdigest()[:16]}"


def node_url(name: str) -> str:
    """Return the address of a node's page."""
    return f"/nodes?{urlencode({'node': node_key(name)})}"


def build_context(view: View, state: PageState, detail: JobDetail | None = None) -> Context:
    """Return the values of a view's template."""
    snapshot = state.snapshot
    context: Context = {
        "view": view,
        "pool": state.pool,
        "snapshot": snapshot,
        "silent": state.silent_sources(),
        "stale_since_s": state.stale_since_s,
        "now_s": state.clock(),
        "board": state.jobs,
    }
    if snapshot is None and view.name != "job":
        return context | {"title": "Waiting for the first observation"}
    builders: Mapping[str, Callable[[], Context]] = {
        "overview": lambda: _overview(state, _required(snapshot)),
        "history": lambda: _history(state),
        "jobs": lambda: _jobs(state, _required(snapshot), view.job_filter),
        "nodes": lambda: _nodes(_required(snapshot), view.node),
        "job": lambda: _job(state, view, detail),
    }
    return context | builders[view.name]()


def _required(snapshot: Snapshot | None) -> Snapshot:
    assert snapshot is not None  # noqa: S101  for the type checker: build_context returned before
    return snapshot


def _overview(state: PageState, snapshot: Snapshot) -> Context:
    status = snapshot.status
    executors = [executor for node in snapshot.nodes for executor in node.executors]
    queue = snapshot.queue
    return {
        "title": "Overview",
        "waiting": queue.idle if queue else None,
        "running": len(status.jobs),
        "held": state.held,
        "ready": sum(map(status.ready, state.pool.classes)),
        "desired": sum(status.replicas.values()),
        "messages": _messages(state, snapshot)[:MAX_MESSAGES],
        "classes": [_class_row(state, snapshot, name) for name in state.pool.classes],
        "states": count_states(executors),
        "nodes": snapshot.nodes[:MAX_CARDS],
        "omitted_nodes": max(len(snapshot.nodes) - MAX_CARDS, 0),
    }


def _messages(state: PageState, snapshot: Snapshot) -> list[str]:
    """Return what needs attention, the worst first."""
    status = snapshot.status
    # That a daemon of HTCondor does not answer is in the banner, with its time.
    messages = [] if state.silent_sources() else list(status.problems)
    if snapshot.queue and snapshot.queue.unmatchable:
        number = snapshot.queue.unmatchable
        messages.append(f"{number} waiting jobs fit no class: no executor ever accepts them.")
    messages += [
        str(record)
        for record in snapshot.records
        if isinstance(record, ExecutorReplacement) or record.frozen or record.problem
    ]
    problems = Counter(e.problem for e in status.executors if e.problem)
    messages += [
        f"{count} executors: {problem}" if count > 1 else f"1 executor: {problem}"
        for problem, count in problems.most_common()
    ]
    return [*messages, *status.warnings]


def _class_row(state: PageState, snapshot: Snapshot, name: str) -> Context:
    status = snapshot.status
    record = next(
        (
            record
            for record in snapshot.records
            if isinstance(record, ScalingRecord) and record.capacity_class == name
        ),
        None,
    )
    executors = [
        executor
        for node in snapshot.nodes
        for executor in node.executors
        if executor.capacity_class == name
    ]
    idle, oldest_wait_s = snapshot.queue.by_class.get(name, (0, 0.0)) if snapshot.queue else (0, 0)
    return {
        "name": name,
        "size": str(state.pool.classes[name]),
        "limits": state.pool.classes[name].replica_limits,
        "replicas": status.replicas.get(name),
        "states": count_states(executors),
        "idle": idle,
        "oldest_wait_s": oldest_wait_s,
        "running": sum(len(executor.jobs) for executor in executors),
        # The class's name is in the same row.
        "decision": str(record).removeprefix(f"{name}: ") if record else "",
    }


def _history(state: PageState) -> Context:
    # In steps, so that a plot changes only when a sample is added.
    now_s = -(-state.clock() // INTERVAL_S) * INTERVAL_S
    # The autoscaler's thread appends meanwhile.
    samples, decisions = state.history.samples.copy(), state.history.decisions.copy()
    frame = Frame.enclosing(samples, now_s)
    chosen = frame.select(samples)
    jobs = [
        Series("waiting", "waiting", lambda sample: sample.idle_jobs),
        Series("running", "busy", lambda sample: sample.running_jobs),
    ]
    return {
        "title": "History",
        "frame": frame,
        "hours": PERIOD_S // 3600,
        "began_s": samples[0].time_s if samples else now_s,
        "jobs_plot": line_plot(chosen, jobs, frame, "Jobs over time"),
        "class_plots": [
            (
                name,
                stacked_plot(
                    chosen,
                    [
                        Series("busy", "busy", _count(name, "busy")),
                        Series("idle", "idle", _count(name, "idle")),
                        Series("starting", "starting", _count(name, "starting", "unschedulable")),
                        Series("draining", "draining", _count(name, "retiring")),
                        Series("not usable", "unusable", _count(name, "unusable", "unresponsive")),
                    ],
                    Series("desired", "desired", _replicas(name)),
                    [d for d in decisions if d.capacity_class == name],
                    frame,
                    f"Executors of class {name} over time",
                ),
            )
            for name in state.pool.classes
        ],
        "decisions": list(reversed(decisions))[:MAX_DECISIONS],
    }


def _count(name: str, *states: str) -> Callable[[Sample], float]:
    def value(sample: Sample) -> float:
        item = sample.classes.get(name)
        return sum(getattr(item.executors, state) for state in states) if item else 0

    return value


def _replicas(name: str) -> Callable[[Sample], float]:
    def value(sample: Sample) -> float:
        item = sample.classes.get(name)
        return item.replicas if item else 0

    return value


def _jobs(state: PageState, snapshot: Snapshot, job_filter: JobFilter) -> Context:
    board = state.jobs
    if board is None:
        return {"title": "Jobs", "job_filter": job_filter, "jobs": None, "reasons": {}}
    page = board.select(job_filter)
    return {
        "title": "Jobs",
        "job_filter": job_filter,
        "exact": parse_job_id(job_filter.find),
        "jobs": page,
        "reasons": {
            job.id: snapshot.explainer.explain(job, board.read_s).summary for job in page.jobs
        },
        "previous": f"/jobs?{job_filter.query(page.number - 1)}" if page.number > 1 else "",
        "next": f"/jobs?{job_filter.query(page.number + 1)}" if page.number < page.pages else "",
    }


def _nodes(snapshot: Snapshot, key: str) -> Context:
    if not key:
        return {"title": "Nodes", "nodes": snapshot.nodes}
    node = next((node for node in snapshot.nodes if node_key(node.name) == key), None)
    name = node.name if node else key
    return {"title": f"Node {name}", "node": node, "node_name": name}


def _job(state: PageState, view: View, detail: JobDetail | None) -> Context:
    job_id = view.job_id
    listed = state.jobs.find(job_id) if state.jobs and job_id else None
    ad = detail.ad if detail else None
    row = JobRow.from_ad(ad) if ad else listed
    context: Context = {"title": f"Job {job_id}", "job": row, "ad": ad, "detail": detail}
    if row is None:
        return context
    if state.snapshot is not None and ad is None:
        explained = state.snapshot.explainer.explain(row, state.clock())
        return context | {"explanation": explained, "timeline": timeline(row.ad)}
    ended = ad is not None and "CompletionDate" in ad and ad["CompletionDate"] > 0
    has_left = ended or row.ad.get("JobStatus") == JobStatus.REMOVED
    if state.snapshot is not None and not has_left:
        context["explanation"] = state.snapshot.explainer.explain(row, state.clock())
    return context | {"timeline": timeline(row.ad)}
