"""One pool on one Swarm, from nothing to nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from swarm_runner.condor.view import PoolView
from swarm_runner.errors import InvalidInputError, OutOfReachError, RefusedError
from swarm_runner.model.health import Mending
from swarm_runner.model.pool import Pool
from swarm_runner.model.stack import CLASS_LABEL, NODE_LABEL, ServiceWish, Stack
from swarm_runner.model.status import EngineState, PoolStatus, ServiceState
from swarm_runner.provisioner.checks import (
    check_counts,
    check_host,
    check_image,
    check_ours,
    check_settings,
    check_whole,
)
from swarm_runner.provisioner.daemon import keep_autoscaler
from swarm_runner.provisioner.entrance import Entrance
from swarm_runner.provisioner.health import Health
from swarm_runner.provisioner.jobs import PoolJobs
from swarm_runner.provisioner.looking import Looking, queue_node
from swarm_runner.provisioner.removal import remove
from swarm_runner.provisioner.rollout import Rollout, due
from swarm_runner.provisioner.settling import Settling
from swarm_runner.provisioner.tokens import Tokens
from swarm_runner.provisioner.trial import PATIENCE_S
from swarm_runner.provisioner.waiting import LOOK_S, Waiting
from swarm_runner.swarm.port import Swarm

Progress = Callable[[str], None]
UP_LIMIT_S = 300.0
NETWORK_LIMIT_S = 60.0


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
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.pool = pool
        self._swarm = swarm
        self._view = view
        self._token = token
        self._progress = progress
        self._patience_s = patience_s
        self._waiting = Waiting(progress, look_s)
        self._entrance = Entrance(pool, swarm, view, token, self._waiting)
        self._jobs = PoolJobs(view, self._waiting, progress)
        self._looking = Looking(pool, swarm, view)
        self._settling = Settling(pool, swarm, self._looking.look, self._waiting)

    def up(
        self,
        *,
        initialise: bool = False,
        autoscale: bool | None = None,
        limit_s: float = UP_LIMIT_S,
    ) -> PoolStatus:
        """Make the pool, or change what differs from the configuration; wait for every slot.

        `autoscale` is whether an autoscaler runs in the pool from then on; None leaves one that
        is there, and brings it to the configuration too.
        `initialise` allows to make a single-node Swarm of an engine that is in none.
        Raises RefusedError when something is in the way, InvalidInputError when the pool is not
        for this engine, OutOfReachError when the engine, the Swarm or the pool does not answer.
        """
        engine = self._manager_engine(initialise)
        check_host(self.pool, engine)
        if self.pool.services is not None:
            if autoscale:
                raise InvalidInputError(
                    "the stack was deployed by somebody else, and gets no autoscaler from here; "
                    "`swarm-runner pool autoscale` runs one"
                )
            return self._enter(engine, limit_s)
        check_ours(self.pool, self._swarm.services(self.pool.name).values())
        image = self._swarm.pool_image(
            self.pool.image, self._progress, virtual_machines=self.pool.virtual_machines
        )
        check_image(self.pool, engine, image)
        present = self._swarm.services(self.pool.name)
        if self.pool.service() in present:
            check_settings(self.pool, present)
        stack = Stack(pool=self.pool, image=image, node_id=queue_node(self.pool, present, engine))
        if stack.network not in self._swarm.networks(self.pool.name):
            self._progress(f"making network {stack.network}")
            self._swarm.create_network(stack.network, stack.labels)
        failures = self._settling.begin(engine.nodes)
        tokens = Tokens(stack, self._swarm)
        tokens.make_signing_key()
        self._make(stack.manager(), present)
        self._entrance.give_tokens(tokens, failures)
        self._entrance.check_network(stack, min(limit_s, NETWORK_LIMIT_S))
        wishes = stack.executors()
        for wish in wishes.values():
            self._make(wish, present)
        dropped = {
            name
            for name, service in present.items()
            if service.labels.get(CLASS_LABEL, next(iter(wishes))) not in wishes
        }
        if dropped:
            self._progress(f"removing {', '.join(sorted(dropped))}: the class is gone")
            self._swarm.remove_services(sorted(dropped))
        if self._roll(stack, engine, limit_s):
            failures = self._settling.begin(engine.nodes)
        self._settling.settle(list(wishes), limit_s, failures)
        # At last: from then on the number of executors is its own.
        keep_autoscaler(stack, self._swarm, tokens, self._progress, self._waiting, autoscale)
        return self.status()

    def upgrade(self, image: str | None = None, *, limit_s: float | None = None) -> PoolStatus:
        """Bring a pool that is there to the configuration, with another `image` if one is named.

        Executors are replaced one after another, the manager last; no running job is ended. An
        executor that does not work after its replacement takes its service back to what it was.
        Raises RefusedError then, and when the image cannot be had (nothing is changed), when
        services are missing, or when `limit_s` ends the wait, not the upgrade.
        """
        engine = self._manager_engine(initialise=False)
        present = self._services()
        check_ours(self.pool, present.values())
        pool = self.pool if image is None else self.pool.model_copy(update={"image": image})
        check_whole(pool, present)
        node_id = present[pool.service()].labels[NODE_LABEL]
        check_settings(pool, present)
        taken = self._swarm.pool_image(
            pool.image, self._progress, virtual_machines=pool.virtual_machines
        )
        check_image(pool, engine, taken)
        rolled = self._roll(Stack(pool=pool, image=taken, node_id=node_id), engine, limit_s)
        if not rolled:
            self._progress("nothing differs: every service runs this image and configuration")
        classes = [wish.labels[CLASS_LABEL] for wish in rolled if CLASS_LABEL in wish.labels]
        self._settling.settle(classes, limit_s, self._settling.begin(engine.nodes))
        return self._waiting.patiently(self.status)

    def mend(
        self, *, act: bool = True, limit_s: float | None = None
    ) -> tuple[list[Mending], PoolStatus]:
        """Have the executors that do not work replaced, and wait until that is done.

        What was found and done comes back, with the status at the end; without `act` nothing is
        done. Raises RefusedError when services are missing, and when `limit_s` ends the wait.
        """
        self._manager_engine(initialise=False)
        check_whole(self.pool, self._services())
        health = Health(self.pool, self._swarm, self._view, act=act, grace_s=0)
        found: dict[str, Mending] = {}

        def look() -> bool:
            status = self._looking.look()
            sick = health.round(status)
            for mending in sick:
                found[mending.task] = mending
                self._waiting.say(str(mending))
            left = [*status.trouble, *status.unsettled({m.capacity_class for m in found.values()})]
            if left and not sick:
                self._waiting.say("waiting for " + "; ".join(left))
            return not (left or sick or health.going)

        if act:
            self._waiting.until(look, bool, limit_s)
        else:
            look()
        return list(found.values()), self._waiting.patiently(self.status)

    def status(self) -> PoolStatus:
        """What Swarm and HTCondor say, joined.

        Raises OutOfReachError when the Swarm does not answer, RefusedError when there is no pool;
        a pool whose collector does not answer is a status with trouble.
        """
        self._manager_engine(initialise=False)
        return self._looking.shown()

    def scale(self, replicas: Mapping[str, int], *, limit_s: float | None = None) -> PoolStatus:
        """Set how many executors each class has and wait until they are there, or gone.

        No running job is ended: an executor that leaves finishes its jobs first, which may take
        as long as they do; `limit_s` ends the wait (RefusedError), not the scaling.
        Other classes are not waited for. Raises InvalidInputError for unknown classes and counts
        out of range, all at once; RefusedError when the service of one is missing, and when
        executors do not start, on one node at least.
        """
        check_counts(self.pool, replicas)
        engine = self._manager_engine(initialise=False)
        self._waiting.patiently(self._looking.look, limit_s)
        check_whole(self.pool, self._services(), replicas)
        failures = self._settling.begin(engine.nodes)
        for name, count in replicas.items():
            service = self.pool.service(name)
            self._progress(f"scaling {service} to {count}")
            self._waiting.patiently(partial(self._swarm.scale_service, service, count))
        self._settling.settle(replicas, limit_s, failures, whole=True)
        return self._waiting.patiently(self.status)

    def down(self, *, drain: bool = False, force: bool = False) -> None:
        """Remove exactly what `up` made.

        Refuses (RefusedError) while jobs have not ended, unless `drain` waits for them
        or `force` removes them.
        """
        engine = self._swarm.engine()
        if not engine.swarm:
            self._token.unlink(missing_ok=True)
            return
        self._manager_engine(initialise=False)
        services = self._services()
        check_ours(self.pool, services.values())
        if self.pool.service() in services:
            self._jobs.settle(drain=drain, force=force)
        remove(self.pool, self._swarm, self._waiting, self._progress)
        self._token.unlink(missing_ok=True)
        if self._waiting.patiently(self._swarm.initialised_here):
            self._progress("dissolving the Swarm that `pool up --init` made")
            self._swarm.leave()

    def _enter(self, engine: EngineState, limit_s: float) -> PoolStatus:
        """Of a stack that somebody else deployed: let this client in, and wait; change nothing."""
        missing = [
            name
            for name in (self.pool.services or {}).values()
            if name not in self._swarm.services(self.pool.name)
        ]
        if missing:
            raise RefusedError(
                f"pool.services names {', '.join(missing)}, which is not there: deploy the stack"
            )
        failures = self._settling.begin(engine.nodes)
        tokens = Tokens(Stack(pool=self.pool, image="unused", node_id="unused"), self._swarm)
        self._entrance.let_client_in(tokens, failures)
        self._settling.settle(list(self.pool.classes), limit_s, failures)
        return self.status()

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

    def _make(self, wish: ServiceWish, present: Mapping[str, ServiceState]) -> None:
        if wish.name not in present:
            self._progress(f"making service {wish.name}")
            self._swarm.create_service(wish)

    def _roll(self, stack: Stack, engine: EngineState, limit_s: float | None) -> list[ServiceWish]:
        """Bring the services to the stack's wishes; those that had to be.

        The manager is last: a bad image shows itself on one executor, not on the queue.
        """
        wishes = [*stack.executors().values(), stack.manager()]
        different = due(self._services(), wishes)
        for wish in different:
            if CLASS_LABEL not in wish.labels:
                self._jobs.steady()
            Rollout(
                wish, self._swarm, self._looking.look, self._waiting, engine.nodes, self._patience_s
            ).roll(limit_s)
        return different

    def _services(self) -> dict[str, ServiceState]:
        return self._waiting.patiently(lambda: self._swarm.services(self.pool.name))
