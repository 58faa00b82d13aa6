"""Bring up, scale, look at and take down a pool: observe, decide, act.

Keeps nothing of its own: Swarm's service specs and HTCondor's ads are the state.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

from tenacity import (
    RetryError,
    Retrying,
    retry_base,
    retry_if_exception_type,
    retry_if_result,
    stop_after_delay,
    stop_never,
    wait_fixed,
)

from swarm_runner.condor.view import PoolView
from swarm_runner.errors import (
    Fault,
    InvalidInputError,
    OutOfReachError,
    RefusedError,
)
from swarm_runner.model.pool import Pool
from swarm_runner.model.stack import (
    CLASS_LABEL,
    NODE_LABEL,
    WISH_LABEL,
    ServiceWish,
    Stack,
)
from swarm_runner.model.status import EngineState, PoolStatus
from swarm_runner.policy.status import join
from swarm_runner.swarm.port import Swarm

Progress = Callable[[str], None]
LOOK_S = 1.0
UP_LIMIT_S = 300.0
GONE_LIMIT_S = 180.0
SECRET_FILE = 0o600
SECRET_DIRECTORY = 0o700


def _silent(_message: str) -> None:
    return


class Provisioner:
    """One pool on one Swarm.

    `view` looks at the pool through HTCondor, `token` is the client's token file, `progress` is
    told each step in words.
    """

    def __init__(
        self,
        pool: Pool,
        swarm: Swarm,
        view: PoolView,
        token: Path,
        progress: Progress = _silent,
        look_s: float = LOOK_S,
    ) -> None:
        self.pool = pool
        self._swarm = swarm
        self._view = view
        self._token = token
        self._progress = progress
        self._look_s = look_s

    def up(self, *, initialise: bool = False, limit_s: float = UP_LIMIT_S) -> PoolStatus:
        """Make the pool, or change what differs from the configuration; wait for every slot.

        `initialise` allows to make a single-node Swarm of an engine that is in none.
        Raises RefusedError when something is in the way, OutOfReachError when the engine,
        the Swarm or the pool does not answer.
        """
        engine = self._manager_engine(initialise)
        image = self._swarm.pool_image(self.pool.image, self._progress)
        present = self._swarm.services(self.pool.name)
        manager = present.get(self.pool.service())
        node_id = manager.labels[NODE_LABEL] if manager else engine.node_id
        stack = Stack(pool=self.pool, image=image, node_id=node_id)
        if stack.network not in self._swarm.networks(self.pool.name):
            self._progress(f"making network {stack.network}")
            self._swarm.create_network(stack.network, stack.labels)
        fresh_key = stack.signing_key not in self._swarm.secrets(self.pool.name)
        if fresh_key:
            self._progress("making the pool's signing key")
            key = secrets.token_urlsafe(48).encode()
            self._swarm.create_secret(stack.signing_key, key, stack.labels)
        self._apply(stack.manager())
        self._tokens(stack, fresh_key)
        wishes = stack.executors()
        for wish in wishes.values():
            self._apply(wish)
        dropped = {
            name
            for name, service in present.items()
            if service.labels.get(CLASS_LABEL, next(iter(wishes))) not in wishes
        }
        if dropped:
            self._progress(f"removing {', '.join(sorted(dropped))}: the class is gone")
            self._swarm.remove_services(sorted(dropped))
        return self._await_replicas(limit_s)

    def status(self) -> PoolStatus:
        """What Swarm and HTCondor say, joined.

        Raises OutOfReachError when the Swarm does not answer, RefusedError when there is no pool;
        a pool whose collector does not answer is a status with trouble.
        """
        self._manager_engine(initialise=False)
        services = self._swarm.services(self.pool.name)
        if not services:
            raise RefusedError(
                f"there is no pool {self.pool.name}; `swarm-runner pool up` makes it"
            )
        tasks = self._swarm.tasks(self.pool.name)
        try:
            return join(self.pool, services, tasks, self._view.slots())
        except OutOfReachError as error:
            return join(self.pool, services, tasks, None, trouble=str(error))

    def scale(self, replicas: Mapping[str, int], *, limit_s: float | None = None) -> PoolStatus:
        """Set how many executors each class has and wait until they are there, or gone.

        No running job is ended: an executor that leaves finishes its jobs first, which may take
        as long as they do; `limit_s` ends the wait (RefusedError), not the scaling.
        Raises InvalidInputError for unknown classes and counts out of range, all at once.
        """
        faults = []
        for name, count in replicas.items():
            shape = self.pool.classes.get(name)
            most = shape.max_replicas if shape else None
            if shape is None:
                faults.append(Fault(name, f"no such class; the pool has {self.pool.sizes()}"))
            elif count < 0:
                faults.append(Fault(name, f"{count} executors cannot be; 0 is the least"))
            elif most is not None and count > most:
                faults.append(Fault(name, f"{count} is above max_replicas {most}"))
        if faults:
            raise InvalidInputError(faults)
        self.status()
        for name, count in replicas.items():
            self._progress(f"scaling {self.pool.service(name)} to {count}")
            self._swarm.scale_service(self.pool.service(name), count)
        return self._await_replicas(limit_s)

    def down(self, *, drain: bool = False, force: bool = False) -> None:
        """Remove exactly what `up` made.

        Refuses (RefusedError) while jobs are queued or running, unless `drain` waits for them
        or `force` removes them.
        """
        engine = self._swarm.engine()
        if not engine.swarm:
            self._token.unlink(missing_ok=True)
            return
        self._manager_engine(initialise=False)
        services = self._swarm.services(self.pool.name)
        if self.pool.service() in services:
            self._settle_jobs(drain=drain, force=force)
        manager = services.get(self.pool.service())
        node_id = manager.labels[NODE_LABEL] if manager else engine.node_id
        stack = Stack(pool=self.pool, image="unused", node_id=node_id)
        if services:
            # Executors first: they say goodbye to a collector that is still there.
            executors = sorted(set(services) - {self.pool.service()})
            self._progress(f"removing {', '.join([*executors, self.pool.service()])}")
            self._swarm.remove_services(executors)
            self._swarm.remove_services([self.pool.service()])
        self._progress("waiting for the containers to end")
        volumes = [stack.spool_volume, stack.scratch_volume]
        # Swarm lets go of networks and volumes a moment after the last task.
        for attempt in self._retrying(GONE_LIMIT_S, retry_if_exception_type(RefusedError)):
            with attempt:
                self._swarm.remove_rest(self.pool.name, volumes)
        self._token.unlink(missing_ok=True)
        if self._swarm.initialised_here():
            self._progress("dissolving the Swarm that `pool up --init` made")
            self._swarm.leave()

    def _manager_engine(self, initialise: bool) -> EngineState:
        engine = self._swarm.engine()
        if not engine.swarm:
            if not initialise:
                raise OutOfReachError(
                    f"engine {engine.name} is in no Swarm; `pool up --init` makes a single-node "
                    "one, `docker swarm join` makes it part of another"
                )
            self._progress(f"making a single-node Swarm of engine {engine.name}")
            self._swarm.initialise(self.pool.host)
            engine = self._swarm.engine()
        if not engine.manager:
            raise OutOfReachError(
                f"engine {engine.name} is a Swarm worker; name a manager with DOCKER_HOST "
                "or a docker context"
            )
        return engine

    def _apply(self, wish: ServiceWish) -> None:
        present = self._swarm.services(self.pool.name).get(wish.name)
        if present is None:
            self._progress(f"making service {wish.name}")
            self._swarm.create_service(wish)
        elif present.labels.get(WISH_LABEL) != wish.digest():
            self._progress(f"updating service {wish.name}")
            self._swarm.update_service(wish)

    def _tokens(self, stack: Stack, fresh_key: bool) -> None:
        user = f"{self.pool.user.name}@{self.pool.name}"
        if fresh_key or not self._token.exists():
            self._progress(f"making a client token for {user}")
            self._write_token(self._make_token(user, ("READ", "WRITE")))
        if stack.executor_token not in self._swarm.secrets(self.pool.name):
            self._progress("making the executors' token")
            rights = ("ADVERTISE_STARTD", "ADVERTISE_MASTER", "READ")
            token = self._make_token(f"executor@{self.pool.name}", rights)
            self._swarm.create_secret(stack.executor_token, token, stack.labels)

    def _make_token(self, identity: str, rights: tuple[str, ...]) -> bytes:
        command = ["condor_token_create", "-identity", identity]
        for right in rights:
            command += ["-authz", right]
        service = self.pool.service()

        def make() -> bytes:
            token = self._swarm.run_in(service, command)
            if token is None:
                raise RefusedError(
                    f"service {service} does not run on this engine: {self._task_errors()}"
                )
            return token

        return self._retrying(UP_LIMIT_S, retry_if_exception_type(RefusedError))(make)

    def _task_errors(self) -> str:
        service = self.pool.service()
        tasks = [task for task in self._swarm.tasks(self.pool.name) if task.service == service]
        said = "; ".join(f"{task.state} on {task.node} {task.error}" for task in tasks)
        return said or "Swarm has no task for it"

    def _write_token(self, token: bytes) -> None:
        self._token.parent.mkdir(mode=SECRET_DIRECTORY, parents=True, exist_ok=True)
        self._token.touch(mode=SECRET_FILE)
        self._token.chmod(SECRET_FILE)
        self._token.write_bytes(token)

    def _await_replicas(self, limit_s: float | None) -> PoolStatus:
        last: list[str] = []

        def look() -> PoolStatus:
            status = self.status()
            if not status.settled:
                message = "waiting for " + "; ".join(status.unsettled())
                if last != [message]:
                    last[:] = [message]
                    self._progress(message)
            return status

        unsettled = retry_if_result(lambda status: not status.settled)
        try:
            return self._retrying(limit_s, unsettled)(look)
        except RetryError as error:
            raise RefusedError(f"after {limit_s:.0f} s still {last[0]}") from error

    def _settle_jobs(self, *, drain: bool, force: bool) -> None:
        try:
            waiting = self._view.unfinished()
            if force:
                if waiting:
                    self._progress(f"removing {waiting} jobs")
                    self._view.remove_all()
            elif drain:
                self._await_jobs()
            elif waiting:
                raise RefusedError(
                    f"{waiting} jobs are queued or running; --drain waits for them, "
                    "--force removes them"
                )
        except OutOfReachError as error:
            if not force:
                raise OutOfReachError(
                    f"{error}; cannot tell whether jobs run. --force takes the pool down anyway"
                ) from error

    def _await_jobs(self) -> None:
        def look() -> int:
            waiting = self._view.unfinished()
            if waiting:
                self._progress(f"waiting for {waiting} jobs to end")
            return waiting

        self._retrying(None, retry_if_result(bool))(look)

    def _retrying(self, limit_s: float | None, retry: retry_base) -> Retrying:
        stop = stop_never if limit_s is None else stop_after_delay(limit_s)
        return Retrying(stop=stop, wait=wait_fixed(self._look_s), retry=retry, reraise=True)
