"""`pool serve` on a real pool: who may log in, what a browser sees, and what it costs the pool.

The command is the one of docs/how-to/page.md.
"""

from __future__ import annotations

import re
import signal
import subprocess
import uuid
from collections.abc import Iterator
from html import unescape
from http.cookiejar import CookieJar
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, build_opener

import docker
import pytest

from swarm_runner.condor.token_check import TokenVerdict, check_token
from swarm_runner.condor.tokens import token_file
from tests.integration.conftest import service_container
from tests.integration.process_signals import signal_all_daemons
from tests.integration.shell import CommandShell, read_until
from tests.lab.pool import LabPool
from tests.polling import TIMEOUT_S, poll_until

SMALL = {"memory": "100M"}
DAY_S = 86_400


class Browser:
    """A browser of little more than cookies."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._opener = build_opener(HTTPCookieProcessor(CookieJar()))

    def get(self, path: str, form: dict[str, str] | None = None) -> tuple[int, str]:
        """Return the status and the text of a page; with a form, send it."""
        data = urlencode(form).encode() if form is not None else None
        try:
            with self._opener.open(f"{self._address}{path}", data, timeout=60) as answer:
                status, html = answer.status, answer.read().decode()
        except HTTPError as error:
            with error:
                status, html = error.code, error.read().decode()
        return status, re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", html)))

    def log_in(self, token: str) -> int:
        """Send the form of the login; return the status."""
        return self.get("/login", {"token": token})[0]

    def text(self, path: str) -> str:
        """Return a page that must be there."""
        status, text = self.get(path)
        assert status == 200
        return text


@pytest.fixture
def shell(tmp_path: Path, lab: LabPool) -> CommandShell:
    return CommandShell(tmp_path, lab.job_conf, f"page-{uuid.uuid4().hex[:8]}")


@pytest.fixture
def address(shell: CommandShell) -> Iterator[str]:
    """Serve the page; return where."""
    process = shell.start("pool", "serve", "--listen", "127.0.0.1:0")
    try:
        message = read_until(process, "The page is served at")
        found = re.search(r"(http://\S+)/\.", message)
        assert found is not None
        yield found[1]
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            _, errors = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        assert process.returncode == 0
        assert "Traceback" not in errors


def test_only_a_valid_token_opens_the_page(lab: LabPool, address: str) -> None:
    browser = Browser(address)
    assert browser.get("/")[0] == 401
    assert browser.log_in("a.b.c") == 401
    name = f"reader{uuid.uuid4().hex[:6]}"
    _, text = lab.provisioner.create_token(name, "read", DAY_S)
    header, claims, signature = text.strip().split(".")
    forged = f"{header}.{claims}.{signature[:-4]}AAAA"
    assert browser.log_in(forged) == 401
    assert browser.log_in(text) == 200  # after the redirect
    shown = browser.text("/")
    assert f"{name}@{lab.destination.pool.name}" in shown

    lab.provisioner.revoke_tokens(name)
    pool = lab.destination.pool
    poll_until(lambda: check_token(pool, text), lambda c: c.verdict is TokenVerdict.REJECTED)
    assert Browser(address).log_in(text) == 401


def test_the_page_shows_the_pool_and_why_a_job_waits(
    lab: LabPool, shell: CommandShell, address: str
) -> None:
    shell.write(
        "jobs.yml",
        [
            {
                "key": f"runs-{number}",
                "tool_id": "sleeper",
                "image": "debian:trixie",
                "shell": "sleep 300",
                "resources": {"memory": "1800M"},
            }
            for number in range(3)
        ],
    )
    submitted = shell.run_for_runner("submit", "jobs.yml", "--json")
    assert submitted.code == 0, submitted.err
    browser = Browser(address)
    pool, directory = lab.destination.pool, lab.destination.token_directory
    assert browser.log_in(token_file(pool.name, directory).read_text()) == 200
    waiting = "The job waits: the only executor of class big is busy"
    text = poll_until(lambda: browser.text("/jobs?state=idle&tool=sleeper"), lambda t: waiting in t)
    assert "sleeper" in text
    ids = ["{}.{}".format(*job["id"]) for job in submitted.data]
    # The sentence names the job that runs.
    job_id = next(name for name in ids if f" {name} " in text and f"(with {name})" not in text)
    detail = poll_until(lambda: browser.text(f"/jobs/{job_id}"), lambda t: "Submitted." in t)
    assert waiting in detail
    assert "Image debian:trixie" in detail
    overview = browser.text("/")
    assert "waiting 2 running 1 " in overview
    shell.run_for_runner("remove", *(f"runs-{number}" for number in range(3)))


def test_the_output_of_ones_own_job_is_on_its_page_as_it_grows(
    lab: LabPool, shell: CommandShell, address: str
) -> None:
    invocation = {
        "key": "writes",
        "image": "debian:trixie",
        "shell": "for n in 1 2 3; do echo line $n; sleep 5; done",
        "working_directory": str(lab.volume),
        "in_place": True,
        "stdout": "writes.txt",
        "resources": {"memory": "100M"},
    }
    shell.write("jobs.yml", [invocation])
    submitted = shell.run_for_runner("submit", "jobs.yml", "--json")
    assert submitted.code == 0, submitted.err
    job_id = "{}.{}".format(*submitted.data[0]["id"])
    pool, directory = lab.destination.pool, lab.destination.token_directory
    path = f"/jobs/{job_id}/output?stream=stdout"
    assert Browser(address).get(path)[0] == 401
    _, other = lab.provisioner.create_token(f"other{uuid.uuid4().hex[:6]}", "read", DAY_S)
    stranger = Browser(address)
    poll_until(lambda: stranger.log_in(other), lambda status: status == 200)
    # 503 until the access point has been asked about the job.
    refused = poll_until(lambda: stranger.get(path)[0], lambda status: status != 503)
    assert refused == 403
    browser = Browser(address)
    assert browser.log_in(token_file(pool.name, directory).read_text()) == 200
    text = browser.text(path)  # until the job has ended
    assert text.index("line 1") < text.index("line 2") < text.index("line 3")


def test_a_pool_that_hangs_is_on_the_page_with_the_time(
    lab: LabPool, address: str, docker_client: docker.DockerClient
) -> None:
    browser = Browser(address)
    pool, directory = lab.destination.pool, lab.destination.token_directory
    assert browser.log_in(token_file(pool.name, directory).read_text()) == 200
    poll_until(lambda: browser.text("/"), lambda text: "executors ready 3 of 3" in text)
    manager = service_container(docker_client, pool.service())
    signal_all_daemons(manager, "STOP")
    try:
        text = poll_until(
            lambda: browser.text("/"),
            lambda text: "has not answered since" in text,
            timeout_s=TIMEOUT_S,
        )
        assert "executors ready 3 of 3" in text  # what was known last
        assert browser.get("/login", {"token": "a.b.c"})[0] == 401
    finally:
        signal_all_daemons(manager, "CONT")
    poll_until(lambda: browser.text("/"), lambda text: "has not answered since" not in text)
