"""Faults of Swarm hosts, on the three-host lab."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial

import docker
import docker.errors

from swarm_runner.model.pool import Destination, Pool
from tests.faults.fault import PoolFault
from tests.faults.load import IMAGE, Load
from tests.faults.pool import NAME, PORT, FaultPool, classes, provisioner
from tests.lab.hosts.images import pool_image
from tests.lab.hosts.layout import SHARED, node, nodes
from tests.lab.pool import STATE_DIRECTORY
from tests.polling import poll_until

EXECUTORS = 6
SHORT_LEASE_S = 60
OUTAGE_S = 30
LONGER_THAN_A_LEASE_S = 100
DISK_FULL_S = 30
# The manager and its spool are on the first host.
MANAGERS_HOST, OTHER_HOST, LAST_HOST = "swarm-1", "swarm-2", "swarm-3"
# Grows until the kernel ends it.
_GREEDY = "x=$(head -c 20000000000 /dev/zero | tr '\\0' a)"


def lab_command(*arguments: str) -> None:
    """Run a command of the lab, which becomes root."""
    subprocess.run([sys.executable, "-m", "tests.lab.hosts", *arguments], check=True)


@contextlib.contextmanager
def hosts_pool() -> Iterator[FaultPool]:
    """Bring the lab up with three Swarm managers, and a new pool on it."""
    lab_command("up", "--managers", "3")
    normal = classes()["normal"] | {"replicas": EXECUTORS, "max_replicas": EXECUTORS}
    pool = Pool.model_validate(
        {
            "name": f"{NAME}-hosts",
            "image": pool_image(),
            "host": node(MANAGERS_HOST).address,
            "port": PORT,
            "volumes": [str(SHARED)],
            "classes": {"normal": normal},
        }
    )
    state = STATE_DIRECTORY / pool.name
    destination = Destination(pool=pool, token_directory=str(state / "tokens.d"))
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(
                contextlib.closing(docker.DockerClient(each.docker_host, timeout=60))
            )
            for each in nodes()
        ]
        manager = stack.enter_context(provisioner(destination, clients[0]))
        manager.down(force=True)
        stack.callback(manager.down, force=True)
        manager.up()
        yield FaultPool(destination, manager, clients, SHARED, EXECUTORS)


def _break(command: str, host: str, seconds: float, _pool: FaultPool, _load: Load) -> None:
    """Do something to a host for a time, and undo it."""
    lab_command(command, host)
    try:
        time.sleep(seconds)
    finally:
        lab_command("heal", host)


def _lose_leader(pool: FaultPool, _load: Load) -> str:
    before = _leader(pool)
    lab_command("freeze", before)
    try:
        time.sleep(OUTAGE_S)
        # The engine of the leader does not answer.
        [other, *_] = [
            c for c, each in zip(pool.clients, nodes(), strict=True) if each.name != before
        ]
        # On a busy machine, an election may take longer.
        after = poll_until(
            lambda: _leader(pool, other),
            lambda name: name != before,
            retry_on=(docker.errors.APIError, ValueError),
        )
    finally:
        lab_command("heal", before)
    return f"{after} led in place of {before}"


def _leader(pool: FaultPool, client: docker.DockerClient | None = None) -> str:
    """Return the name of the host that leads the Swarm. Raises ValueError if none does."""
    [name] = [
        found.attrs["Description"]["Hostname"]
        for found in (client or pool.clients[0]).nodes.list()
        if found.attrs.get("ManagerStatus", {}).get("Leader")
    ]
    return str(name)


def _lose_quorum(pool: FaultPool, _load: Load) -> str:
    lab_command("freeze", OTHER_HOST)
    lab_command("freeze", LAST_HOST)
    try:
        time.sleep(OUTAGE_S)
        try:
            pool.clients[0].services.list()
        except docker.errors.APIError as error:
            message = str(error.explanation)
        else:
            raise AssertionError("the Swarm has a quorum")
    finally:
        lab_command("heal", OTHER_HOST)
        lab_command("heal", LAST_HOST)
    return f"Swarm: “{message[:60]}…”"


def _restart_engine(_pool: FaultPool, _load: Load) -> str:
    lab_command("kill", OTHER_HOST)
    lab_command("start", OTHER_HOST)
    return "two of six executors"


def _exhaust_memory(pool: FaultPool, _load: Load) -> str:
    client = pool.clients[int(LAST_HOST[-1]) - 1]
    lab_command("limit-memory", LAST_HOST)
    try:
        container = client.containers.run(IMAGE, ["sh", "-c", _GREEDY], detach=True)
        code = container.wait(timeout=60)["StatusCode"]
        container.remove(force=True)
        time.sleep(OUTAGE_S)
    finally:
        lab_command("heal", LAST_HOST)
    return f"a container outside of the pool took all of it, and ended with {code}"


FAULTS = (
    PoolFault(
        "partition shorter than the lease",
        f"{LAST_HOST} loses all packets for {OUTAGE_S} s; lease 300 s",
        partial(_break, "partition", LAST_HOST, OUTAGE_S),
    ),
    PoolFault("Swarm leader lost", f"its engine stopped for {OUTAGE_S} s", _lose_leader),
    PoolFault(
        "Swarm quorum lost",
        f"the engines of {OTHER_HOST} and {LAST_HOST} stopped for {OUTAGE_S} s",
        _lose_quorum,
    ),
    PoolFault(
        "disk of a node full",
        f"that of {LAST_HOST}, for {DISK_FULL_S} s",
        partial(_break, "fill", LAST_HOST, DISK_FULL_S),
    ),
    PoolFault(
        "disk of the spool full",
        f"that of {MANAGERS_HOST}, for {DISK_FULL_S} s",
        partial(_break, "fill", MANAGERS_HOST, DISK_FULL_S),
        evicts=True,
    ),
    PoolFault("node out of memory", f"{LAST_HOST}, for {OUTAGE_S} s", _exhaust_memory),
    PoolFault(
        "node out of processes",
        f"{LAST_HOST} starts no process for {OUTAGE_S} s",
        partial(_break, "limit-processes", LAST_HOST, OUTAGE_S),
    ),
    PoolFault(
        "engine restarted under load",
        f"SIGKILL to all processes of {OTHER_HOST}, and a new start; lease 60 s",
        _restart_engine,
        lease_s=SHORT_LEASE_S,
        kills=True,
    ),
    PoolFault(
        "partition longer than the lease",
        f"{LAST_HOST} loses all packets for {LONGER_THAN_A_LEASE_S} s; lease 60 s",
        partial(_break, "partition", LAST_HOST, LONGER_THAN_A_LEASE_S),
        lease_s=SHORT_LEASE_S,
        kills=True,
    ),
)
