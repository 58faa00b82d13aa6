"""Interactive tools: where Galaxy's entry points lead, and which destinations run such tools."""

from __future__ import annotations

from typing import Any

import pytest
from galaxy.model import InteractiveToolEntryPoint
from swarm_runner_galaxy import monitor

from swarm_runner import InvalidInputError, Pool, parse_parameters
from unit.conftest import FakeJobWrapper, RunnerHarness

POOL = {"isolation": {"ports": "node", "networks": ["bridge"]}}
INTERACTIVE = {"interactive_tools": True, "container_options": {"network": "bridge"}}


@pytest.fixture
def interactive(harness: RunnerHarness) -> RunnerHarness:
    """A pool that publishes ports."""
    harness.runner._runner.close()
    harness.settings["pool"] |= POOL
    harness.start()
    harness.poll()
    return harness


def start_tool(harness: RunnerHarness, *ports: int, **params: Any) -> FakeJobWrapper:
    """Submit a job of an interactive tool, with an entry point for each port."""
    job = harness.job(**params)
    make_interactive(job, *ports)
    points = [InteractiveToolEntryPoint(job=job.get_job(), tool_port=port) for port in ports]
    job.sa_session.add_all(points)
    job.sa_session.commit()
    harness.queue_jobs(job)
    return job


def make_interactive(job: FakeJobWrapper, *ports: int) -> None:
    job.tool.produces_entry_points = True
    job.guest_ports = list(ports)


def targets(job: FakeJobWrapper) -> list[tuple[bool, str | None, int | None]]:
    """Return where the job's entry points lead."""
    points = job.get_job().interactivetool_entry_points
    return [(point.configured, point.host, point.port) for point in points]


def mapped(harness: RunnerHarness) -> list[tuple[str, int]]:
    """Return what Galaxy's proxy reads."""
    engine = harness.app.interactivetool_manager.propagator._engine
    with engine.connect() as connection:
        rows = connection.exec_driver_sql(
            "SELECT host, port FROM gxitproxy WHERE host LIKE '10.0.1.%' ORDER BY port"
        )
        return [(host, port) for host, port in rows]


def test_entry_points_from_start_to_stop(interactive: RunnerHarness) -> None:
    """They follow the job, and lead to nowhere while it does not run."""
    job = start_tool(interactive, 8888, 80, 8888, **INTERACTIVE)
    job_id, access_point = interactive.job_id(job), interactive.access_point
    ad = access_point.queue[job_id]
    assert ad["ContainerServiceNames"] == "port_80,port_8888"
    interactive.poll()
    assert targets(job) == [(False, None, None)] * 3
    access_point.start(job_id)
    interactive.poll()
    assert targets(job) == [(False, None, None)] * 3
    access_point.publish_ports(job_id, "10.0.1.7", 40_000)
    interactive.poll()
    web, api = (True, "10.0.1.7", 40_001), (True, "10.0.1.7", 40_000)
    assert targets(job) == [web, api, web]
    assert mapped(interactive) == [api[1:], web[1:], web[1:]]
    access_point.evict(job_id)
    interactive.poll()
    assert targets(job) == [(False, None, None)] * 3
    assert mapped(interactive) == []
    interactive.clock.now += 5
    access_point.start(job_id, "task-2", "node-2")
    access_point.publish_ports(job_id, "10.0.1.8")
    interactive.poll()
    assert {host for _, host, _ in targets(job)} == {"10.0.1.8"}
    interactive.runner.stop_job(job)
    interactive.poll()
    assert access_point.queue == {}


def test_entry_points_survive_galaxys_restart(interactive: RunnerHarness) -> None:
    """What happened meanwhile is made up for: the job started, and its ports are known."""
    job = start_tool(interactive, 8888, **INTERACTIVE)
    interactive.poll()
    interactive.poll()
    access_point, job_id = interactive.access_point, interactive.job_id(job)
    interactive.runner._runner.close()
    access_point.start(job_id)
    access_point.publish_ports(job_id, "10.0.0.7", 40_000)
    runner = interactive.start()
    # Galaxy's wrapper of a recovered job does not know the ports.
    again = FakeJobWrapper.__new__(FakeJobWrapper)
    again.__dict__ = job.__dict__ | {"guest_ports": []}
    runner.recover(again.get_job(), again)
    interactive.poll()
    interactive.poll()
    assert targets(job) == [(True, "10.0.0.7", 40_000)]


def test_an_entry_point_that_its_user_removed_stays_removed(interactive: RunnerHarness) -> None:
    job = start_tool(interactive, 8888, **INTERACTIVE)
    access_point, job_id = interactive.access_point, interactive.job_id(job)
    (point,) = job.get_job().interactivetool_entry_points
    point.deleted = True
    job.sa_session.commit()
    access_point.start(job_id)
    access_point.publish_ports(job_id)
    interactive.poll()
    assert targets(job) == [(False, None, None)]


def test_ports_that_nobody_reports_are_a_warning(
    interactive: RunnerHarness, caplog: pytest.LogCaptureFixture
) -> None:
    job = start_tool(interactive, 8888, **INTERACTIVE)
    interactive.access_point.start(interactive.job_id(job))
    for _ in range(int(monitor.PORTS_TIMEOUT_S // 5) + 5):
        interactive.poll()
    assert caplog.text.count("its ports are not known") == 1
    interactive.access_point.publish_ports(interactive.job_id(job), "10.0.0.7", 40_000)
    interactive.poll()
    assert targets(job) == [(True, "10.0.0.7", 40_000)]


def test_the_pool_is_unreachable_when_the_tool_starts(interactive: RunnerHarness) -> None:
    job = start_tool(interactive, 8888, **INTERACTIVE)
    access_point, job_id = interactive.access_point, interactive.job_id(job)
    access_point.start(job_id)
    interactive.poll()
    access_point.publish_ports(job_id, "10.0.0.7", 40_000)
    access_point.reachable = False
    interactive.poll()
    assert targets(job) == [(False, None, None)]
    access_point.reachable = True
    interactive.poll()
    assert targets(job) == [(True, "10.0.0.7", 40_000)]


def test_a_destination_that_runs_no_interactive_tools(interactive: RunnerHarness) -> None:
    job = start_tool(interactive, 8888, container_options={"network": "bridge"})
    assert "interactive tools cannot run in destination swarm" in job.failures[0]
    assert interactive.access_point.queue == {}


def test_a_pool_that_publishes_no_ports(harness: RunnerHarness) -> None:
    job = start_tool(harness, 8888, **INTERACTIVE)
    assert "isolation.ports" in job.failures[0]
    assert harness.access_point.queue == {}


def test_other_tools_are_as_before(interactive: RunnerHarness) -> None:
    job = interactive.job(**INTERACTIVE)
    interactive.queue_jobs(job)
    ad = interactive.access_point.queue[interactive.job_id(job)]
    assert "ContainerServiceNames" not in ad
    queries = interactive.access_point.calls["jobs"]
    interactive.access_point.start(interactive.job_id(job))
    interactive.poll()
    assert not interactive.runner._job_monitor._without_ports
    assert interactive.access_point.calls["jobs"] - queries <= 1


@pytest.mark.parametrize(
    ("isolation", "params", "expected"),
    [
        ({}, INTERACTIVE, "isolation.ports"),
        ({"ports": "node"}, {"interactive_tools": "true"}, "container_options.network"),
        (POOL["isolation"], INTERACTIVE, ""),
        ({"ports": "node", "network": "bridge"}, {"interactive_tools": "true"}, ""),
    ],
)
def test_validate_reports_a_destination_whose_tools_would_fail(
    isolation: dict[str, Any], params: dict[str, Any], expected: str
) -> None:
    pool = Pool.model_validate({"isolation": isolation})
    if not expected:
        assert parse_parameters(params, "swarm", pool).interactive_tools
        return
    with pytest.raises(InvalidInputError) as error:
        parse_parameters(params, "swarm", pool)
    (diagnostic,) = error.value.diagnostics
    assert diagnostic.path == "interactive_tools"
    assert expected in diagnostic.message
