from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send

from swarm_runner.condor.token_check import TokenCheck, TokenVerdict
from swarm_runner.page.app import PageApp
from swarm_runner.page.login import TrustedProxies
from swarm_runner.page.state import PageState
from swarm_runner.provisioner.autoscaler import AutoscalerRound
from tests.unit.page.made_pool import NOW_S, POOL, MadePool

TOKEN = "a.good.token"  # noqa: S105
ORIGIN = "http://testserver"


def from_peer(app: ASGIApp, host: str) -> ASGIApp:
    """Return an application to which every request comes from a host.

    The test clients of older starlettes cannot be told theirs.
    """

    async def called(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "client": (host, 1)}, receive, send)

    return called


class Site:
    """The page of a made pool, without a server: its state, its application and a client."""

    def __init__(self, pool: MadePool, proxies: TrustedProxies | None = None) -> None:
        self.pool = pool
        self.state = PageState(POOL, pool.clock)
        self.checks: Counter[str] = Counter()
        self.verdict = TokenCheck(TokenVerdict.ACCEPTED, "alice@galaxy", NOW_S + 86_400)
        self.app = PageApp(
            self.state, pool, self._check_token, TrustedProxies() if proxies is None else proxies
        )
        self.client = TestClient(self.app.asgi, base_url=ORIGIN, follow_redirects=False)
        self._run_round = pool.rounds()

    def _check_token(self, token: str) -> TokenCheck:
        self.checks[token] += 1
        if token != TOKEN:
            return TokenCheck(TokenVerdict.REJECTED)
        return self.verdict

    def observe(self, seconds: float = 0) -> AutoscalerRound:
        """Let time pass, and observe the pool and its queue."""
        self.pool.clock.now_s += seconds
        last = self._run_round()
        self.state.record_round(last)
        if "jobs" not in self.pool.unresponsive:
            self.state.record_jobs(self.pool.queued_jobs(20_000))
        return last

    def log_in(self, token: str = TOKEN, **form: str) -> int:
        """Post the form; return the status."""
        return self.client.post("/login", data={"token": token, **form}).status_code

    def text(self, path: str) -> str:
        """Return a page that answers with 200."""
        answer = self.client.get(path)
        assert answer.status_code == 200
        return answer.text


@pytest.fixture
def site() -> Iterator[Site]:
    """Serve an observed pool of 60 executors and 400 jobs, to a browser that is logged in."""
    made = Site(MadePool(60, 400, nodes=6))
    made.observe()
    with made.client:
        assert made.log_in() == 303
        yield made
