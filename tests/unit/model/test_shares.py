"""Accounts and their names in HTCondor, and the settings of a pool's shares."""

from __future__ import annotations

import json
import re
from typing import Any

import fair_shares
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from swarm_runner.model.shares import Account, Shares, decode_account, encode_account

ACCOUNT: TypeAdapter[str] = TypeAdapter(Account)


def messages(**settings: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        Shares.model_validate(settings)
    return str(caught.value)


@pytest.mark.parametrize(
    ("account", "name"),
    [
        ("anna", "anna"),
        ("anna.smith@uni.de", "anna_2esmith_40uni_2ede"),
        ("Anna Smith", "anna_20smith"),
        ("teaching/anna", "teaching.anna"),
        ("ä", "_c3_a4"),
        ("a_2e", "a_5f2e"),
        ("a.b", "a_2eb"),
    ],
)
def test_the_name_of_an_account(account: str, name: str) -> None:
    assert encode_account(account) == name
    assert decode_account(name) == account.lower()


@given(st.text(min_size=1, max_size=30), st.text(min_size=1, max_size=30))
def test_two_users_never_have_one_name(one: str, other: str) -> None:
    for text in (one, other):
        try:
            ACCOUNT.validate_python(text)
        except ValidationError:
            return
    names = encode_account(one), encode_account(other)
    assert (names[0] == names[1]) == (one.lower() == other.lower())
    assert all(re.fullmatch(fair_shares.ACCOUNT_PATTERN, name) for name in names)
    assert decode_account(names[0]) == one.lower()


@pytest.mark.parametrize(
    ("account", "message"),
    [
        ("", "is not an account"),
        ("/anna", "is not an account"),
        ("anna/", "is not an account"),
        ("teaching/ anna", "without spaces around a part"),
        ("a\nqueue", "control character"),
        ("x" * 101, "at most 100"),
    ],
)
def test_a_text_that_is_not_an_account(account: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ACCOUNT.validate_python(account)


def test_groups_without_a_quota_share_what_is_left() -> None:
    groups: dict[str, Any] = {"a": {"quota": 0.4}, "b": {}, "c": None, "a/x": {}, "a/y": {}}
    quotas = Shares.model_validate({"groups": {k: v or {} for k, v in groups.items()}}).quotas()
    assert quotas["a"] == 0.4
    # With those who are in no group.
    assert quotas["b"] == quotas["c"] == pytest.approx(0.2)
    assert quotas["a/x"] == quotas["a/y"] == pytest.approx(1 / 3)


def test_bad_quotas() -> None:
    assert "less than or equal to 1" in messages(groups={"a": {"quota": 1.5}})
    assert "greater than or equal to 0.001" in messages(groups={"a": {"quota": 0}})
    text = messages(groups={"a": {"quota": 0.7}, "b": {"quota": 0.4}})
    assert "makes the quotas of the groups 1.1 together, above 1" in text
    text = messages(groups={"a": {}, "a/x": {"quota": 0.7}, "a/y": {"quota": 0.4}})
    assert "the quotas of the groups of a 1.1 together" in text
    assert "b" in messages(groups={"a": {"quota": 1.0}, "b": {}})
    assert "gets nothing: it has no quota" in messages(groups={"a": {"quota": 1.0}, "b": {}})
    whole = Shares.model_validate({"groups": {"a": {"quota": 0.6}, "b": {"quota": 0.4}}})
    assert sum(whole.quotas().values()) == 1


def test_bad_names() -> None:
    assert "is below a, which is not a group; add it" in messages(groups={"a/x": {}})
    assert "does not begin with an identity" in messages(groups={"anna@uni.de": {}})
    text = messages(groups={"galaxy": {}}, users={"galaxy": {"ceiling": 1}})
    assert "galaxy/galaxy are the jobs that it submits for no account" in text
    assert "is 3, above ceiling (2)" in messages(users={"alice": {"floor": 3, "ceiling": 2}})
    assert "is not a name of a limit" in messages(limits={"MAX-JOBS": 1})
    assert "in another spelling" in messages(groups={"a": {}, "a/X": {}, "a/x": {}})


def test_the_settings_of_a_user() -> None:
    users = {"alice": {"ceiling": 3}, "my-galaxy/anna@uni.de": {"priority_factor": 2000}}
    settings = Shares.model_validate({"users": users}).settings()
    assert settings["users"] == {
        "alice": {"ceiling": 3},
        "my_2dgalaxy.anna_40uni_2ede": {"priority_factor": 2000.0},
    }


def test_the_settings_fit_into_an_environment_variable() -> None:
    users = {f"galaxy/{'@' * 89}{n:04}": {"floor": 1} for n in range(300)}
    shares = Shares.model_validate({"users": users})
    assert len(json.dumps(shares.settings())) < 128 * 1024
    assert "at most 300" in messages(users={f"u{n}": {} for n in range(301)})


def test_limits_that_the_pool_does_not_have() -> None:
    shares = Shares.model_validate({"limits": {"matlab": 3}})
    assert list(shares.limit_diagnostics({"matlab": 3})) == []
    (unknown,) = shares.limit_diagnostics({"matlap": 1})
    assert unknown == "'matlap' is not a limit of the pool; it has matlab (pool.shares.limits)"
    (too_many,) = shares.limit_diagnostics({"matlab": 4})
    assert too_many == "matlab is 4, and the pool has 3 (pool.shares.limits)"
