"""Idle jobs that an executor would not help: those of users and limits that are used up."""

from __future__ import annotations

import time
from typing import Any

from swarm_runner.model.scaling import ClassSnapshot, IdleJobGroup, ScalingLimits
from swarm_runner.model.shares import Shares
from swarm_runner.model.submitter import Submitter
from swarm_runner.policy.limits import has_limits, startable_jobs
from swarm_runner.policy.sizing import swarm_runner_size_class


def group(count: int, submitter: str = "alice", **fields: Any) -> IdleJobGroup:
    return IdleJobGroup(
        capacity_class="normal",
        submitter=submitter,
        count=count,
        memory_mb=100,
        first_cluster=1,
        last_cluster=1,
        **fields,
    )


def counts(groups: list[IdleJobGroup], *submitters: Submitter, **shares: Any) -> list[int]:
    found = startable_jobs(groups, submitters, Shares.model_validate(shares))
    return [each.count for each in found]


def test_a_ceiling_leaves_what_is_not_in_use() -> None:
    alice = Submitter(name="alice", ceiling=10, cpus_in_use=4)
    assert counts([group(100)], alice) == [6]
    assert counts([group(100, cpus=4), group(100)], alice) == [1, 2]
    assert counts([group(100, submitter="bob")], alice) == [100]
    full = Submitter(name="Alice", ceiling=4, cpus_in_use=4)
    assert counts([group(100), group(5, "bob")], full) == [5]


def test_the_most_jobs_of_a_user() -> None:
    alice = Submitter(name="alice", running_jobs=3)
    groups = [group(100), group(1), group(100, "bob")]
    assert counts(groups, alice, jobs_per_user=5) == [2, 5]


def test_limits_of_tools_and_of_licences() -> None:
    tool = group(9, limits="user.alice,tool.t1")
    licence = group(9, "bob", limits="named.matlab:2")
    shares = {"jobs_per_tool": {"x": 1, "bwa": 4}, "limits": {"matlab": 5}}
    assert counts([tool, licence, tool], **shares) == [4, 2]
    assert counts([group(9, limits="other:3")], **shares) == [9]


def test_only_settings_that_limit_cost_a_query() -> None:
    assert not has_limits(Shares())
    assert not has_limits(
        Shares.model_validate({"groups": {"a": {}}, "users": {"b": {"floor": 1}}})
    )
    assert has_limits(Shares.model_validate({"users": {"b": {"ceiling": 1}}}))
    assert has_limits(Shares.model_validate({"limits": {"x": 1}}))


def test_ten_thousand_users() -> None:
    groups = [group(10, f"u{n}") for n in range(10_000)]
    submitters = [Submitter(name=f"u{n}", running_jobs=n % 7) for n in range(10_000)]
    begin_s = time.process_time()
    found = startable_jobs(groups, submitters, Shares(jobs_per_user=5))
    assert time.process_time() - begin_s < 5
    assert sum(each.count for each in found) == sum(max(5 - n % 7, 0) for n in range(10_000))


def test_the_decision_says_what_does_not_count() -> None:
    limits = ScalingLimits(name="normal", memory_mb=1024, max_replicas=5)
    decision = swarm_runner_size_class(limits, ClassSnapshot(time_s=0, replicas=0, limited_jobs=7))
    assert decision.wanted == 0
    assert "7 more waiting do not count: their user has reached a ceiling" in decision.reason
