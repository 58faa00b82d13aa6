"""Who may see the page, and what a stranger learns: nothing."""

from __future__ import annotations

import asyncio
import threading

import pytest

from swarm_runner.condor.token_check import MAX_TOKEN_LENGTH, TokenCheck, TokenVerdict
from swarm_runner.errors import InvalidInputError
from swarm_runner.page.login import (
    COOKIE,
    MAX_PENDING_LOGINS,
    MAX_SESSIONS,
    RECHECK_S,
    SESSION_S,
    Sessions,
    TooManyLoginsError,
    TrustedProxies,
)
from tests.unit.page.conftest import TOKEN, Site, from_peer
from tests.unit.page.made_pool import NOW_S, POOL, Clock, MadePool

ADDRESSES = ("/", "/jobs", "/jobs/1001.0", "/nodes?node=node-1", "/history", "/unknown")


@pytest.fixture
def stranger() -> Site:
    site = Site(MadePool(20, 50))
    site.observe()
    return site


@pytest.mark.parametrize("path", ADDRESSES)
def test_a_stranger_gets_401_and_learns_nothing(stranger: Site, path: str) -> None:
    answer = stranger.client.get(path)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"]
    # The address that was asked for is in the form; everything else is the same for all.
    text = answer.text.replace(path, "")
    for word in (POOL.name, "node-1", "1001", "alice", "bwa", "normal"):
        assert word not in text


def test_a_stranger_gets_no_stream(stranger: Site) -> None:
    answer = stranger.client.get("/events?view=/")
    assert (answer.status_code, answer.text) == (401, "")


@pytest.mark.parametrize("cookie", ["", "x", b"\xc3\xa9", "y" * 5000])
def test_an_invented_cookie_is_no_login(stranger: Site, cookie: str | bytes) -> None:
    value = cookie if isinstance(cookie, bytes) else cookie.encode()
    headers = {b"cookie": COOKIE.encode() + b"=" + value}
    answer = stranger.client.get("/", headers=headers)
    assert answer.status_code == 401


@pytest.mark.parametrize(
    "token", ["", " ", "not.a.token", "ü", "x" * (MAX_TOKEN_LENGTH + 1), "a\x00b"]
)
def test_a_wrong_token_is_401_and_sets_no_cookie(stranger: Site, token: str) -> None:
    answer = stranger.client.post("/login", data={"token": token})
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers
    if token.strip():
        assert token not in answer.text


def test_a_token_that_the_pool_accepts_opens_the_page(stranger: Site) -> None:
    with stranger.client as client:
        answer = client.post("/login", data={"token": f"{TOKEN}\n", "next": "/jobs?state=held"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/jobs?state=held")
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert TOKEN not in cookie
        assert client.get("/").status_code == 200
        assert "alice@galaxy" in client.get("/").text


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/",
        "//evil.example/jobs",
        "/\\evil.example",
        "javascript:alert(1)",
        "/x",
    ],
)
def test_a_login_leads_nowhere_else(stranger: Site, target: str) -> None:
    with stranger.client as client:
        answer = client.post("/login", data={"token": TOKEN, "next": target})
    assert answer.headers["location"] == "/"


@pytest.mark.parametrize(
    "headers",
    [{"origin": "http://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}],
)
@pytest.mark.parametrize("path", ["/login", "/logout"])
def test_another_sites_form_is_refused(stranger: Site, headers: dict[str, str], path: str) -> None:
    with stranger.client as client:
        assert stranger.log_in() == 303
        answer = client.post(path, data={"token": TOKEN}, headers=headers)
        assert answer.status_code == 403
        assert client.get("/").status_code == 200


@pytest.mark.parametrize("value", ["[", "http://[", "http://[x", "\xe9", "", "a" * 10_000])
@pytest.mark.parametrize("name", ["host", "origin", "x-forwarded-proto", "cookie"])
def test_any_header_is_read(stranger: Site, name: str, value: str) -> None:
    headers = {name.encode(): value.encode()}
    assert stranger.client.get("/jobs", headers=headers).status_code == 401
    # The form of another site is refused, and this one's token is wrong.
    refused = 403 if name == "origin" else 401
    answer = stranger.client.post("/login", data={"token": "x"}, headers=headers)
    assert answer.status_code == refused


def test_a_form_of_many_fields_is_read(stranger: Site) -> None:
    fields = {f"field-{number}": "" for number in range(100)}
    answer = stranger.client.post("/login", data=fields | {"token": TOKEN})
    assert answer.status_code == 303


def test_a_form_of_megabytes_is_not_read_to_its_end(stranger: Site) -> None:
    assert stranger.log_in("x" * 3_000_000) == 401
    assert not stranger.checks


def test_a_pool_that_does_not_answer_is_503(stranger: Site) -> None:
    stranger.verdict = TokenCheck(TokenVerdict.UNKNOWN)
    assert stranger.log_in() == 503


def test_logging_out_ends_the_session(stranger: Site) -> None:
    with stranger.client as client:
        stranger.log_in()
        cookie = client.cookies[COOKIE]
        assert client.post("/logout").status_code == 303
        assert client.get("/").status_code == 401
        client.cookies[COOKIE] = cookie
        assert client.get("/").status_code == 401


@pytest.mark.parametrize(("expires_s", "lasts_s"), [(NOW_S + 50, 50), (None, SESSION_S)])
def test_a_session_ends_with_its_token_or_after_half_a_day(
    stranger: Site, expires_s: float | None, lasts_s: float
) -> None:
    stranger.verdict = TokenCheck(TokenVerdict.ACCEPTED, "alice@galaxy", expires_s)
    with stranger.client as client:
        stranger.log_in()
        stranger.pool.clock.now_s += lasts_s - 1
        assert client.get("/nodes").status_code == 200
        stranger.pool.clock.now_s += 1
        assert client.get("/nodes").status_code == 401


def test_a_token_that_has_expired_is_refused(stranger: Site) -> None:
    stranger.verdict = TokenCheck(TokenVerdict.ACCEPTED, "alice@galaxy", NOW_S - 1)
    assert stranger.log_in() == 401


class Verdicts:
    """A pool that gives the next verdict."""

    def __init__(self, *verdicts: TokenVerdict) -> None:
        self.verdicts = list(verdicts)

    def __call__(self, _token: str) -> TokenCheck:
        return TokenCheck(self.verdicts.pop(0), "alice@galaxy")


def test_a_token_that_is_rejected_twice_ends_its_sessions() -> None:
    clock = Clock()
    accepted, rejected, unknown = TokenVerdict.ACCEPTED, TokenVerdict.REJECTED, TokenVerdict.UNKNOWN
    check = Verdicts(accepted, accepted, unknown, rejected, accepted, rejected, rejected)
    sessions = Sessions(check, clock)

    async def run() -> None:
        cookies = [(await sessions.log_in("t.t.t"))[1] for _ in range(2)]
        await sessions.recheck()
        assert len(check.verdicts) == 5  # checked a moment ago
        clock.now_s += RECHECK_S
        await sessions.recheck()  # the pool does not answer
        clock.now_s += RECHECK_S
        await sessions.recheck()  # a pool that is restarting
        await sessions.recheck()  # at the next opportunity
        assert all(map(sessions.find, cookies))
        assert len(check.verdicts) == 2
        clock.now_s += RECHECK_S
        await sessions.recheck()
        assert all(map(sessions.find, cookies))
        await sessions.recheck()
        assert not any(map(sessions.find, cookies))

    asyncio.run(run())


def test_the_number_of_sessions_is_bounded() -> None:
    sessions = Sessions(lambda _: TokenCheck(TokenVerdict.ACCEPTED, "a"), Clock())

    async def run() -> tuple[str, str]:
        first = (await sessions.log_in("t.t.t"))[1]
        last = first
        for _ in range(MAX_SESSIONS):
            last = (await sessions.log_in("t.t.t"))[1]
        return first, last

    first, last = asyncio.run(run())
    assert sessions.find(first) is None
    assert sessions.find(last) is not None


def test_the_number_of_waiting_logins_is_bounded() -> None:
    release = threading.Event()

    def check(_token: str) -> TokenCheck:
        release.wait(10)
        return TokenCheck(TokenVerdict.ACCEPTED, "a")

    sessions = Sessions(check, Clock())

    async def run() -> None:
        logins = [asyncio.create_task(sessions.log_in("t.t.t")) for _ in range(MAX_PENDING_LOGINS)]
        await asyncio.sleep(0)
        with pytest.raises(TooManyLoginsError):
            await sessions.log_in("t.t.t")
        release.set()
        assert len(await asyncio.gather(*logins)) == MAX_PENDING_LOGINS

    asyncio.run(run())


HEADER = b"x-remote-user"


@pytest.mark.parametrize(
    ("peer", "names", "user"),
    [
        ("192.0.2.7", [b"alice"], "alice"),
        ("192.0.2.99", [b"alice"], "alice"),
        ("::ffff:192.0.2.7", [b"alice"], "alice"),
        ("198.51.100.1", [b"alice"], ""),
        ("192.0.2.7", [], ""),
        ("192.0.2.7", [b""], ""),
        ("192.0.2.7", [b"alice", b"root"], ""),
        ("testclient", [b"alice"], ""),
    ],
)
def test_only_a_trusted_proxy_names_a_user(peer: str, names: list[bytes], user: str) -> None:
    proxies = TrustedProxies("X-Remote-User", ["192.0.2.0/24"])
    assert proxies.user(peer, [(HEADER, name) for name in names]) == user


def test_no_proxy_is_trusted_unless_it_is_named() -> None:
    assert TrustedProxies().user("127.0.0.1", [(HEADER, b"alice")]) == ""


@pytest.mark.parametrize(
    ("header", "addresses", "message"),
    [
        ("X-User", [], "need each other"),
        (None, ["192.0.2.7"], "need each other"),
        ("X-User", ["everyone"], "--trusted-proxy everyone"),
        ("X-User", ["192.0.2.7/24"], "has host bits set"),
    ],
)
def test_wrong_settings_of_proxies(header: str | None, addresses: list[str], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        TrustedProxies(header, addresses)


def test_the_header_of_a_proxy_opens_the_page_and_no_other_peers() -> None:
    site = Site(MadePool(3, 3), TrustedProxies("X-Remote-User", ["127.0.0.1"]))
    site.observe()
    headers = {"x-remote-user": "bob <script>"}
    assert site.client.get("/", headers=headers).status_code == 401
    site.client = type(site.client)(from_peer(site.app.asgi, "127.0.0.1"))
    with site.client:
        answer = site.client.get("/", headers=headers)
    assert answer.status_code == 200
    assert "bob &lt;script&gt;" in answer.text
    assert "Log out" not in answer.text
