"""`swarm-runner doctor`: each bad state of a host, an engine or a pool is found, with its cure."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gateway_engine
import pytest
from typing_extensions import override

from swarm_runner.cli import diagnosis, doctor, factories
from swarm_runner.condor.daemons import Daemon
from swarm_runner.condor.tokens import token_file
from swarm_runner.errors import UnreachableError
from swarm_runner.model.pool import Destination, Pool
from swarm_runner.model.pool_status import ServiceState, SwarmNode
from swarm_runner.swarm.engine_facts import EngineFacts
from swarm_runner.testing.swarm import FakeSwarm
from tests import screenshots
from tests.unit.cli.conftest import Cli

pytestmark = pytest.mark.usefixtures("site")
NOW = time.time()
IMAGE = "swarm-runner-pool:1"
POOL = "galaxy"
has_route, examine_disk = doctor._has_route, doctor._examine_disk


def write_token(**claims: Any) -> Path:
    file = token_file(POOL)
    file.parent.mkdir(parents=True, exist_ok=True)
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    file.write_text(f"e30.{payload}.c2lnbmF0dXJl")
    return file


def node(name: str, engine_version: str, architecture: str = "x86_64") -> SwarmNode:
    return SwarmNode(
        id=f"id-{name}", name=name, engine_version=engine_version, architecture=architecture
    )


def schedd(version: str = "25.14.1", sent_s: float = NOW) -> Daemon:
    return Daemon(kind="Scheduler", name=POOL, version=version, sent_s=sent_s)


class PoolSwarm(FakeSwarm):
    """A Swarm with these services of the pool."""

    def __init__(self) -> None:
        super().__init__()
        self.names = [Pool(name=POOL).service(name) for name in (None, "normal", "big")]
        self.has_leader = True

    @override
    def services(self, pool: str) -> dict[str, ServiceState]:
        assert pool == POOL
        return {
            name: ServiceState(name=name, image=IMAGE, replicas=1, labels={}, version=1)
            for name in self.names
        }

    @override
    def networks(self, pool: str) -> set[str]:
        if not self.has_leader:
            raise UnreachableError("listing networks: the Swarm has no leader")
        return super().networks(pool)


class Site:
    """A host with an engine and a pool, all of them in order until a test breaks one."""

    def __init__(self) -> None:
        self.engine: EngineFacts | Exception = EngineFacts(
            name="node1",
            version="28.0.0",
            api_version=(1, 48),
            swarm_state="active",
            swarm_manager=True,
            root_directory="/",
            time_s=NOW,
            images=frozenset({IMAGE}),
        )
        self.swarm = PoolSwarm()
        self.daemons: list[Daemon] | Exception = [schedd()]
        self.free_mb: int | None = 50_000
        self.route: bool | None = True

    def engine_facts(self) -> EngineFacts:
        if isinstance(self.engine, Exception):
            raise self.engine
        return self.engine

    def change(self, **changes: Any) -> None:
        assert isinstance(self.engine, EngineFacts)
        self.engine = replace(self.engine, **changes)

    def read_daemons(self, _destination: Destination) -> list[Daemon]:
        if isinstance(self.daemons, Exception):
            raise self.daemons
        return self.daemons


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, job_conf: Path) -> Site:
    del job_conf  # the environment variable names it
    site = Site()
    monkeypatch.setattr(factories, "engine_facts", site.engine_facts)
    monkeypatch.setattr(factories, "swarm", lambda _pool: site.swarm)
    monkeypatch.setattr(factories, "daemons", site.read_daemons)
    monkeypatch.setattr(factories, "pool_image", lambda _destination: IMAGE)
    monkeypatch.setattr(doctor, "_has_route", lambda: site.route)
    monkeypatch.setattr(
        doctor,
        "_examine_disk",
        lambda what, directory: diagnosis.check_disk(what, directory, site.free_mb),
    )
    monkeypatch.setattr(doctor, "time", SimpleNamespace(time=lambda: NOW))
    monkeypatch.setattr(doctor, "_version", {"htcondor": "25.14.1", "docker": "7.2.0"}.get)
    write_token(iss=POOL, iat=NOW - 60)
    return site


Examine = Callable[..., dict[str, dict[str, str]]]


@pytest.fixture
def examine(cli: Cli) -> Examine:
    """Run `doctor --json`, check its exit code, and return what is not in order by its check."""

    def run(code: int, *options: str) -> dict[str, dict[str, str]]:
        result = cli("doctor", "--json", *options)
        findings = json.loads(result.out)
        assert result.code == code, findings
        problems = {f["check"]: f for f in findings if f["severity"] != "ok"}
        assert all(problem["advice"] for problem in problems.values())
        return problems

    return run


def test_everything_is_in_order(examine: Examine, cli: Cli) -> None:
    assert examine(0) == {}
    table = cli("doctor").out
    for check in (
        "versions",
        "configuration",
        "engine",
        "swarm",
        "disk",
        "token",
        "schedd",
        "clock",
    ):
        assert check in table


def test_the_picture_of_the_documentation_shows_today_s_words() -> None:
    picture = screenshots.PICTURE.read_text()
    assert screenshots.words(picture) == screenshots.words(screenshots.render()), "`make pictures`"
    assert "url(http" not in picture, "a reader's browser asks no other server"


def test_there_is_no_docker(
    site: Site, examine: Examine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    site.engine = UnreachableError("the Docker engine does not answer")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    problems = examine(3)
    assert problems["engine"]["severity"] == "unreachable"
    assert "install Docker" in problems["engine"]["advice"]


def test_the_user_may_not_use_the_socket(
    site: Site, examine: Examine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    site.engine = UnreachableError("the Docker engine does not answer (Permission denied)")
    path = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
        monkeypatch.setattr(doctor, "_may_use", lambda _: False)  # root may use every socket
        assert "usermod -aG docker" in examine(3)["engine"]["advice"]


def test_an_engine_elsewhere_does_not_answer(
    site: Site, examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.engine = UnreachableError("the Docker engine does not answer")
    monkeypatch.setenv("DOCKER_HOST", "tcp://swarm-1:2376")
    assert "firewall" in examine(3)["engine"]["advice"]


def test_an_old_engine(site: Site, examine: Examine) -> None:
    site.change(version="19.03.15", api_version=(1, 40))
    assert "older than 20.10" in examine(1)["engine"]["message"]


def test_an_engine_whose_api_is_too_new(site: Site, examine: Examine) -> None:
    site.change(version="40.0.0", api_version=(1, 70), minimum_api_version=(1, 60))
    problem = examine(1)["engine"]
    assert "from version 1.60 on, and the executors know it up to 1.51" in problem["message"]
    assert "Upgrade swarm-runner" in problem["advice"]


def test_the_newest_api_is_the_gateway_s() -> None:
    assert diagnosis.NEWEST_API_VERSION == gateway_engine.NEWEST_API


def test_a_node_of_another_architecture(site: Site, examine: Examine) -> None:
    site.swarm.other_nodes = [node("pi-1", "28.0.0", "aarch64")]
    problem = examine(1)["nodes"]
    assert "Node pi-1 is aarch64" in problem["message"]
    assert "pool.image" in problem["advice"]


def test_a_node_with_another_engine(site: Site, examine: Examine) -> None:
    site.swarm.other_nodes = [node("swarm-2", "26.1.5")]
    problem = examine(0)["nodes"]
    assert "26.1.5 (swarm-2), 28.0.0 (swarm-1)" in problem["message"]
    site.swarm.other_nodes = [node("swarm-2", "28.0.0")]
    assert examine(0) == {}


@pytest.mark.parametrize(("ahead_s", "word"), [(3600, "ahead of"), (-3600, "behind")])
def test_a_node_whose_clock_is_wrong(site: Site, examine: Examine, ahead_s: int, word: str) -> None:
    startd = Daemon(kind="Machine", name="swarm-2", sent_s=NOW + ahead_s, received_s=NOW)
    site.daemons = [schedd(), startd]
    problem = examine(1)["clock"]
    assert f"node swarm-2 is 3,600 s {word}" in problem["message"]
    assert "timedatectl" in problem["advice"]


@pytest.mark.parametrize(
    ("changes", "code", "advice"),
    [
        ({"swarm_state": "inactive", "swarm_manager": False}, 0, "pool up --init"),
        ({"swarm_manager": False}, 1, "docker node promote"),
        ({"swarm_state": "locked", "swarm_manager": False}, 1, "docker swarm unlock"),
        ({"swarm_state": "pending", "swarm_manager": False}, 1, "2377"),
        ({"swarm_state": "error", "swarm_manager": False}, 1, "leave --force"),
        ({"swarm_state": "new", "swarm_manager": False}, 1, "leave --force"),
    ],
)
def test_a_swarm_that_cannot_be_used(
    site: Site, examine: Examine, changes: dict[str, Any], code: int, advice: str
) -> None:
    site.change(**changes)
    problems = examine(code)
    assert list(problems) == ["swarm"]
    assert advice in problems["swarm"]["advice"]


def test_the_swarm_s_own_words_are_shown(site: Site, examine: Examine) -> None:
    site.change(swarm_state="error", swarm_manager=False, swarm_error="certificate has expired")
    assert "certificate has expired" in examine(1)["swarm"]["message"]


def test_a_kernel_without_memory_limits(site: Site, examine: Examine) -> None:
    site.change(memory_limit=False, cgroup_version="1")
    problem = examine(1)["memory limits"]
    assert "cgroup v1" in problem["message"]
    assert "cgroup_enable=memory" in problem["advice"]


def test_an_engine_without_root(site: Site, examine: Examine) -> None:
    site.change(rootless=True)
    assert "overlay networks" in examine(1)["engine"]["message"]


def test_a_kernel_without_swap_limits(site: Site, examine: Examine) -> None:
    site.change(swap_limit=False)
    assert examine(0)["memory limits"]["severity"] == "warning"


@pytest.mark.parametrize(("free_mb", "code", "severity"), [(0, 1, "failed"), (5_000, 0, "warning")])
def test_a_full_disk(site: Site, examine: Examine, free_mb: int, code: int, severity: str) -> None:
    site.free_mb = free_mb
    assert examine(code)["disk"]["severity"] == severity


def test_the_disk_of_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the engine's directory has free is asked of the kernel."""
    usage = shutil.disk_usage(tmp_path)
    found = examine_disk("images", str(tmp_path))
    assert f"are free in {tmp_path} (images)" in found.message
    asked: list[str] = []

    def disk_usage(directory: str) -> object:
        asked.append(directory)
        return usage._replace(free=2**20)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    full = examine_disk("images", "/var/lib/docker")
    assert (full.severity, full.message[:14]) == ("failed", "1 MB are free ")
    assert "docker system df" in full.advice
    assert asked == ["/var/lib/docker"]
    monkeypatch.undo()
    unknown = examine_disk("images", str(tmp_path / "only root may look here"))
    assert (unknown.severity, unknown.advice) == ("warning", "Look with `df`")


def test_no_network_and_no_image(site: Site, examine: Examine) -> None:
    site.route = False
    assert examine(0) == {}, "the engine has the image"
    site.change(images=frozenset())
    assert "docker load" in examine(1)["image"]["advice"]
    site.route = None
    assert examine(0) == {}


@pytest.mark.parametrize(("ahead_s", "word"), [(3600, "ahead of"), (-3600, "behind")])
def test_a_wrong_clock_beside_an_engine_elsewhere(
    site: Site, examine: Examine, ahead_s: int, word: str
) -> None:
    site.change(local=False, time_s=NOW - ahead_s)
    site.daemons = [schedd(sent_s=NOW - ahead_s)]
    problem = examine(1)["clock"]
    assert word in problem["message"]
    assert "timedatectl" in problem["advice"]


@pytest.mark.parametrize("ad_age_s", [0, 300, 880])
def test_an_old_ad_is_not_a_wrong_clock(site: Site, examine: Examine, ad_age_s: int) -> None:
    site.daemons = [schedd(sent_s=NOW - ad_age_s)]
    assert examine(0) == {}


def test_a_token_from_the_future(examine: Examine) -> None:
    write_token(iss=POOL, iat=NOW + 3600)
    problem = examine(1)["token"]
    assert "in the future" in problem["message"]
    assert "timedatectl" in problem["advice"]


def test_a_token_of_another_pool(examine: Examine) -> None:
    write_token(iss="other", iat=NOW - 60)
    assert "The token is of pool other, not of galaxy" in examine(1)["token"]["message"]


def test_no_token_an_expired_one_and_something_else(examine: Examine) -> None:
    file = write_token(iss=POOL, exp=NOW - 1)
    assert "expired" in examine(1)["token"]["message"]
    file.write_text("something else")
    assert "is not a token" in examine(1)["token"]["message"]
    file.unlink()
    problem = examine(1, "--client")["token"]
    assert "There is no token" in problem["message"]
    assert "pool up" in problem["advice"]


def test_a_pool_that_does_not_exist(site: Site, examine: Examine) -> None:
    site.swarm.names = []
    assert "does not exist" in examine(0)["services"]["message"]


def test_a_half_removed_pool(site: Site, examine: Examine) -> None:
    del site.swarm.names[1:]
    problem = examine(1)["services"]
    assert "galaxy_htcondor-executor" in problem["message"]
    assert "pool up" in problem["advice"]


def test_only_a_secret_is_left_of_a_pool(site: Site, examine: Examine) -> None:
    site.swarm.names = []
    site.swarm.create_secret("galaxy_signing-key", b"x", {"swarm-runner.pool": POOL})
    problem = examine(1)["services"]
    assert "galaxy_signing-key remain" in problem["message"]
    assert "pool down" in problem["advice"]


def test_the_pool_does_not_answer(site: Site, examine: Examine) -> None:
    site.daemons = UnreachableError("Nothing answers at 127.0.0.1:9618")
    problem = examine(3)["schedd"]
    assert "Nothing answers at 127.0.0.1:9618" in problem["message"]
    assert "pool status" in problem["advice"]


def test_the_schedd_is_not_advertised(site: Site, examine: Examine) -> None:
    site.daemons = [Daemon(kind="Collector", name="galaxy", sent_s=NOW)]
    assert "No schedd" in examine(1)["schedd"]["message"]


def test_versions_that_do_not_fit(
    site: Site, examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.daemons = [schedd("23.0.1")]
    assert "HTCondor of the pool is 23.0.1" in examine(1)["versions"]["message"]
    site.daemons = [schedd("26.1.0")]
    problem = examine(0)["versions"]
    assert problem["message"] == (
        "HTCondor of the pool is 26.1.0, and swarm-runner was tried with 25"
    )
    versions = {"htcondor": "25.14.1", "swarm-runner-simulation": "0.0.9"}
    monkeypatch.setattr(doctor, "_version", versions.get)
    site.daemons = [schedd()]
    assert "swarm-runner-simulation is 0.0.9" in examine(1)["versions"]["message"]


def test_the_configuration_is_invalid(examine: Examine, job_conf: Path) -> None:
    job_conf.write_text("runners: {swarm: {pool: {nam: x}}}\n")
    problem = examine(2)["configuration"]
    assert "did you mean name?" in problem["message"]


def test_a_client_needs_no_engine(site: Site, examine: Examine) -> None:
    site.engine = UnreachableError("the Docker engine does not answer")
    assert examine(0, "--client") == {}
    assert list(examine(3)) == ["engine"]


def test_the_swarm_stops_answering(site: Site, examine: Examine) -> None:
    site.swarm.has_leader = False
    assert "no leader" in examine(3)["services"]["message"]


def test_a_default_route_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "route"
    monkeypatch.setattr(doctor, "_ROUTES", file)
    assert has_route() is None
    head = "Iface\tDestination\tGateway\n"
    file.write_text(f"{head}eth0\t0011A8C0\t00000000\n")
    assert has_route() is False
    file.write_text(f"{head}eth0\t00000000\t0111A8C0\n")
    assert has_route() is True
