"""The executor's gateway and the program that HTCondor runs as `docker`, on a fake engine."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import gateway
import gateway_images
import gateway_ports
import gateway_server
import pytest
from gateway_engine import Engine, EngineError
from gateway_images import Images, login
from gateway_policy import CONTAINER_VARIABLE, Settings

from tests.unit.swarm.fake_engine import FakeEngine, frame
from tests.unit.swarm.image import IMAGE

USER = SimpleNamespace(pw_uid=os.getuid(), pw_gid=os.getgid())
INSPECT_FORMAT = 'ContainerId="{{.Id}}"\nPid={{.State.Pid}}'


@dataclass
class Executor:
    """An executor's gateway, its engine, and the client program."""

    engine: FakeEngine
    server: gateway_server.Server
    images: Images
    socket: Path
    scratch: Path
    client: Path

    def docker(self, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run `docker` as HTCondor does."""
        return subprocess.run(
            [self.client, *arguments], input=stdin, capture_output=True, timeout=20, check=False
        )

    def create(self, *options: str, name: str = "job", image: str = "debian:trixie") -> list[str]:
        return [
            *(
                "create",
                "--memory=64m",
                "--name",
                name,
                "--volume",
                f"{self.scratch}:{self.scratch}",
            ),
            *("--workdir", str(self.scratch), "--user", f"{os.getuid()}:{os.getgid()}"),
            *(*options, image, "true"),
        ]


@pytest.fixture(scope="module")
def client_source() -> str:
    return (IMAGE / "docker.c").read_text()


@pytest.fixture
def executor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client_source: str
) -> Iterator[Executor]:
    monkeypatch.setattr("pwd.getpwnam", lambda _: USER)
    monkeypatch.setattr("os.chown", lambda *_: None)
    # As root, the jobs' user would be root, which is refused.
    monkeypatch.setattr("os.getuid", lambda: 1000)
    monkeypatch.setattr("os.getgid", lambda: 1000)
    monkeypatch.setattr("os.fchown", lambda *_: None)
    fake = FakeEngine(tmp_path / "engine.sock")
    fake.add_image("debian:trixie")
    engine = Engine(str(fake.path))
    engine.negotiate()
    counts = gateway_images.PullCounts(tmp_path / "image_pulls")
    images = Images(engine, tmp_path / "images", always=False, credentials={}, counts=counts)
    scratch = tmp_path / "dir_1"
    scratch.mkdir()
    program = gateway.Gateway(
        Settings(uid=1000, gid=1000, memory_mb=1024, ports="node", network="bridge"),
        engine,
        images,
        scratch_parent=str(tmp_path),
        executor="here",
        pool="galaxy",
        task="task1",
    )
    path = tmp_path / "gateway.sock"
    server = gateway_server.Server(program, path, {USER.pw_uid}, heartbeat_s=0.3)
    threading.Thread(target=server.serve, daemon=True).start()
    yield Executor(fake, server, images, path, scratch, _compile(tmp_path, client_source, path))
    server.close()
    engine.close()
    fake.close()


def _compile(directory: Path, source: str, path: Path) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler, "there is no C compiler; `make venv` installs one"
    (directory / "docker.c").write_text(
        source.replace("/run/swarm-runner/gateway.sock", str(path)).replace(
            "SILENCE_S 60", "SILENCE_S 1"
        )
    )
    program = directory / "docker"
    subprocess.run([compiler, "-o", program, directory / "docker.c"], check=True)
    return program


def test_a_jobs_life(executor: Executor) -> None:
    executor.engine.output = frame(1, b"out") + frame(2, b"err") + frame(1, b"put" * 50_000)
    executor.engine.exit_code = 3
    created = executor.docker(*executor.create())
    assert (created.returncode, created.stderr) == (0, b"")
    assert executor.docker("tag", "debian:trixie", "debian:trixie").returncode == 0
    started = executor.docker("start", "-a", "job", stdin=b"its input")
    assert (started.returncode, started.stderr) == (3, b"err")
    assert started.stdout == b"out" + b"put" * 50_000
    assert executor.engine.input == b"its input"
    facts = executor.docker("inspect", "--format", INSPECT_FORMAT, "job").stdout.decode()
    assert facts.splitlines() == [
        'ContainerId="c0"',
        "Pid=0",
        'Name="/job"',
        "Running=false",
        "ExitCode=3",
        'StartedAt="2026-01-01T00:00:00Z"',
        'FinishedAt="2026-01-01T00:00:01Z"',
        'DockerError=""',
        'OOMKilled="false"',
    ]
    assert executor.docker("rm", "-f", "-v", "job").stdout == b"job\n"
    _wait(lambda: not executor.engine.containers)
    assert b"No such container" in executor.docker("rm", "-f", "-v", "job").stderr


@pytest.mark.parametrize("events", [[], [{"Action": "oom"}, {"Action": "oom"}]])
def test_a_kill_for_memory_that_the_state_lacks(
    executor: Executor, events: list[dict[str, str]]
) -> None:
    executor.engine.oom_events = events
    executor.docker(*executor.create())
    assert executor.docker("start", "-a", "job").returncode == 0
    inspected = executor.docker("inspect", "--format", INSPECT_FORMAT, "job").stdout.decode()
    assert f'OOMKilled="{str(bool(events)).lower()}"' in inspected


def test_a_container_bears_its_executor_and_pool(executor: Executor) -> None:
    assert executor.docker(*executor.create()).returncode == 0
    (container,) = executor.engine.containers.values()
    assert container["name"] == "job-here"
    assert container["body"]["Labels"] == {
        "org.htcondorproject": "True",
        "swarm-runner.executor": "here",
        "swarm-runner.pool": "galaxy",
    }


def test_a_job_with_a_port(executor: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is published on the node's address, and the job's ad gets where, until the end."""
    attributes: list[str] = []

    def set_attribute(chirp: object, name: str, value: str, **_: object) -> None:
        assert chirp == ("127.0.0.1", 7, "secret")
        attributes.append(f"{name}={value}")

    monkeypatch.setattr(gateway_ports, "set_attribute", set_attribute)
    (executor.scratch / ".chirp.config").write_text("127.0.0.1 7 secret\n")
    executor.engine.runs_s = 1.0
    wanted = f"{CONTAINER_VARIABLE}={json.dumps({'ports': {'web': 8888}})}"
    created = executor.docker(*executor.create("-e", wanted, "-p", "8888"))
    assert created.stderr == b""
    (container,) = executor.engine.containers.values()
    binding = {"HostIp": "10.0.0.7", "HostPort": ""}
    assert container["body"]["HostConfig"]["PortBindings"] == {"8888/tcp": [binding]}
    assert executor.docker("start", "-a", "job").returncode == 0
    assert attributes[:2] == [
        'SwarmPublishedPorts="task1|web=8888=30000@10.0.0.7"',
        "SwarmPublishedPorts=undefined",
    ]


def test_a_refused_job_has_no_container(executor: Executor) -> None:
    refused = executor.docker(*executor.create("--network=host"))
    assert refused.returncode == 1
    assert refused.stderr.startswith(b"swarm-runner refused this job: it asks for the network")
    assert executor.engine.containers == {}


def test_a_known_image_costs_no_pull(executor: Executor) -> None:
    assert executor.docker("images", "--format", "x").stdout == b"\n"
    assert executor.docker("pull", "-q", "debian:trixie").stdout == b"debian:trixie\n"
    assert executor.docker("images", "--format", "x").stdout == b"debian:trixie 0 0MB\n"
    del executor.engine.images["debian:trixie"]
    assert b"manifest unknown" in executor.docker(*executor.create()).stderr
    assert executor.docker("images", "--format", "x").stdout == b"\n"


def test_other_requests(executor: Executor) -> None:
    assert executor.docker("-v").stdout == b"Docker version 28.5.2, build swarm-runner-gateway\n"
    assert executor.docker("info").stdout == b"Server Version: 28.5.2\n"
    for arguments in (["run", "debian"], ["load", "-i", "x"], ["cp", "a", "b"], [], ["container"]):
        assert executor.docker(*arguments).returncode == 1
    assert b"No such container" in executor.docker("kill", "other").stderr
    assert b"No such container" in executor.docker("exec", "-i", "other", "sh").stderr


def test_a_gateway_that_is_not_there_or_hangs(executor: Executor) -> None:
    executor.socket.unlink()
    gone = executor.docker("info")
    assert (gone.returncode, gone.stdout) == (125, b"")
    assert b"gateway does not answer" in gone.stderr
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(executor.socket))
        listener.listen()
        # Not into a pipe: the descriptors that wait in the socket keep it open.
        errors = executor.socket.with_name("errors")
        with errors.open("wb") as file:
            hangs = subprocess.run([str(executor.client), "info"], stderr=file, check=False)
        assert (hangs.returncode, b"gateway hangs" in errors.read_bytes()) == (125, True)


def test_the_heartbeat_of_a_long_job(
    executor: Executor,
) -> None:
    executor.engine.runs_s = 2.5
    executor.docker(*executor.create())
    assert executor.docker("start", "-a", "job").returncode == 0


def test_a_job_outlasts_a_stall_of_its_node(executor: Executor) -> None:
    executor.server._heartbeat_s = 60
    executor.engine.runs_s = 2.5  # longer than other commands wait
    executor.engine.exit_code = 3
    executor.docker(*executor.create())
    assert executor.docker("start", "-a", "job").returncode == 3


def test_the_end_of_docker_start_is_not_the_jobs(executor: Executor) -> None:
    """HTCondor takes it for the job's while the container runs, unless it cannot be inspected."""
    executor.engine.runs_s = 2
    executor.docker(*executor.create())
    (container,) = executor.engine.containers.values()
    with subprocess.Popen([executor.client, "start", "-a", "job"], stdin=subprocess.PIPE) as start:
        _wait(lambda: container["running"])
        running = executor.docker("inspect", "--format", INSPECT_FORMAT, "job")
        assert b"Running=true" in running.stdout
        start.kill()
    _wait(lambda: executor.docker("inspect", "--format", INSPECT_FORMAT, "job").returncode != 0)
    refused = executor.docker("inspect", "--format", INSPECT_FORMAT, "job")
    assert b"`docker start job` ended, and the container runs on" in refused.stderr
    # Once the container has ended, its own end is known.
    executor.engine.exit_code = 7
    _wait(lambda: not container["running"])
    ended = executor.docker("inspect", "--format", INSPECT_FORMAT, "job")
    assert b"Running=false\nExitCode=7\n" in ended.stdout


def test_a_stranger_is_not_served(executor: Executor) -> None:
    executor.server._users.clear()
    assert executor.docker("info").returncode == 125


def test_private_directories_follow_no_link(executor: Executor, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (executor.scratch / ".swarm-runner").symlink_to(elsewhere)
    refused = executor.docker(*executor.create())
    assert b"swarm-runner refused this job" in refused.stderr
    assert list(elsewhere.iterdir()) == []


def test_a_wrong_architecture(executor: Executor) -> None:
    executor.engine.images["debian:trixie"]["Architecture"] = "s390x"
    assert b"Image Architecture s390x not compatible" in executor.docker(*executor.create()).stderr


def test_an_engine_that_is_too_old_or_too_new(tmp_path: Path) -> None:
    for name, api, oldest in (("a", "1.40", "1.12"), ("b", "9.0", "8.0")):
        fake = FakeEngine(tmp_path / name, api=api, oldest_api=oldest)
        engine = Engine(str(fake.path))
        with pytest.raises(EngineError, match="the gateway knows"):
            engine.negotiate()
        engine.close()
        fake.close()
    for name, api, oldest, chosen in (
        ("c", "1.41", "1.12", "v1.41"),
        ("d", "1.52", "1.44", "v1.51"),
    ):
        fake = FakeEngine(tmp_path / name, api=api, oldest_api=oldest)
        engine = Engine(str(fake.path))
        engine.negotiate()
        with pytest.raises(EngineError):
            engine.call("GET", "/containers/x/json")
        assert fake.requests[-1] == f"GET /{chosen}/containers/x/json"
        engine.close()
        fake.close()


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class TestPulls:
    """Pulls of the executors of one node."""

    def node(self, executor: Executor, **options: object) -> list[Images]:
        """Return what the gateways of three executors know."""
        engine = executor.images._engine
        arguments = {"always": False, "credentials": {}} | options
        directory = executor.scratch.parent / "shared"
        self.counts = [executor.scratch.parent / f"image_pulls_{number}" for number in range(3)]
        return [
            Images(engine, directory, counts=gateway_images.PullCounts(path), **arguments)  # type: ignore[arg-type]
            for path in self.counts
        ]

    def advertised(self) -> tuple[int, int]:
        """Return how many pulls the executors advertise together, succeeded and failed."""
        succeeded = failed = 0
        for path in self.counts:
            counts = dict(line.split(" = ") for line in path.read_text().splitlines())
            succeeded += int(counts["ImagePullsSucceeded"])
            failed += int(counts["ImagePullsFailed"])
        return succeeded, failed

    def pulls(self, executor: Executor) -> int:
        return sum("/images/create" in request for request in executor.engine.requests)

    def ensure(self, images: Images, name: str, results: list[object]) -> None:
        try:
            images.ensure(name)
        except gateway_images.PullError as error:
            results.append(str(error))
        else:
            results.append("there")

    def ensure_all(self, node: list[Images], name: str, times: int = 4) -> list[object]:
        results: list[object] = []
        threads = [
            threading.Thread(target=self.ensure, args=(images, name, results))
            for images in node
            for _ in range(times)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results

    def test_one_pull_for_all_jobs_and_executors(
        self, executor: Executor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(gateway_images, "ANSWER_TIMEOUT_S", 30)  # on a busy machine, too

        def pull(name: str) -> Iterator[dict[str, str]]:
            for _ in range(5):
                time.sleep(0.1)
                yield {"status": "Downloading"}
            executor.engine.add_image(name)

        executor.engine.pull = pull
        assert self.ensure_all(self.node(executor), "tool:1") == ["there"] * 12
        assert self.pulls(executor) == 1
        _wait(lambda: self.advertised() == (1, 0))

    def test_a_failed_pull_is_not_repeated_during_its_pause(self, executor: Executor) -> None:
        node = self.node(executor)
        assert self.ensure_all(node, "tool:1") == ["manifest unknown"] * 12
        assert self.pulls(executor) == 1
        (result,) = (executor.scratch.parent / "shared").glob("*.json")
        pauses = []
        for attempts in (2, 3):
            record = json.loads(result.read_text())
            pauses.append(record["until"] - time.time())
            result.write_text(json.dumps(record | {"until": time.time() - 1}))
            assert self.ensure_all(node, "tool:1") == ["manifest unknown"] * 12
            assert self.pulls(executor) == attempts
        assert self.advertised() == (0, 3)
        assert 5 < pauses[0] <= gateway_images.FIRST_PAUSE_S < pauses[1]

    def test_a_registry_that_does_not_answer_keeps_no_slot(
        self, executor: Executor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(gateway_images, "ANSWER_TIMEOUT_S", 0.3)
        answer = threading.Event()

        def pull(name: str) -> Iterator[dict[str, str]]:
            answer.wait(60)
            executor.engine.add_image(name)
            yield {"status": "Pull complete"}

        executor.engine.pull = pull
        node = self.node(executor)
        results = self.ensure_all(node, "reg.example/tool:1", times=2)
        assert len(results) == 6
        assert all("registry reg.example has not answered" in str(text) for text in results)
        assert self.pulls(executor) == 1
        # The registry's other images are not waited for: it would answer first.
        monkeypatch.setattr(gateway_images, "ANSWER_TIMEOUT_S", 600)
        (other,) = self.ensure_all(node[:1], "reg.example/other:1", times=1)
        assert "has not answered" in str(other)
        # The pull goes on; who comes later finds its end.
        answer.set()
        _wait(lambda: "reg.example/tool:1" in executor.engine.images)
        assert self.ensure_all(node, "reg.example/tool:1", times=1) == ["there"] * 3
        assert self.pulls(executor) == 2  # one of each image

    def test_pull_always_checks_again_after_a_while(
        self, executor: Executor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(gateway_images, "ANSWER_TIMEOUT_S", 30)  # on a busy machine, too
        executor.engine.pull = lambda _name: [{"status": "Image is up to date"}]
        node = self.node(executor, always=True)
        assert self.ensure_all(node, "debian:trixie") == ["there"] * 12
        assert self.pulls(executor) == 1
        assert node[0].known() == []

    def test_credentials_go_to_their_registry_alone(self, executor: Executor) -> None:
        credentials = {"auths": {"reg.example": {"auth": "dTpw"}}}
        node = self.node(executor, credentials=credentials)
        for name, has_login in (("reg.example/a:1", True), ("other.example/a:1", False)):
            self.ensure_all(node, name, times=1)
            headers = executor.engine.headers[
                max(n for n, r in enumerate(executor.engine.requests) if "/images/create" in r)
            ]
            assert ("X-Registry-Auth" in headers) is has_login


@pytest.mark.parametrize(
    ("registry", "user"),
    [("docker.io", "hub"), ("reg.example:5000", "u"), ("reg.example", None), ("example", None)],
)
def test_logins(registry: str, user: str | None) -> None:
    auths = {
        "https://index.docker.io/v1/": {"auth": "aHViOnB3"},
        "https://reg.example:5000": {"username": "u", "password": "p"},
    }
    found = login({"auths": auths}, registry)
    assert (found or {}).get("username") == user
