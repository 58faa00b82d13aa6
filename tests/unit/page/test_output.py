"""A job's output on its page: for its owner, as text, and never more than a million bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from swarm_runner.errors import UnreachableError
from swarm_runner.model.job import JobId
from swarm_runner.page.app import PageApp
from swarm_runner.page.job_output import MAX_BYTES
from swarm_runner.page.login import TrustedProxies
from tests.unit.page.conftest import TOKEN, Site, from_peer
from tests.unit.page.made_pool import MadePool


class Outputs:
    """Jobs with output."""

    def __init__(self, *chunks: bytes) -> None:
        self.chunks = chunks
        self.asked: list[tuple[JobId, str]] = []
        self.error: UnreachableError | None = None

    def follow(self, job_id: JobId, stream: str) -> Iterator[bytes]:
        self.asked.append((job_id, stream))
        yield from self.chunks
        if self.error is not None:
            raise self.error


class OutputSite(Site):
    """A site whose jobs have output."""

    def __init__(self, *chunks: bytes, proxies: TrustedProxies | None = None) -> None:
        super().__init__(MadePool(20, 40), proxies)
        self.outputs = Outputs(*chunks)
        self.app = PageApp(
            self.state,
            self.pool,
            self._check_token,
            TrustedProxies() if proxies is None else proxies,
            output_source=self.outputs,
        )
        self.client = TestClient(
            from_peer(self.app.asgi, "127.0.0.1"),
            base_url="http://testserver",
            follow_redirects=False,
        )
        self.observe()

    def job_of(self, user: str) -> str:
        """Return the address of a job of a user."""
        ad = next(ad for ad in self.pool.ads if ad["User"] == f"{user}@galaxy")
        return f"/jobs/{ad['ClusterId']}.{ad['ProcId']}"

    def read(self, path: str) -> str:
        """Return the text of a stream that ends."""
        answer = self.client.get(path)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        blocks = [block.split("\n") for block in answer.text.split("\n\n") if block]
        assert blocks[-1][0] == "event: end"
        return "".join(
            json.loads(data.removeprefix("data: "))
            for name, data in (block for block in blocks if len(block) == 2)
            if name == "event: output"
        )


def test_an_owner_reads_both_streams() -> None:
    site = OutputSite(b"one\n", b"", "zwö".encode()[:3], "zwö".encode()[3:])
    with site.client:
        site.log_in()
        job = site.job_of("alice")
        assert f'data-url="{job}/output"' in site.text(job)
        assert site.read(f"{job}/output") == "one\nzwö"
        assert site.read(f"{job}/output?stream=stderr") == "one\nzwö"
    assert [stream for _, stream in site.outputs.asked] == ["stdout", "stderr"]


def test_nobody_elses_output_is_read() -> None:
    site = OutputSite(b"secret")
    with site.client:
        site.log_in()
        job = site.job_of("bob")
        assert "data-url" not in site.text(job)
        assert site.client.get(f"{job}/output").status_code == 403
        # The access point is asked about one job at a time.
        assert site.client.get("/jobs/999.0/output").status_code == 503
        site.pool.clock.now_s += 1
        assert site.client.get("/jobs/999.0/output").status_code == 403
    assert site.outputs.asked == []


def test_without_a_login_it_is_401() -> None:
    site = OutputSite(b"secret")
    assert site.client.get(f"{site.job_of('alice')}/output").status_code == 401


def test_a_proxys_user_is_not_an_identity_of_the_pool() -> None:
    site = OutputSite(b"secret", proxies=TrustedProxies("X-User", ["127.0.0.1"]))
    job = site.job_of("alice")
    with site.client:
        answer = site.client.get(f"{job}/output", headers={"X-User": "alice@galaxy"})
    assert answer.status_code == 403


@pytest.mark.parametrize("path", ["/output?stream=../../etc/passwd", "/output?stream="])
def test_other_streams_do_not_exist(path: str) -> None:
    site = OutputSite(b"x")
    with site.client:
        site.log_in(TOKEN)
        assert site.client.get(site.job_of("alice") + path).status_code == 404


def test_hostile_output_is_text() -> None:
    site = OutputSite(b"\x1b[2J\x00<script>\xff\xfe\n\nevent: main\ndata: {}\n\n")
    with site.client:
        site.log_in()
        shown = site.read(f"{site.job_of('alice')}/output")
    assert shown == "\\x1b[2J\\x00<script>\ufffd\ufffd\n\nevent: main\ndata: {}\n\n"


def test_megabytes_are_cut() -> None:
    site = OutputSite(*[b"x" * 300_000] * 20)
    with site.client:
        site.log_in()
        shown = site.read(f"{site.job_of('alice')}/output")
    assert len(shown) < 2 * MAX_BYTES
    assert shown.endswith("[Only the first million bytes are shown.]")


def test_an_output_that_cannot_be_read_has_its_reason() -> None:
    site = OutputSite(b"begin ")
    site.outputs.error = UnreachableError("the executor does not answer")
    with site.client:
        site.log_in()
        shown = site.read(f"{site.job_of('alice')}/output")
    assert shown == "begin [the executor does not answer]"


def test_without_a_source_there_is_no_output(site: Site) -> None:
    job = site.pool.ads[0]["ClusterId"]
    assert site.client.get(f"/jobs/{job}.0/output").status_code == 404
    assert "data-url" not in site.text(f"/jobs/{job}.0")
