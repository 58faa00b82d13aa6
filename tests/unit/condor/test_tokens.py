"""A token's file, and what it says. tests/integration has what a pool does with a token."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from swarm_runner.condor.tokens import address_for_token, token_file, token_problem, token_user

NOW = 1_800_000_000.0


def _token(claims: object) -> str:
    middle = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{middle}.c2ln\n"


def _file(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "pool"
    file.write_text(text)
    return file


@pytest.mark.parametrize("claims", [{"sub": "x"}, {"exp": NOW + 60}])
def test_a_good_token(tmp_path: Path, claims: object) -> None:
    assert token_problem(_file(tmp_path, _token(claims)), NOW) is None


def test_an_expired_token(tmp_path: Path) -> None:
    problem = token_problem(_file(tmp_path, _token({"exp": NOW - 60})), NOW)
    assert problem is not None
    assert "expired on 2027-01-15 07:59 UTC" in problem


def test_a_missing_token(tmp_path: Path) -> None:
    problem = token_problem(tmp_path / "none", NOW)
    assert problem is not None
    assert "there is no token" in problem


@pytest.mark.parametrize("text", ["", "abc", "a.b.c", "a.W10=.c", "é"])
def test_what_is_not_a_token(tmp_path: Path, text: str) -> None:
    assert token_problem(_file(tmp_path, text), NOW) is not None


def test_a_directory_instead(tmp_path: Path) -> None:
    problem = token_problem(tmp_path, NOW)
    assert problem is not None
    assert "cannot be read" in problem


def test_the_tokens_path(monkeypatch: pytest.MonkeyPatch) -> None:
    assert token_file("dev", "/somewhere") == Path("/somewhere/dev")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/config")
    assert token_file("dev") == Path("/config/swarm-runner/tokens.d/dev")


@pytest.mark.parametrize(
    ("text", "user"),
    [
        ({"sub": "alice@pool"}, "alice@pool"),
        ({"sub": 17}, None),
        ({}, None),
        ([], None),
    ],
)
def test_the_identity_in_a_token(tmp_path: Path, text: object, user: str | None) -> None:
    assert token_user(_file(tmp_path, _token(text))) == user
    assert token_user(tmp_path / "none") is None


@pytest.mark.parametrize(
    "address", ["<127.0.0.1:9618?addrs=127.0.0.1-9618&sock=schedd>", "<[::1]:9618>"]
)
def test_each_token_has_an_address_of_its_own(tmp_path: Path, address: str) -> None:
    """HTCondor keeps one session for each address, whatever the token."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("a")
    second.write_text("b")
    marked = {address_for_token(address, file) for file in (first, second)}
    assert len(marked) == 2
    assert all(text.startswith(address[:-1]) and text.endswith(">") for text in marked)
    assert address_for_token(address, tmp_path / "none") == address
