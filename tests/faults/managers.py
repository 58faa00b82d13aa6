"""Faults of the node whose manager has the queue, in a pool with three managers, on the hosts.

The executors are on the two other hosts: what is lost with the node is the queue, not its jobs.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import docker

from swarm_runner.condor.ports import JobQuery
from swarm_runner.errors import SwarmRunnerError
from swarm_runner.model.pool import Destination, Pool
from swarm_runner.swarm.client import DockerSwarm
from tests.chaos.storm import set_availability
from tests.faults.executors import VOLUME_STALL_S, mounted_volume
from tests.faults.fault import PoolFault
from tests.faults.hosts import lab_command
from tests.faults.load import Load
from tests.faults.pool import NAME, PORT, FaultPool, provisioner
from tests.lab.hosts.commands import run
from tests.lab.hosts.images import pool_image
from tests.lab.hosts.layout import SHARED, node, nodes
from tests.lab.pool import STATE_DIRECTORY
from tests.polling import poll_until
from tests.unit.swarm.image import load_program

POOL_NAME = f"{NAME}-managers"
# The queue has a file system of its own, which can be frozen.
SPOOL_VOLUME, JOBS = STATE_DIRECTORY / POOL_NAME / "volume", SHARED / f"{POOL_NAME}-jobs"
SPOOL = SPOOL_VOLUME / "queue"
# The managers of the others take the queue; the executors are there, too.
HOST, OTHER_HOSTS = "swarm-1", ("swarm-2", "swarm-3")
# HTCondor gives each job 128 MB of its slot: two of these executors fit on a host of 23 GB.
EXECUTORS, SLOTS_OF_EXECUTOR = 4, 80
FREEZE_S = 45
RETURN_S = 15
QUEUE_TIMEOUT_S = 180.0
SAMPLE_INTERVAL_S = 0.1
_AS_ROOT = () if os.geteuid() == 0 else ("sudo", "-n", "--")
queue_lock = load_program("queue_lock")


@contextlib.contextmanager
def managers_pool() -> Iterator[FaultPool]:
    """Bring the lab up with three Swarm managers, and a new pool with a manager on each host."""
    with mounted_volume(SPOOL_VOLUME):
        SPOOL.mkdir()
        # Hosts that run already have not seen the volume.
        lab_command("down")
        lab_command("up", "--managers", "3")
        shutil.rmtree(JOBS, ignore_errors=True)
        JOBS.mkdir()
        yield from _pool()


def _pool() -> Iterator[FaultPool]:
    executors = {
        "cpus": SLOTS_OF_EXECUTOR,
        "memory_mb": 128 * SLOTS_OF_EXECUTOR,
        "replicas": EXECUTORS,
        "max_replicas": EXECUTORS,
        "constraints": [f"node.hostname != {HOST}"],
    }
    pool = Pool.model_validate(
        {
            "name": POOL_NAME,
            "image": pool_image(),
            "managers": 3,
            "hosts": [host.address for host in nodes()],
            "port": PORT,
            "spool": str(SPOOL),
            "volumes": [str(JOBS)],
            "classes": {"normal": executors},
        }
    )
    state = STATE_DIRECTORY / pool.name
    destination = Destination(pool=pool, token_directory=str(state / "tokens.d"))
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(
                contextlib.closing(docker.DockerClient(node(name).docker_host, timeout=60))
            )
            for name in OTHER_HOSTS
        ]
        manager = stack.enter_context(provisioner(destination, clients[0]))
        manager.down(force=True)
        stack.callback(manager.down, force=True)
        stack.callback(lab_command, "up", "--managers", "3")
        manager.up()
        found = FaultPool(destination, manager, clients, JOBS, EXECUTORS)
        bring_queue_home(found)
        yield found


def bring_queue_home(pool: FaultPool) -> None:
    """Let the manager of HOST have the queue, and the others wait for it."""
    swarm = DockerSwarm(pool.clients[0])
    home, *others = pool.destination.pool.manager_services
    if _service_of_holder() != home:
        for service in others:
            swarm.scale_service(service, 0)
        poll_until(_service_of_holder, lambda service: service == home)
        for service in others:
            swarm.scale_service(service, 1)
    poll_until(
        lambda: queue_lock.status(SPOOL),
        lambda state: state["holder"] and len(state["standbys"]) == len(others),
    )


def _prepare(pool: FaultPool, _load: Load) -> None:
    lab_command("up", "--managers", "3")  # a host that was lost is there again
    bring_queue_home(pool)


def _service_of_holder() -> str:
    holder = queue_lock.status(SPOOL)["holder"]
    return str(holder["service"]) if holder else ""


@dataclass(frozen=True, slots=True)
class Holding:
    """A term of the queue: its number, who has it, and when it was first seen (of the epoch)."""

    term: int
    task: str
    node: str
    seen_at: float


@dataclass
class SpoolWatch:
    """Watches who has the queue, and what is written to each file that was the queue.

    A manager that takes the queue copies it into a new file; this keeps the earlier ones open, as
    the schedd of an earlier holder does, and so sees whether that still writes.
    """

    holdings: list[Holding] = field(default_factory=list)
    _files: dict[int, tuple[int, int]] = field(default_factory=dict)  # inode: term, descriptor
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def watching(self) -> Iterator[SpoolWatch]:
        """Take samples during the block."""
        self._sample()
        sampler = threading.Thread(target=self._run, daemon=True)
        sampler.start()
        try:
            yield self
        finally:
            self._stop.set()
            sampler.join()

    def term(self) -> int:
        """Return the latest term."""
        return self.holdings[-1].term if self.holdings else 0

    def check(self) -> str:
        """Return what was seen. Raises AssertionError if two managers wrote in turns."""
        terms = [holding.term for holding in self.holdings]
        if terms != sorted(set(terms)):
            raise AssertionError(f"two managers had the queue: {self.holdings}")
        begins = {holding.term: holding.seen_at for holding in self.holdings}
        silences: list[float] = []
        for term, file in self._files.values():
            ended_at = begins.get(term + 1)
            written_at = os.fstat(file).st_mtime
            if ended_at is not None:
                silences.append(ended_at - written_at)
            os.close(file)
        if silences and min(silences) < 0:
            raise AssertionError(
                f"the queue of an earlier holder was written {-min(silences):.1f} s after the next "
                f"one had it: {self.holdings}"
            )
        first, last = self.holdings[0], self.holdings[-1]
        if not silences:
            return f"{last.node} has kept it"
        return (
            f"from {first.node} (term {first.term}) to {last.node} (term {last.term}), the earlier "
            f"file last written {min(silences):.0f} s before"
        )

    def _run(self) -> None:
        while not self._stop.wait(SAMPLE_INTERVAL_S):
            self._sample()

    def _sample(self) -> None:
        term, record = _latest()
        if not record.get("task"):
            return  # it is being written
        holding = Holding(term, record["task"], record["node"], time.time())
        known = self.holdings[-1:]
        if [(each.term, each.task) for each in known] != [(term, record["task"])]:
            self.holdings.append(holding)
        with contextlib.suppress(FileNotFoundError):
            file = os.open(SPOOL / "job_queue.log", os.O_RDONLY)
            inode = os.fstat(file).st_ino
            # A new holder gives the file another inode just after its term has begun.
            if inode in self._files or _latest()[0] != term:
                os.close(file)
            else:
                self._files[inode] = (term, file)


def _latest() -> tuple[int, dict[str, Any]]:
    """Return the latest term, and what its holder wrote."""
    prefix = queue_lock.TERM_PREFIX
    terms = [int(path.name.removeprefix(prefix)) for path in SPOOL.glob(f"{prefix}*")]
    term = max(terms, default=0)
    return term, queue_lock._read(SPOOL / f"{prefix}{term}")


def _break(
    do: Callable[[FaultPool], float],
    undo: Callable[[FaultPool], None] | None,
    pool: FaultPool,
    load: Load,
) -> str:
    """Do something, wait until the queue answers again, and say what was seen of the spool.

    `do` returns from when on another manager may have the queue (of the monotonic clock).
    """
    watch = SpoolWatch()
    with watch.watching():
        before = watch.term()
        began = do(pool)
        poll_until(watch.term, lambda term: term > before, timeout_s=QUEUE_TIMEOUT_S)
        taken_s = time.monotonic() - began
        # The same call of an engine, whatever manager answers.
        poll_until(
            lambda: load.access_point.jobs(JobQuery(runner_name=load.name), ("ClusterId",)) or True,
            timeout_s=QUEUE_TIMEOUT_S,
            retry_on=(SwarmRunnerError,),
        )
        answers_s = time.monotonic() - began
        if undo is not None:
            undo(pool)
            # If the earlier holder writes at all, then now.
            time.sleep(RETURN_S)
    return (
        f"another manager had the queue after {taken_s:.0f} s, and it answered after "
        f"{answers_s:.0f} s; {watch.check()}"
    )


def _lose(_pool: FaultPool) -> float:
    lab_command("kill", HOST)
    return time.monotonic()


def _partition(_pool: FaultPool) -> float:
    lab_command("partition", HOST)
    return time.monotonic()


def _reconnect(_pool: FaultPool) -> None:
    lab_command("heal", HOST)


def _drain(pool: FaultPool) -> float:
    began = time.monotonic()
    set_availability(pool.clients[0], HOST, "drain")
    return began


def _activate(pool: FaultPool) -> None:
    set_availability(pool.clients[0], HOST, "active")


def _freeze(_pool: FaultPool) -> float:
    """Stop the engine and every container of the host for a time, and let them go on."""
    with contextlib.closing(docker.DockerClient(node(HOST).docker_host, timeout=60)) as client:
        containers = client.containers.list()
        for container in containers:
            container.pause()
        try:
            lab_command("freeze", HOST)
            before, _ = _latest()
            time.sleep(FREEZE_S)
            after, _ = _latest()
        finally:
            lab_command("heal", HOST)
            for container in containers:
                container.unpause()
    if after != before:
        raise AssertionError(f"term {after} began while the manager of term {before} was frozen")
    return time.monotonic()


def _stall_volume(_pool: FaultPool) -> float:
    """Block every write to the volume of the queue for a time, as a file server that hangs."""
    run(*_AS_ROOT, "fsfreeze", "--freeze", str(SPOOL_VOLUME))
    try:
        time.sleep(VOLUME_STALL_S)
    finally:
        run(*_AS_ROOT, "fsfreeze", "--unfreeze", str(SPOOL_VOLUME))
    return time.monotonic()


def _fault(
    name: str,
    done: str,
    do: Callable[[FaultPool], float],
    undo: Callable[[FaultPool], None] | None = None,
    *,
    loses_ends: bool = False,
) -> PoolFault:
    inject = partial(_break, do, undo)
    return PoolFault(name, done, inject, prepare=_prepare, loses_ends=loses_ends)


FAULTS = (
    _fault(
        "manager's node lost for good",
        f"three managers; SIGKILL to all processes of {HOST}, which does not come back",
        _lose,
        # Its shadows end with it, some after the end of a job and before the queue has it.
        loses_ends=True,
    ),
    _fault(
        "manager's node drained",
        f"{HOST}, which has the queue, is drained",
        _drain,
        _activate,
    ),
    _fault(
        "manager's node frozen",
        f"its engine and its manager stopped for {FREEZE_S} s; the remark counts from then on",
        _freeze,
    ),
    _fault(
        "volume of the queue away",
        f"every write to it blocks for {VOLUME_STALL_S} s; the remark counts from then on",
        _stall_volume,
    ),
    _fault(
        "manager's node cut off",
        f"{HOST} loses all packets, and still writes to the spool",
        _partition,
        _reconnect,
    ),
)
