"""Alerts fire for their causes on a real pool, and clear after them.

Three have their causes in tests/promtool only: a schedd that is busy all the time, a full disk, and
executors that are replaced again and again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarm_runner.cli import factories
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.job import JobState
from swarm_runner.model.pool import CapacityClass, Pool
from swarm_runner.runner import Runner
from tests.integration.watched_pool import WatchedPool, watched
from tests.lab.pool import LabPool, lab_pool
from tests.polling import poll_until

NAME, PORT = "swarm-runner-alerts", 9753
SETTINGS = {
    "classes": {
        "normal": {"cpus": 16, "memory_mb": 2048, "replicas": 1, "retirement_s": 600},
        # No node has so much memory.
        "huge": {"cpus": 1, "memory_mb": 50_000_000, "replicas": 0},
    }
}


@pytest.fixture(scope="module")
def pool() -> Iterator[LabPool]:
    with lab_pool(NAME, PORT, SETTINGS) as lab:
        yield lab


@pytest.fixture(scope="module")
def watch(pool: LabPool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedPool]:
    with watched(pool.destination, tmp_path_factory.mktemp("prometheus")) as session:
        yield session


def invocation(pool: LabPool, key: str, **fields: object) -> Invocation:
    defaults = {
        "key": f"{key}-{time.time_ns()}",
        "image": "debian:trixie",
        "command": ["sleep", "600"],
        "resources": {"memory_mb": 64, "disk_mb": 10},
        "working_directory": str(pool.volume),
    }
    return Invocation.model_validate(defaults | fields)


def scale(pool: LabPool, name: str, replicas: int) -> None:
    """Scale a class, and do not wait: it may never converge."""
    model = pool.destination.pool
    factories.swarm(model).scale_service(model.service(name), replicas)


def test_a_healthy_pool_is_quiet(watch: WatchedPool) -> None:
    poll_until(lambda: watch.firing() == set())
    time.sleep(5)
    assert watch.firing() == set()


def test_a_job_that_fits_no_class(pool: LabPool, watch: WatchedPool) -> None:
    # Submitted with another configuration, as before a class was removed.
    classes = pool.destination.pool.classes | {"removed": CapacityClass(memory_mb=100_000)}
    model = Pool.model_validate(dict(pool.destination.pool) | {"classes": classes})
    destination = pool.destination.model_copy(update={"pool": model})
    with Runner(destination, name="alerts-unmatchable") as runner:
        resources = {"memory_mb": 90_000, "disk_mb": 10}
        runner.submit([invocation(pool, "large", resources=resources)])
        watch.wait_for("SwarmRunnerJobsUnmatchable")
        runner.remove_all()
        watch.wait_until_clear("SwarmRunnerJobsUnmatchable")


def test_an_executor_too_large_for_every_node_and_a_job_that_waits_for_it(
    pool: LabPool, watch: WatchedPool
) -> None:
    with Runner(pool.destination, name="alerts-waiting") as runner:
        resources = {"memory_mb": 40_000_000, "disk_mb": 10}
        runner.submit([invocation(pool, "waits", resources=resources)])
        scale(pool, "huge", 1)
        watch.wait_for("SwarmRunnerExecutorsUnusable", "SwarmRunnerOldestIdle")
        scale(pool, "huge", 0)
        runner.remove_all()
        watch.wait_until_clear("SwarmRunnerExecutorsUnusable", "SwarmRunnerOldestIdle")


def test_more_holds_than_usual(pool: LabPool, watch: WatchedPool) -> None:
    with Runner(pool.destination, name="alerts-holds") as runner:
        # Each names an output that it does not write, and is held for it.
        runner.submit(
            invocation(pool, f"hold{n}", command=["true"], outputs=["missing"]) for n in range(20)
        )
        runner.wait(timeout_s=120)
        assert all(job.state.ended for job in runner.jobs())
    watch.wait_for("SwarmRunnerHoldsAboveUsual")
    watch.wait_until_clear("SwarmRunnerHoldsAboveUsual")


def test_a_job_that_a_draining_executor_will_not_finish(pool: LabPool, watch: WatchedPool) -> None:
    with Runner(pool.destination, name="alerts-draining") as runner:
        runner.submit([invocation(pool, "long")])
        poll_until(
            lambda: (runner.poll(), [job.state for job in runner.jobs()])[1],
            lambda states: states == [JobState.RUNNING],
        )
        scale(pool, "normal", 0)
        watch.wait_for("SwarmRunnerRetirementDeadline")
        runner.remove_all()
        watch.wait_until_clear("SwarmRunnerRetirementDeadline")
    scale(pool, "normal", 1)


def test_a_stopped_central_manager(pool: LabPool, watch: WatchedPool) -> None:
    # One that hangs blocks the observer too: see docs/findings.md.
    swarm, service = factories.swarm(pool.destination.pool), pool.destination.pool.service()
    swarm.scale_service(service, 0)
    try:
        watch.wait_for("SwarmRunnerPollStale", "SwarmRunnerFrozen")
    finally:
        swarm.scale_service(service, 1)
    watch.wait_until_clear("SwarmRunnerPollStale", "SwarmRunnerFrozen")


def test_an_observer_that_stops_and_a_token_that_expires(
    pool: LabPool, watch: WatchedPool, tmp_path: Path
) -> None:
    watch.stop_observer()
    watch.wait_for("SwarmRunnerObserverDown")
    _, text = pool.provisioner.create_token("observer", "read", 86_400)
    (tmp_path / "token").write_text(text)
    watch.start_observer(tmp_path / "token")
    watch.wait_for("SwarmRunnerTokenExpires")
    watch.wait_until_clear("SwarmRunnerObserverDown")
    watch.stop_observer()
    watch.start_observer()  # with the token that `pool up` wrote
    watch.wait_until_clear("SwarmRunnerTokenExpires")
