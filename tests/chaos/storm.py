"""What befalls the pool while jobs run: one thread each, and none of them knows of the jobs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from random import Random

import docker
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_fixed

from swarm_runner.errors import RefusedError
from swarm_runner.model.pool import Pool
from swarm_runner.provisioner import Provisioner
from swarm_runner.swarm.engine import DockerSwarm

CALL_LIMIT_S = 60
UPGRADE_LIMIT_S = 900.0
DRAINED = "swarm-3"
# The executors of both classes leave the Swarm room for one more while they are replaced.
MOST = {"normal": 8, "big": 3}


@dataclass(frozen=True, slots=True)
class Storm:
    """What is to happen. `pause_s` lies between two scalings."""

    docker_host: str
    pool: Pool
    provisioner: Callable[[docker.DockerClient, Pool], Provisioner]
    seed: int
    scalings: int
    pause_s: float
    progress: Callable[[str], None]

    @contextmanager
    def blowing(self) -> Iterator[list[Future[None]]]:
        """All of it, beside what the caller does; over when the block is left."""
        over = threading.Event()
        with ThreadPoolExecutor(3) as threads:
            steps = (self._scale, self._upgrade, self._drain)
            futures = [threads.submit(step, over) for step in steps]
            try:
                yield futures
            except BaseException:
                over.set()
                raise
            for future in futures:
                future.result()

    @property
    def length_s(self) -> float:
        """How long the scaling goes on, at least."""
        return self.scalings * self.pause_s

    def _scale(self, over: threading.Event) -> None:
        random = Random(self.seed)  # noqa: S311
        with self._engine() as engine:
            swarm = DockerSwarm(engine)
            for number in range(1, self.scalings + 1):
                name = random.choice(list(MOST))
                # One executor stays: the jobs are to end, too.
                count = random.randint(1, MOST[name])
                self.progress(f"scaling {number} of {self.scalings}: {name}={count}")
                _until_taken(partial(swarm.scale_service, self.pool.service(name), count))
                if over.wait(self.pause_s):
                    return
            # What is left need not wait for the luck of the last draw.
            for name, count in MOST.items():
                _until_taken(partial(swarm.scale_service, self.pool.service(name), count))

    def _upgrade(self, over: threading.Event) -> None:
        if over.wait(self.length_s * 0.2):
            return
        classes = {
            name: shape.model_copy(update={"retirement_s": 3600})
            for name, shape in self.pool.classes.items()
        }
        pool = self.pool.model_copy(update={"classes": classes})
        with self._engine() as engine:
            self.progress("upgrading the pool, one executor after another")
            began = time.monotonic()
            self.provisioner(engine, pool).upgrade(limit_s=UPGRADE_LIMIT_S)
            self.progress(f"the upgrade took {time.monotonic() - began:.0f} s")

    def _drain(self, over: threading.Event) -> None:
        if over.wait(self.length_s * 0.5):
            return
        with self._engine() as engine:
            try:
                self._make(engine, "drain")
                over.wait(self.length_s * 0.25)
            finally:
                self._make(engine, "active")

    def _make(self, engine: docker.DockerClient, availability: str) -> None:
        self.progress(f"{DRAINED} is made {availability}")
        make_available(engine, DRAINED, availability)

    @contextmanager
    def _engine(self) -> Iterator[docker.DockerClient]:
        # docker-py's client is not for several threads at once.
        with closing(docker.DockerClient(self.docker_host, timeout=CALL_LIMIT_S)) as engine:
            yield engine


def make_available(engine: docker.DockerClient, host: str, availability: str) -> None:
    """What `docker node update --availability` does."""
    [node] = (n for n in engine.nodes.list() if n.attrs["Description"]["Hostname"] == host)
    node.update({**node.attrs["Spec"], "Availability": availability})


def _until_taken(step: Callable[[], object]) -> None:
    """An upgrade may change the service between our look and our update; then look again."""
    Retrying(
        retry=retry_if_exception_type(RefusedError),
        stop=stop_after_attempt(10),
        wait=wait_fixed(0.3),
        reraise=True,
    )(step)
