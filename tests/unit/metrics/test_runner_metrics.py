"""The metrics of an embedded runner, on the fakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarm_runner import Destination, Invocation, MeteredRunner, SubmitUnresolvedError
from swarm_runner.metrics.store import MetricStore
from swarm_runner.model.job import JobState
from swarm_runner.runner.directory import INCOMPLETE_MARKER_NAME
from swarm_runner.testing.access_point import FakeAccessPoint


@pytest.fixture
def access_point() -> FakeAccessPoint:
    return FakeAccessPoint()


@pytest.fixture
def runner(tmp_path: Path, access_point: FakeAccessPoint) -> MeteredRunner:
    destination = Destination.model_validate(
        {"pool": {"volumes": [str(tmp_path)]}, "default_image": "debian:trixie"}
    )
    return MeteredRunner(destination, name="galaxy", access_point=access_point)


def value(store: MetricStore, name: str, *labels: str) -> float:
    (family,) = [f for f in store.families() if f.definition.name == name]
    return family.values[labels]


def count(store: MetricStore, name: str) -> int:
    (family,) = [f for f in store.families() if f.definition.name == name]
    return sum(family.histograms["galaxy",].counts)


def invocation(key: str) -> Invocation:
    return Invocation(key=key, image="debian:trixie", command=("true",))


def test_jobs_are_tracked_from_submit_to_end(
    runner: MeteredRunner, access_point: FakeAccessPoint
) -> None:
    store = runner.metrics.store
    assert count(store, "submit_seconds") == count(store, "event_lag_seconds") == 0
    first, second = runner.submit([invocation("a"), invocation("b")])
    assert count(store, "submit_seconds") == 1
    assert value(store, "tracked_jobs", "galaxy", "idle") == 2

    access_point.start(first.id)
    runner.poll()
    assert value(store, "tracked_jobs", "galaxy", "idle") == 1
    assert value(store, "tracked_jobs", "galaxy", "running") == 1
    assert count(store, "event_lag_seconds") == 1

    access_point.finish(first.id)
    access_point.start(second.id)
    access_point.finish(second.id)
    runner.wait()
    assert {job.state for job in runner.jobs()} == {JobState.COMPLETED}
    assert value(store, "tracked_jobs", "galaxy", "running") == 0
    assert value(store, "log_gaps_total", "galaxy") == 0


def test_a_submit_in_doubt_counts(runner: MeteredRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    def submit(*_: object) -> None:
        raise SubmitUnresolvedError("in doubt")

    monkeypatch.setattr(runner, "_submit", submit)
    with pytest.raises(SubmitUnresolvedError):
        runner.submit([invocation("a")])

    assert value(runner.metrics.store, "submits_unresolved_total", "galaxy") == 1
    assert count(runner.metrics.store, "submit_seconds") == 1


def test_a_gap_is_seen_by_whichever_method_polls(
    runner: MeteredRunner, access_point: FakeAccessPoint
) -> None:
    (job,) = runner.submit([invocation("a")])
    assert runner.event_log is not None
    access_point.start(job.id)
    access_point.finish(job.id)
    (runner.event_log.parent / INCOMPLETE_MARKER_NAME).touch()
    assert [change.job.state for change in runner.watch()][-1] is JobState.COMPLETED

    assert value(runner.metrics.store, "log_gaps_total", "galaxy") == 1


def test_a_label_may_replace_the_name(tmp_path: Path, access_point: FakeAccessPoint) -> None:
    destination = Destination.model_validate({"pool": {"volumes": [str(tmp_path)]}})
    runner = MeteredRunner(
        destination, name="run-1234", label="snakemake", access_point=access_point
    )
    assert value(runner.metrics.store, "tracked_jobs", "snakemake", "idle") == 0


def test_a_gap_counts_once(runner: MeteredRunner) -> None:
    runner.submit([invocation("a")])
    assert runner.event_log is not None
    (runner.event_log.parent / INCOMPLETE_MARKER_NAME).touch()
    runner.poll()
    runner.poll()

    assert value(runner.metrics.store, "log_gaps_total", "galaxy") == 1
