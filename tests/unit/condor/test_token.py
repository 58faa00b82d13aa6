from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from swarm_runner.condor.connection import token_file, token_problem

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
    trouble = token_problem(_file(tmp_path, _token({"exp": NOW - 60})), NOW)
    assert trouble is not None
    assert "expired on 2027-01-15 07:59 UTC" in trouble


def test_no_token(tmp_path: Path) -> None:
    trouble = token_problem(tmp_path / "none", NOW)
    assert trouble is not None
    assert "there is no token" in trouble


@pytest.mark.parametrize("text", ["", "abc", "a.b.c", "a.W10=.c", "é"])
def test_what_is_no_token(tmp_path: Path, text: str) -> None:
    assert token_problem(_file(tmp_path, text), NOW) is not None


def test_a_directory_instead(tmp_path: Path) -> None:
    trouble = token_problem(tmp_path, NOW)
    assert trouble is not None
    assert "cannot be read" in trouble


def test_where_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    assert token_file("dev", "/somewhere") == Path("/somewhere/dev")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/config")
    assert token_file("dev") == Path("/config/swarm-runner/tokens.d/dev")
