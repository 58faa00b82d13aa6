"""What becomes of jobs that the access point does not take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from swarm_runner_galaxy.sending import TRIES

from swarm_runner.condor.port import Receipt, SubmitInDoubtError
from swarm_runner.errors import RefusedError
from swarm_runner.model.submit import SubmitBatch
from unit.conftest import World, Wrapper

Submit = Callable[..., Receipt]


def not_for(job: Wrapper, error: Exception, submit: Submit) -> Submit:
    """A schedd that does not take batches with that job among them."""

    def tried(batch: SubmitBatch, **more: Any) -> Receipt:
        if f"galaxy_{job.job_id}.sh" in str(batch):
            raise error
        return submit(batch, **more)

    return tried


def rounds(world: World, count: int) -> list[Wrapper]:
    """The sender tries again; each time another job has come in."""
    jobs = []
    for _ in range(count):
        jobs.append(world.job())
        world.queue(jobs[-1])
    return jobs


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RefusedError("The access point takes no jobs now: bad attribute"), "bad attribute"),
        (SubmitInDoubtError("Unable to commit: policy"), "Unable to commit: policy"),
        (KeyError("odd"), "KeyError: 'odd'"),
    ],
)
def test_a_job_that_the_pool_does_not_take_does_not_keep_the_others(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    bad, good = world.job(), world.job()
    monkeypatch.setattr(
        world.access_point, "submit", not_for(bad, error, world.access_point.submit)
    )
    world.queue(bad, good)
    more = rounds(world, 2 * TRIES)
    for job in (good, *more):
        assert world.submitted(job)
        assert job.failures == []
    assert len(bad.failures) == 1
    assert said in bad.failures[0]


def test_a_pool_that_takes_no_jobs_at_all_is_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> Receipt:
        raise RefusedError("The access point takes no jobs now: it is full")

    with monkeypatch.context() as patch:
        patch.setattr(world.access_point, "submit", full)
        jobs = rounds(world, 4 * TRIES)
        assert [job for job in jobs if job.failures] == []
    world.send()
    assert all(world.submitted(job) for job in jobs)


def test_jobs_wait_for_a_pool_that_is_away(world: World) -> None:
    world.access_point.reachable = False
    jobs = rounds(world, 2 * TRIES)
    asked = world.access_point.calls["submit"]
    world.send()
    # One question, not one for each job.
    assert world.access_point.calls["submit"] - asked <= 1
    world.access_point.reachable = True
    world.send()
    assert all(world.submitted(job) for job in jobs)
    assert [job for job in jobs if job.failures] == []


def test_what_was_sent_all_the_same_is_found_and_not_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = world.access_point.submit

    def sent_and_lost(batch: SubmitBatch, **more: Any) -> Receipt:
        submit(batch, **more)
        raise KeyError("odd")

    job = world.job()
    with monkeypatch.context() as patch:
        patch.setattr(world.access_point, "submit", sent_and_lost)
        world.queue(job)
    world.send()
    assert world.access_point.calls["submit"] == 1
    assert world.submitted(job)
    assert job.failures == []
