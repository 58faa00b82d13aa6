"""Inputs that executors fetch by URL, from a server that also misbehaves, on a pool of its own."""

from __future__ import annotations

import hashlib
import ipaddress
import re
import subprocess
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import docker
import pytest

from swarm_runner.condor.access_point import AccessPoint
from swarm_runner.errors import InvalidInputError
from swarm_runner.model.job import Job, JobState, OutcomeKind
from swarm_runner.model.sources import Source
from tests.integration.conftest import LabHarness
from tests.lab.pool import LabPool, lab_pool
from tests.polling import TIMEOUT_S, poll_until

NAME, PORT = "swarm-runner-urls", 9757
# An interrupted session may have left its own, in use by its pool.
SECRET = f"swarm-runner-urls-{uuid.uuid4().hex[:8]}"
TOKEN = "the-pools-own-secret"  # noqa: S105 - for this test's server
HEADER = f"Bearer {TOKEN}"
GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "url-inputs.md"
CONTENT = b"content\n" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
# How often /early ends early: all attempts of one run of the program, and one of the next.
EARLY_ENDS = 5


@dataclass
class DataServer:
    """A server on the node's own bridge, which every container can reach."""

    address: str
    requests: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._server = ThreadingHTTPServer((self.address, 0), self._handler())
        self.url = f"http://{self.address}:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def port(self) -> int:
        return self._server.server_port

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        data_server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                data_server.requests[path] += 1
                name = path.rsplit("/", 1)[-1]
                status = int(name) if name.isdigit() else 200
                if path.startswith("/secret/") and self.headers["Authorization"] != HEADER:
                    status = 401
                self.send_response(302 if name.startswith("to-") else status)
                targets = {"to-other": "/other/x?sig=secret", "to-more": "/data/more"}
                if name in targets:
                    self.send_header("Location", targets[name])
                self.send_header("Content-Length", str(len(CONTENT)))
                self.end_headers()
                early = name == "early" and data_server.requests[path] <= EARLY_ENDS
                self.wfile.write(CONTENT[: 100 if early else None])
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                """Print nothing."""

        return Handler


@pytest.fixture(scope="module")
def server() -> Iterator[DataServer]:
    client = docker.from_env()
    subnet = client.networks.get("bridge").attrs["IPAM"]["Config"][0]["Subnet"]
    client.close()
    data_server = DataServer(str(ipaddress.ip_network(subnet)[1]))
    yield data_server
    data_server.close()


@pytest.fixture(scope="module")
def fetching(
    server: DataServer, lab: LabPool, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LabPool]:
    """Yield a pool with sources. The Swarm is the session's: it has the secret before the pool."""
    assert lab
    login = tmp_path_factory.mktemp("login")
    (login / "token.txt").write_text(TOKEN)
    (command,) = re.findall(r"^    (printf .*)$", GUIDE.read_text(), re.MULTILINE)
    subprocess.run(
        ["/bin/sh", "-c", command.replace("site-data", SECRET)],
        cwd=login,
        check=True,
    )
    settings: dict[str, Any] = {
        "classes": {"normal": {"cpus": 8, "memory_mb": 2048, "replicas": 1}},
        "sources": [
            {"url": f"{server.url}/data", "private": True},
            {"url": f"{server.url}/secret", "private": True, "authorization": SECRET},
            f"{server.url}/public",  # whose host has a private address all the same
            f"http://localhost:{server.port}",
        ],
    }
    with lab_pool(NAME, PORT, settings) as pool:
        yield pool
    client = docker.from_env()
    client.secrets.get(SECRET).remove()
    client.close()


@pytest.fixture(params=["volume", "spooled"])
def harness(
    request: pytest.FixtureRequest, fetching: LabPool, tmp_path: Path
) -> Iterator[LabHarness]:
    """Run the test with files on a volume, and with files that are spooled."""
    directory = tmp_path
    if request.param == "volume":
        directory = fetching.volume / f"harness-{uuid.uuid4().hex[:8]}"
        directory.mkdir()
        directory.chmod(0o777)  # the jobs' user writes here
    destination = fetching.destination.model_copy(update={"state_directory": str(fetching.volume)})
    access_point = AccessPoint.connect(destination.pool, destination.token_directory)
    harness = LabHarness(destination, directory, access_point)
    yield harness
    harness.remove_jobs()


def kinds(jobs: list[Job]) -> dict[str, OutcomeKind | None]:
    return {job.key: job.outcome.kind if job.outcome else None for job in jobs}


def test_a_job_gets_what_it_names(harness: LabHarness, server: DataServer) -> None:
    (harness.directory / "two words.txt").write_text("local\n")
    invocation = harness.invocation(
        "whole",
        "stat -c %u plain; cat plain 'in/a b,c' redirected private | sha256sum; "
        "cat 'two words.txt'; ls /run/secrets 2>/dev/null | wc -l",
        inputs=[
            f"{server.url}/data/plain?version=2",
            {"source": f"{server.url}/data/x", "name": "in/a b,c", "checksum": f"sha256:{SHA256}"},
            {"source": f"{server.url}/data/to-more", "name": "redirected"},
            {"source": f"{server.url}/secret/y", "name": "private"},
            "two words.txt",
        ],
        stdout="out.txt",
    )
    with harness.runner() as runner:
        (job,) = runner.wait(runner.submit([invocation]), TIMEOUT_S)
    assert job.outcome is not None
    assert job.outcome.ok, job.outcome
    expected = hashlib.sha256(CONTENT * 4).hexdigest()
    lines = (harness.directory / "out.txt").read_text().splitlines()
    assert lines == ["1000", f"{expected}  -", "local", "0"]


@pytest.mark.parametrize("harness", ["volume"], indirect=True)
def test_what_cannot_be_fetched(harness: LabHarness, server: DataServer) -> None:
    """Failures that last end the job, with a sentence that names the URL without its query."""
    wrong = "md5:" + "0" * 32
    urls: dict[str, tuple[object, OutcomeKind, str]] = {
        "forbidden": (
            f"{server.url}/data/403?sig=secret",
            OutcomeKind.INPUT_MISSING,
            "answered with 403",
        ),
        "absent": (f"{server.url}/data/404", OutcomeKind.INPUT_MISSING, "answered with 404"),
        "checksum": (
            {"source": f"{server.url}/data/x", "checksum": wrong},
            OutcomeKind.INPUT_MISSING,
            f"not {wrong[4:]}",
        ),
        "redirect": (
            f"{server.url}/data/to-other",
            OutcomeKind.REFUSED,
            f"leads to {server.url}/other/x",
        ),
        "loopback": (
            f"http://localhost:{server.port}/x",
            OutcomeKind.REFUSED,
            "which is the node's own",
        ),
        "private": (f"{server.url}/public/x", OutcomeKind.REFUSED, "private: true"),
        # The client's own configuration allows it, the executor does not.
        "client": (
            f"{server.url}/other/x",
            OutcomeKind.REFUSED,
            "not below any of the pool's sources",
        ),
    }
    pool = harness.destination.pool
    wider = pool.model_copy(update={"sources": (*pool.sources, Source(url=server.url))})
    honest = harness.destination
    with harness.runner() as runner, pytest.raises(InvalidInputError, match="none of the sources"):
        runner.submit([harness.invocation("client", "true", inputs=[f"{server.url}/other/x"])])
    harness.destination = honest.model_copy(update={"pool": wider})
    batch = [
        harness.invocation(key, "true", inputs=[item], resources={"memory_mb": 64, "disk_mb": 50})
        for key, (item, _, _) in urls.items()
    ]
    with harness.runner() as runner:
        jobs = runner.wait(runner.submit(batch), TIMEOUT_S)
    assert kinds(jobs) == {key: kind for key, (_, kind, _) in urls.items()}
    for job in jobs:
        assert job.outcome is not None
        assert urls[job.key][2] in job.outcome.message
        assert job.outcome.message.startswith("An input could not be fetched: http://")
        assert "secret" not in job.outcome.message
    assert server.requests["/other/x"] == server.requests["/public/x"] == 0


@pytest.mark.parametrize("harness", ["volume"], indirect=True)
def test_an_early_end_is_tried_again(harness: LabHarness, server: DataServer) -> None:
    invocation = harness.invocation(
        "early", "sha256sum early", inputs=[f"{server.url}/data/early"], stdout="out.txt"
    )
    with harness.runner() as runner:
        jobs = runner.submit([invocation])

        def state() -> JobState:
            runner.poll()
            (found,) = runner.find("early")
            return found.state

        poll_until(state, lambda observed: observed is JobState.HELD)
        assert server.requests["/data/early"] == 4
        (job,) = runner.wait(jobs, TIMEOUT_S)
    assert job.outcome is not None
    assert job.outcome.ok, job.outcome
    assert SHA256 in (harness.directory / "out.txt").read_text()
    assert server.requests["/data/early"] == EARLY_ENDS + 1


@pytest.mark.parametrize("harness", ["volume"], indirect=True)
def test_a_job_cannot_take_the_secret_with_it(harness: LabHarness) -> None:
    """HTCondor follows links in outputs as the job's user, in the executor's own container."""
    public = "/etc/condor/config.d/sources.conf"
    batch = [
        harness.invocation("thief", f"ln -s /run/secrets/{SECRET} loot", outputs=["loot"]),
        harness.invocation("control", f"ln -s {public} public", outputs=["public"]),
    ]
    with harness.runner() as runner:
        jobs = runner.wait(runner.submit(batch), TIMEOUT_S)
    assert kinds(jobs) == {"thief": OutcomeKind.OUTPUT_MISSING, "control": OutcomeKind.EXITED}
    loot = harness.directory / "loot"
    assert not loot.exists() or TOKEN not in loot.read_text()
    # What makes the rule necessary: a file of the executor's own that everybody may read.
    assert "FILETRANSFER_PLUGINS" in (harness.directory / "public").read_text()
