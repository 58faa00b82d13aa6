"""What becomes of a pool's answer about a token. An integration test asks a real pool."""

from __future__ import annotations

import base64
import json
import socket
from typing import Any

import pytest

from swarm_runner.condor import token_check
from swarm_runner.condor.token_check import TokenCheck, TokenVerdict, check_token, ping
from swarm_runner.model.pool import Pool


def make_token(**claims: object) -> str:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{payload}.AAAA"


TOKEN = make_token(sub="alice@galaxy", exp=2_000_000_000, iss="galaxy")


def fake_child(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    monkeypatch.setattr(token_check, "_CHILD_CODE", code)


@pytest.mark.parametrize("text", ["", "token", "a.b.c", "..", "e30.W10.AAAA", "\ud800.\ud800.x"])
def test_what_is_not_a_token_is_rejected_without_asking(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_child(monkeypatch, "raise SystemExit('asked')")
    assert check_token(Pool(), text).verdict is TokenVerdict.REJECTED


def test_an_accepted_token_has_its_identity_and_expiry(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_child(monkeypatch, "print('accepted', end='')")
    assert check_token(Pool(), TOKEN) == TokenCheck(
        TokenVerdict.ACCEPTED, "alice@galaxy", 2_000_000_000
    )


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        ("print('rejected', end='')", TokenVerdict.REJECTED),
        ("print('nonsense')", TokenVerdict.UNKNOWN),
        ("raise SystemExit(1)", TokenVerdict.UNKNOWN),
        ("import time; time.sleep(60)", TokenVerdict.UNKNOWN),
    ],
)
def test_verdicts(code: str, verdict: TokenVerdict, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_child(monkeypatch, code)
    assert check_token(Pool(), TOKEN, timeout_s=3) == TokenCheck(verdict)


def test_the_token_is_on_standard_input_alone(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = tmp_path / "seen"
    fake_child(
        monkeypatch,
        "import json, os, sys\n"
        "request = json.load(sys.stdin)\n"
        f"open({str(seen)!r}, 'w').write(repr((request, sys.argv, dict(os.environ))))\n"
        "print('accepted', end='')",
    )
    check_token(Pool(name="galaxy"), TOKEN)
    text = seen.read_text()
    assert text.count(TOKEN) == 1
    assert "'pool': 'galaxy'" in text


def test_nothing_listens_is_unknown() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert check_token(Pool(port=port), TOKEN).verdict is TokenVerdict.UNKNOWN


class FakeBindings:
    """HTCondor's bindings, as far as a ping needs them."""

    HTCondorException = ValueError

    def __init__(self, reply: dict[str, Any] | str) -> None:
        self.param: dict[str, str] = {}
        self.reply = reply
        self.pinged: list[tuple[str, str, str]] = []

    def SecurityContext(self, token: str) -> str:  # noqa: N802  HTCondor's name
        return token

    def ping(self, location: str, authz: str, context: str) -> dict[str, Any]:
        self.pinged.append((location, authz, context))
        if isinstance(self.reply, str):
            raise self.HTCondorException(self.reply)
        return self.reply


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ({"AuthorizationSucceeded": True}, TokenVerdict.ACCEPTED),
        ({"AuthorizationSucceeded": False}, TokenVerdict.REJECTED),
        ({}, TokenVerdict.REJECTED),
        ("Failed to start command.", TokenVerdict.REJECTED),
        ("Unable to connect to the remote daemon.", TokenVerdict.UNKNOWN),
    ],
)
def test_a_ping_succeeds_without_the_permission(
    reply: dict[str, Any] | str, verdict: TokenVerdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    bindings = FakeBindings(reply)
    monkeypatch.setattr(token_check, "htcondor", lambda: bindings)
    assert ping("localhost:9618", "galaxy", TOKEN) is verdict
    ((location, authz, context),) = bindings.pinged
    assert location in ("<127.0.0.1:9618>", "<[::1]:9618>")
    assert (authz, context) == ("READ", TOKEN)
    assert bindings.param["SEC_CLIENT_AUTHENTICATION"] == "REQUIRED"
    assert bindings.param["TRUST_DOMAIN"] == "galaxy"


def test_a_host_without_an_address_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_check, "htcondor", lambda: FakeBindings({}))
    assert ping("no-such-host.invalid:9618", "galaxy", TOKEN) is TokenVerdict.UNKNOWN
