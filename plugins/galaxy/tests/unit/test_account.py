"""Each Galaxy user is a submitter of their own: account, group, priority.

A group comes from `account_group`, as in docs/how-to/shares.md.
"""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
from galaxy import model
from swarm_runner_galaxy.invocation import user_names

from swarm_runner import parse_parameters
from unit.conftest import FakeJobWrapper, RunnerHarness


def queue(harness: RunnerHarness, user: model.User | None, **params: Any) -> FakeJobWrapper:
    job = harness.job(**params)
    job.get_job().user = user
    harness.app.model.session.commit()
    harness.queue_jobs(job)
    return job


def account(harness: RunnerHarness, user: model.User | None, **params: Any) -> str | None:
    job = queue(harness, user, **params)
    assert job.failures == []
    found: str | None = harness.access_point.queue[harness.job_id(job)].get("SwarmRunnerAccount")
    return found


def name_of(user: Any, **params: Any) -> str | None:
    parameters = parse_parameters(params, "swarm", None)
    return parameters.account_of(user_names(user, parameters.account_by))


def a_user(username: Any = "anna") -> Any:
    return SimpleNamespace(id=7, email="anna.smith@uni.de", username=username)


def test_each_user_has_an_account() -> None:
    anna = a_user()
    assert name_of(anna) == "anna"
    assert name_of(anna, account_by="email") == "anna.smith@uni.de"
    assert name_of(anna, account_by="id") == "user-7"
    assert name_of(anna, account_by="none") is None
    assert name_of(anna, account="all of us") == "all of us"
    # What a rule of TPV sets by a role or a tag.
    assert name_of(anna, account_group="teaching") == "teaching/anna"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("  Anna   Smith ", "Anna Smith"),
        ("teaching/boss", "teaching|boss"),
        ("", "user-7"),
        (None, "user-7"),
        ("x" * 200, "user-7"),
        ("a\nqueue 100", "a queue 100"),
        ("a\x00b", "user-7"),
    ],
)
def test_awkward_names(name: str | None, expected: str) -> None:
    assert name_of(a_user(name)) == expected


def test_a_user_of_the_database(harness: RunnerHarness) -> None:
    number = time.time_ns()
    user = model.User(email=f"{number}@uni.de", password="x", username=f"anna-{number}")  # noqa: S106
    harness.app.model.session.add(user)
    harness.app.model.session.commit()
    assert account(harness, user) == f"anna_2d{number}"


def test_a_user_who_does_not_exist_any_more(harness: RunnerHarness) -> None:
    assert account(harness, None) == "anonymous"
    assert account(harness, None, account_group="guests") == "guests.anonymous"


def test_priority_and_limits_of_a_destination(harness: RunnerHarness) -> None:
    harness.settings["pool"]["shares"] = {"limits": {"matlab": 3}}
    harness.start()
    harness.poll()
    job = queue(harness, None, priority="7", limits={"matlab": "2"})
    ad = harness.access_point.queue[harness.job_id(job)]
    assert ad["JobPrio"] == 7
    assert ad["ConcurrencyLimits"] == "named.matlab:2"
    refused = queue(harness, None, limits={"matlap": 1})
    harness.poll()
    assert "'matlap' is not a limit of the pool; it has matlab" in (refused.failures or ["?"])[0]


def test_a_group_that_the_pool_does_not_have(harness: RunnerHarness) -> None:
    groups: dict[str, Any] = {"galaxy": {}, "galaxy/teaching": {}}
    harness.settings["pool"]["shares"] = {"groups": groups}
    harness.start()
    harness.poll()
    job = queue(harness, None, account_group="teachers")
    harness.poll()
    assert "is in a group that the pool does not have; it has teaching" in str(job.failures)
    assert account(harness, None, account_group="teaching") == "teaching.anonymous"
