"""What the central manager makes of a pool's shares, evaluated by HTCondor's own ClassAds."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import fair_shares
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_runner.condor.connection import classad
from swarm_runner.model.pool import Pool
from swarm_runner.model.shares import Shares, encode_account
from swarm_runner.swarm.specs import Stack

OWNER = "swarm-runner"
SHARES = {
    "groups": {"galaxy": {"quota": 0.5}, "galaxy/teaching": {"surplus": False}, "my-flow": {}},
    "users": {"galaxy/anna": {"floor": 2, "ceiling": 4}, "alice": {"priority_factor": 500}},
    "jobs_per_user": 5,
    "jobs_per_tool": {"bwa_mem": 2, "x/y[1].z": 1},
    "limits": {"matlab": 3},
}
NO_SETTINGS: dict[str, Any] = {}


def settings(shares: dict[str, Any] = SHARES) -> dict[str, Any]:
    """Return the settings as the central manager's container gets them."""
    pool = Pool.model_validate({"shares": shares})
    environment = Stack(pool=pool, image="i", node_id="n").central_manager().environment
    return fair_shares.from_environment(environment)


def transformed(ad: dict[str, Any], shares: dict[str, Any]) -> dict[str, Any]:
    """Apply the transforms to a job, as the schedd does."""
    job = classad().ClassAd(ad)
    for text in fair_shares.transforms(shares, OWNER):
        _, requirements, command = (line.strip() for line in text.splitlines())
        job["Applies"] = classad().ExprTree(requirements.removeprefix("REQUIREMENTS "))
        kind, name, expression = command.split(" ", 2)
        if job.eval("Applies") is True:
            job["Value"] = classad().ExprTree(expression)
            assert kind in ("EVALSET", "SET")
            job[name] = job.eval("Value")
    found = ("AccountingGroup", "ConcurrencyLimits", "SwarmRunnerRefused")
    return {name: job[name] for name in found if name in job}


def account_of(owner: str, account: str | None, shares: dict[str, Any]) -> str | None:
    ad = {"Owner": owner} if account is None else {"Owner": owner, "SwarmRunnerAccount": account}
    group: str | None = transformed(ad, shares).get("AccountingGroup")
    return group


@pytest.mark.parametrize(
    ("owner", "account", "group"),
    [
        ("galaxy", "anna", "galaxy.anna"),
        ("galaxy", "teaching.anna", "galaxy.teaching.anna"),
        ("galaxy", None, "galaxy.galaxy"),
        ("my-flow", "anna", "my_2dflow.anna"),
        ("swarm-runner", "anna", "swarm_2drunner.anna"),
        ("swarm-runner", None, None),
        ("alice", "anna", None),
        ("alice", "galaxy.anna", None),
        ("alice", None, None),
    ],
)
def test_the_access_point_puts_the_identity_before_the_account(
    owner: str, account: str | None, group: str | None
) -> None:
    assert account_of(owner, account, settings()) == group


def test_without_shares_only_the_pools_own_identity_names_users() -> None:
    assert account_of("swarm-runner", "anna", NO_SETTINGS) == "swarm_2drunner.anna"
    assert account_of("galaxy", "anna", NO_SETTINGS) is None
    assert fair_shares.configuration(NO_SETTINGS) == ""


@given(owner=st.sampled_from(["galaxy", "my-flow", "alice"]), account=st.text(max_size=20))
def test_no_account_leads_out_of_its_identity(owner: str, account: str) -> None:
    if re.fullmatch(fair_shares.ACCOUNT_PATTERN, account) is None:
        return  # The access point refuses it.
    group = account_of(owner, account, settings())
    prefix = owner.replace("-", "_2d")
    assert group is None if owner == "alice" else str(group).startswith(f"{prefix}.")


def test_what_passes_as_an_identitys_own_account() -> None:
    expression = classad().ExprTree(fair_shares.is_own_account(settings()))

    def passes(**ad: str) -> bool:
        scope = classad().ClassAd({"JOB": classad().ClassAd(ad)})
        scope["Passes"] = expression
        return scope.eval("Passes") is True

    assert passes(Owner="galaxy", SwarmRunnerAccount="x", AccountingGroup="galaxy.x")
    assert passes(Owner="galaxy", AccountingGroup="galaxy.galaxy")
    assert not passes(Owner="galaxy", AccountingGroup="galaxy.x")
    assert not passes(Owner="galaxy", SwarmRunnerAccount="x", AccountingGroup="alice.x")
    assert not passes(Owner="alice", SwarmRunnerAccount="x", AccountingGroup="alice.x")
    assert not passes(Owner="Galaxy", SwarmRunnerAccount="x", AccountingGroup="galaxy.x")


@pytest.mark.parametrize(
    ("tool", "limits"),
    [
        ("bwa_mem", "user.alice,tool.t0"),
        ("toolshed.g2.bx.psu.edu/repos/devteam/bwa/bwa_mem/0.7.17", "user.alice,tool.t0"),
        ("bwa_mem2", "user.alice"),
        ("my_bwa_mem", "user.alice"),
        ("x/y[1].z", "user.alice,tool.t1"),
        ("x/y1.z", "user.alice"),
        ("x/y[1]az", "user.alice"),
    ],
)
def test_limits_of_users_and_tools(tool: str, limits: str) -> None:
    found = transformed({"Owner": "alice", "SwarmRunnerTool": tool}, settings())
    assert found["ConcurrencyLimits"] == limits


def test_limits_of_users_are_one_for_each_account() -> None:
    def limit(owner: str, account: str | None) -> str:
        ad = {"Owner": owner} | ({"SwarmRunnerAccount": account} if account else {})
        return str(transformed(ad, settings())["ConcurrencyLimits"])

    named = [("galaxy", "a_2db"), ("galaxy", "a.b"), ("galaxy", "ab"), ("my-flow", "ab"), ("x", "")]
    names = [limit(owner, account) for owner, account in named]
    assert len(set(names)) == len(names)
    # HTCondor's names of limits are those of attributes, with one prefix.
    assert all(re.fullmatch(r"user\.[A-Za-z_][A-Za-z0-9_]*", name) for name in names)


def test_a_job_keeps_its_own_limits_and_cannot_use_up_those_of_others() -> None:
    own = {"Owner": "alice", "ConcurrencyLimits": "named.matlab:2"}
    assert transformed(own, settings())["ConcurrencyLimits"] == "named.matlab:2,user.alice"
    for limits in ("user.bob:99", "x,tool.t0", "x, USER.bob", "x\tuser.bob"):
        found = transformed({"Owner": "alice", "ConcurrencyLimits": limits}, NO_SETTINGS)
        assert "only the pool sets" in found["SwarmRunnerRefused"]
    harmless = {"Owner": "a", "ConcurrencyLimits": "super.user,users"}
    assert "SwarmRunnerRefused" not in transformed(harmless, NO_SETTINGS)


def test_the_negotiators_configuration() -> None:
    lines = fair_shares.configuration(settings()).splitlines()
    assert "GROUP_NAMES = galaxy, galaxy.teaching, my_2dflow" in lines
    assert "GROUP_QUOTA_DYNAMIC_galaxy = 0.500000000" in lines
    assert "GROUP_QUOTA_DYNAMIC_my_2dflow = 0.250000000" in lines
    assert "GROUP_ACCEPT_SURPLUS_galaxy = True" in lines
    assert "GROUP_ACCEPT_SURPLUS_galaxy.teaching = False" in lines
    assert "CONCURRENCY_LIMIT_DEFAULT_user = 5" in lines
    assert "tool.t0_LIMIT = 2" in lines
    assert "NEGOTIATOR_CYCLE_DELAY = 10" in lines
    groups: dict[str, Any] = {"groups": {"galaxy": {}}}
    assert "NEGOTIATOR_CYCLE_DELAY" not in fair_shares.configuration(settings(groups))
    assert "named.matlab_LIMIT = 3" in lines


def test_what_is_no_longer_configured_becomes_the_default_again() -> None:
    first = fair_shares.user_commands(settings(), {}, "pool")
    assert first == [
        ["-setfactor", "alice@pool", "500.0"],
        ["-setfloor", "galaxy.anna@pool", "2"],
        ["-setceiling", "galaxy.anna@pool", "4"],
    ]
    applied = settings()["users"]
    assert fair_shares.user_commands(settings(), applied, "pool") == []
    assert fair_shares.user_commands(NO_SETTINGS, applied, "pool") == [
        ["-setfactor", "alice@pool", "1000.0"],
        ["-setfloor", "galaxy.anna@pool", "0"],
        ["-setceiling", "galaxy.anna@pool", "-1"],
    ]


def test_the_record_says_what_was_applied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record, program = tmp_path / "record.json", tmp_path / "userprio"
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
    program.chmod(0o755)
    monkeypatch.setattr(fair_shares, "_PROGRAM", str(program))
    assert fair_shares.apply_to_users(settings(), "pool", record)
    assert json.loads(record.read_text()) == settings()["users"]
    assert fair_shares.apply_to_users(settings(), "pool", record)
    assert len((tmp_path / "calls").read_text().splitlines()) == 3
    program.write_text("#!/bin/sh\nexit 1\n")
    monkeypatch.setattr(fair_shares, "_RETRY_S", 0)
    assert not fair_shares.apply_to_users(NO_SETTINGS, "pool", record)
    assert json.loads(record.read_text()) == settings()["users"]


def test_a_pool_without_shares_has_the_same_services_as_before() -> None:
    stack = Stack(pool=Pool(), image="i", node_id="n")
    assert "SWARM_RUNNER_SHARES" not in stack.central_manager().environment
    assert "SWARM_RUNNER_TURN_S" not in stack.executors()["normal"].environment
    shares = Shares(turn_s=10)
    stack = Stack(pool=Pool(shares=shares), image="i", node_id="n")
    assert "SWARM_RUNNER_SHARES" not in stack.central_manager().environment
    assert stack.executors()["normal"].environment["SWARM_RUNNER_TURN_S"] == "10"


def test_the_library_writes_an_account_as_the_access_point_wants_it() -> None:
    for account in ("anna@uni.de", "teaching/Anna Smith", "ä/ö", "x" * 100, "@" * 100):
        assert re.fullmatch(fair_shares.ACCOUNT_PATTERN, encode_account(account))
