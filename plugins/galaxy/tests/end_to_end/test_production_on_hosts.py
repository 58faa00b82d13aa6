"""docs/how-to/galaxy-in-production.md on the three-host lab: its job_conf, a handler on each of two
hosts, and what is lost with a process and with a host.

The database is a socket that both handlers see, in place of a server's address.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import docker
import psycopg2
import pytest
import yaml

from end_to_end.conftest import SMALL_JOB, build_job_conf
from end_to_end.production import HANDLERS, JOBS, Batch, Production
from end_to_end.server import SystemUser
from end_to_end.shell_tool import DEBIAN, ShellTool
from tests.lab.hosts.images import pool_image
from tests.lab.hosts.layout import SHARED, node
from tests.lab.hosts.network import NAMESPACES
from tests.lab.pool import LabPool, lab_pool
from tests.polling import poll_until

REPOSITORY = Path(__file__).parents[4]
DOCUMENT = REPOSITORY / "docs/how-to/galaxy-in-production.md"
PORT = 9764
# The queue is on the first host, and Galaxy's volume on all.
QUEUE_HOST, EXECUTOR_HOST = "swarm-1", "swarm-3"
HANDLER_HOSTS = dict(zip(HANDLERS, ("swarm-1", "swarm-2"), strict=True))
# What the document's names stand for here.
NAMES = {"galaxy.example.org": node(QUEUE_HOST).address, "/srv/galaxy": str(SHARED / "galaxy")}
LEASE_S = 60


def lab_command(*arguments: str) -> None:
    """Run a command of the lab, with this machine's own engine."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("DOCKER_")}
    command = [str(REPOSITORY / ".venv/bin/python"), "-m", "tests.lab.hosts", *arguments]
    subprocess.run(command, check=True, env=environment, cwd=REPOSITORY)


def documented_job_conf() -> dict[str, Any]:
    """Return the document's job configuration."""
    text = DOCUMENT.read_text()
    (block,) = re.findall(r"^```yaml\n(handling:\n.*?)^```$", text, re.M | re.DOTALL)
    for name, value in NAMES.items():
        block = block.replace(name, value)
    conf: dict[str, Any] = yaml.safe_load(block)
    return conf


def job_conf(pool: LabPool, user: SystemUser) -> dict[str, Any]:
    """Return the document's configuration, with what the lab and the tests' uploads need."""
    conf, documented = build_job_conf(pool, user), documented_job_conf()
    section = documented["runners"]["swarm"]
    section["pool"] |= {
        key: value
        for key, value in conf["runners"]["swarm"]["pool"].items()
        if key in ("image", "port", "user", "classes")
    }
    section |= {"token_directory": conf["runners"]["swarm"]["token_directory"], "lease_s": LEASE_S}
    documented["execution"]["environments"]["swarm"] |= SMALL_JOB
    documented["runners"]["local"] = conf["runners"]["local"]
    documented["execution"]["environments"]["local"] = conf["execution"]["environments"]["local"]
    return {**documented, "tools": conf["tools"]}


def on_host(name: str) -> list[str]:
    """Return a command that starts another on a host: in its network, with its name."""
    start = 'hostname "$1"; shift; exec "$@"'
    return [
        *("nsenter", f"--net={NAMESPACES / node(name).namespace}"),
        *("unshare", "--uts", "sh", "-c", start, "sh", name),
    ]


@pytest.fixture(scope="module")
def production() -> Iterator[Production]:
    lab_command("up")
    user = SystemUser.for_tests()
    documented = documented_job_conf()["runners"]["swarm"]["pool"]
    settings = documented | {
        "image": pool_image(),
        "user": {"name": user.name, "uid": user.uid, "gid": user.gid},
        "classes": {"normal": {"cpus": 8, "memory_mb": 1024, "replicas": 3}},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_HOST", node(QUEUE_HOST).docker_host)
        volume = SHARED / "galaxy"
        with (
            lab_pool(documented["name"], PORT, settings, volume=volume) as pool,
            Production.running_on(
                pool,
                user,
                [ShellTool("shell", image=DEBIAN)],
                job_conf,
                {handler: on_host(host) for handler, host in HANDLER_HOSTS.items()},
            ) as running,
        ):
            yield running


def test_the_handlers_are_on_two_hosts(production: Production) -> None:
    with closing(psycopg2.connect(production.database.url)) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT server_name, hostname FROM swarm_runner_handler")
        assert dict(cursor.fetchall()) == HANDLER_HOSTS
    batch = Batch(production, "hosts")
    batch.check()
    assert set(production.database.jobs_by_handler()) == set(HANDLERS)


def test_a_handler_is_killed(production: Production) -> None:
    batch = Batch(production, "handler")
    batch.wait_for_starts(JOBS // 4)
    production.galaxy.kill_handler(HANDLERS[1])
    production.galaxy.start_handler(HANDLERS[1])
    batch.check()


def test_galaxys_host_is_lost(production: Production) -> None:
    """Both handlers go on upon another host, with the same database and directories."""
    batch = Batch(production, "galaxy-host")
    batch.wait_for_starts(JOBS // 4)
    for name in HANDLERS:
        production.galaxy.kill_handler(name)
    production.galaxy.handler_prefixes = dict.fromkeys(HANDLERS, on_host("swarm-2"))
    for name in HANDLERS:
        production.galaxy.start_handler(name)
    batch.check()


def test_a_node_with_executors_is_lost(production: Production) -> None:
    batch = Batch(production, "node")
    batch.wait_for_starts(JOBS // 4)
    lab_command("kill", EXECUTOR_HOST)
    batch.check(max_starts=2)
    lab_command("up")


def test_the_managers_node_is_away(production: Production) -> None:
    """The queue waits for it, and so do the jobs that have not started."""
    batch = Batch(production, "manager")
    batch.wait_for_starts(JOBS // 4)
    lab_command("kill", QUEUE_HOST)
    lab_command("up")
    with closing(docker.DockerClient(node(QUEUE_HOST).docker_host)) as client:
        poll_until(lambda: all(n.attrs["Status"]["State"] == "ready" for n in client.nodes.list()))
    batch.check(max_starts=2)
