"""Changes to a pool while jobs run, each in its own thread and without regard for the jobs."""

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

from swarm_runner.errors import ConflictError
from swarm_runner.model.pool import Pool
from swarm_runner.provisioner import Provisioner
from swarm_runner.swarm.client import DockerSwarm

CALL_TIMEOUT_S = 60
UPGRADE_TIMEOUT_S = 900.0
DRAINED_HOST = "swarm-3"
# The hosts have enough memory for these executors and one more, which an upgrade needs.
MAX_REPLICAS = {"normal": 8, "big": 3}


@dataclass(frozen=True, slots=True)
class Storm:
    """Scalings with pauses of `pause_s` between them, an upgrade and a drain."""

    docker_host: str
    pool: Pool
    provisioner: Callable[[docker.DockerClient, Pool], Provisioner]
    seed: int
    scalings: int
    pause_s: float
    progress: Callable[[str], None]

    @contextmanager
    def running(self) -> Iterator[list[Future[None]]]:
        """Run the storm beside the block, and wait for its end.

        An exception in the block stops the storm.
        """
        stop = threading.Event()
        with ThreadPoolExecutor(3) as threads:
            steps = (self._scale, self._upgrade, self._drain)
            futures = [threads.submit(step, stop) for step in steps]
            try:
                yield futures
            except BaseException:
                stop.set()
                raise
            for future in futures:
                future.result()

    @property
    def duration_s(self) -> float:
        """The minimum duration of the scalings."""
        return self.scalings * self.pause_s

    def _scale(self, stop: threading.Event) -> None:
        random = Random(self.seed)  # noqa: S311
        with self._client() as client:
            swarm = DockerSwarm(client)
            for number in range(1, self.scalings + 1):
                name = random.choice(list(MAX_REPLICAS))
                # One executor remains, so that the jobs finish.
                count = random.randint(1, MAX_REPLICAS[name])
                self.progress(f"scaling {number} of {self.scalings}: {name}={count}")
                _retry_on_conflict(partial(swarm.scale_service, self.pool.service(name), count))
                if stop.wait(self.pause_s):
                    return
            # The remaining jobs run on all executors.
            for name, count in MAX_REPLICAS.items():
                _retry_on_conflict(partial(swarm.scale_service, self.pool.service(name), count))

    def _upgrade(self, stop: threading.Event) -> None:
        if stop.wait(self.duration_s * 0.2):
            return
        classes = {
            name: capacity_class.model_copy(update={"retirement_s": 3600})
            for name, capacity_class in self.pool.classes.items()
        }
        pool = self.pool.model_copy(update={"classes": classes})
        with self._client() as client:
            self.progress("upgrading the pool, one executor after another")
            started_at = time.monotonic()
            self.provisioner(client, pool).upgrade(timeout_s=UPGRADE_TIMEOUT_S)
            self.progress(f"the upgrade took {time.monotonic() - started_at:.0f} s")

    def _drain(self, stop: threading.Event) -> None:
        if stop.wait(self.duration_s * 0.5):
            return
        with self._client() as client:
            try:
                self._set_availability(client, "drain")
                stop.wait(self.duration_s * 0.25)
            finally:
                self._set_availability(client, "active")

    def _set_availability(self, client: docker.DockerClient, availability: str) -> None:
        self.progress(f"setting the availability of {DRAINED_HOST} to {availability}")
        set_availability(client, DRAINED_HOST, availability)

    @contextmanager
    def _client(self) -> Iterator[docker.DockerClient]:
        # docker-py's client is not thread-safe.
        with closing(docker.DockerClient(self.docker_host, timeout=CALL_TIMEOUT_S)) as client:
            yield client


def set_availability(client: docker.DockerClient, host: str, availability: str) -> None:
    """Do what `docker node update --availability` does."""
    [node] = (n for n in client.nodes.list() if n.attrs["Description"]["Hostname"] == host)
    node.update({**node.attrs["Spec"], "Availability": availability})


def _retry_on_conflict(step: Callable[[], object]) -> None:
    """Repeat a step if an upgrade changed the service between its read and its write."""
    Retrying(
        retry=retry_if_exception_type(ConflictError),
        stop=stop_after_attempt(10),
        wait=wait_fixed(0.3),
        reraise=True,
    )(step)
