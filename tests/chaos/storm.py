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

from swarm_runner.errors import PreconditionError
from swarm_runner.model.pool import Pool
from swarm_runner.provisioner import Provisioner
from swarm_runner.swarm.client import DockerSwarm

CALL_TIMEOUT_S = 60
UPGRADE_TIMEOUT_S = 900.0
DRAINED_HOST = "swarm-3"
# The executors of both classes leave the Swarm room for one more while they are replaced.
MAX_REPLICAS = {"normal": 8, "big": 3}


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
    def running(self) -> Iterator[list[Future[None]]]:
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
    def duration_s(self) -> float:
        """How long the scaling goes on, at least."""
        return self.scalings * self.pause_s

    def _scale(self, stop: threading.Event) -> None:
        random = Random(self.seed)  # noqa: S311
        with self._client() as engine:
            swarm = DockerSwarm(engine)
            for number in range(1, self.scalings + 1):
                name = random.choice(list(MAX_REPLICAS))
                # One executor stays: the jobs are to end, too.
                count = random.randint(1, MAX_REPLICAS[name])
                self.progress(f"scaling {number} of {self.scalings}: {name}={count}")
                _retry_while_refused(partial(swarm.scale_service, self.pool.service(name), count))
                if stop.wait(self.pause_s):
                    return
            # What is left need not wait for the luck of the last draw.
            for name, count in MAX_REPLICAS.items():
                _retry_while_refused(partial(swarm.scale_service, self.pool.service(name), count))

    def _upgrade(self, stop: threading.Event) -> None:
        if stop.wait(self.duration_s * 0.2):
            return
        classes = {
            name: shape.model_copy(update={"retirement_s": 3600})
            for name, shape in self.pool.classes.items()
        }
        pool = self.pool.model_copy(update={"classes": classes})
        with self._client() as engine:
            self.progress("upgrading the pool, one executor after another")
            began = time.monotonic()
            self.provisioner(engine, pool).upgrade(timeout_s=UPGRADE_TIMEOUT_S)
            self.progress(f"the upgrade took {time.monotonic() - began:.0f} s")

    def _drain(self, stop: threading.Event) -> None:
        if stop.wait(self.duration_s * 0.5):
            return
        with self._client() as engine:
            try:
                self._set_availability(engine, "drain")
                stop.wait(self.duration_s * 0.25)
            finally:
                self._set_availability(engine, "active")

    def _set_availability(self, client: docker.DockerClient, availability: str) -> None:
        self.progress(f"{DRAINED_HOST} is made {availability}")
        set_availability(client, DRAINED_HOST, availability)

    @contextmanager
    def _client(self) -> Iterator[docker.DockerClient]:
        # docker-py's client is not for several threads at once.
        with closing(docker.DockerClient(self.docker_host, timeout=CALL_TIMEOUT_S)) as engine:
            yield engine


def set_availability(client: docker.DockerClient, host: str, availability: str) -> None:
    """What `docker node update --availability` does."""
    [node] = (n for n in client.nodes.list() if n.attrs["Description"]["Hostname"] == host)
    node.update({**node.attrs["Spec"], "Availability": availability})


def _retry_while_refused(step: Callable[[], object]) -> None:
    """An upgrade may change the service between our look and our update; then look again."""
    Retrying(
        retry=retry_if_exception_type(PreconditionError),
        stop=stop_after_attempt(10),
        wait=wait_fixed(0.3),
        reraise=True,
    )(step)
