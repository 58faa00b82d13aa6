"""One pool on one Swarm, from nothing to nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from swarm_runner.condor.ports import PoolQueryPort
from swarm_runner.errors import InvalidInputError, PreconditionError, UnreachableError
from swarm_runner.model.pool import Pool
from swarm_runner.model.pool_status import (
    DockerEngine,
    ExecutorReplacement,
    PoolStatus,
    ServiceState,
)
from swarm_runner.provisioner.autoscaler import ensure_autoscaler
from swarm_runner.provisioner.convergence import ConvergenceWaiter
from swarm_runner.provisioner.credentials import PoolCredentials, Tokens
from swarm_runner.provisioner.health import ExecutorHealthMonitor
from swarm_runner.provisioner.inspector import PoolInspector, spool_node
from swarm_runner.provisioner.preconditions import (
    check_counts,
    check_host,
    check_image,
    check_immutable_settings,
    check_managed,
    check_services_exist,
)
from swarm_runner.provisioner.rollout import READINESS_TIMEOUT_S, Rollout, outdated_services
from swarm_runner.provisioner.teardown import PoolJobs, tear_down
from swarm_runner.provisioner.waiter import POLL_INTERVAL_S, Waiter
from swarm_runner.swarm.ports import Swarm
from swarm_runner.swarm.specs import CLASS_LABEL, NODE_LABEL, ServiceSpec, Stack

Progress = Callable[[str], None]
UP_TIMEOUT_S = 300.0
NETWORK_TIMEOUT_S = 60.0


def _ignore_progress(_message: str) -> None:
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
        pool_query: PoolQueryPort,
        token_path: Path,
        progress: Progress = _ignore_progress,
        poll_interval_s: float = POLL_INTERVAL_S,
        readiness_timeout_s: float = READINESS_TIMEOUT_S,
    ) -> None:
        self.pool = pool
        self._swarm = swarm
        self._pool_query = pool_query
        self._token_path = token_path
        self._progress = progress
        self._readiness_timeout_s = readiness_timeout_s
        self._waiter = Waiter(progress, poll_interval_s)
        self._credentials = PoolCredentials(pool, swarm, pool_query, token_path, self._waiter)
        self._jobs = PoolJobs(pool_query, self._waiter, progress)
        self._inspector = PoolInspector(pool, swarm, pool_query)
        self._convergence_waiter = ConvergenceWaiter(
            pool, swarm, self._inspector.observe, self._waiter
        )

    def up(
        self,
        *,
        initialise: bool = False,
        autoscale: bool | None = None,
        timeout_s: float = UP_TIMEOUT_S,
    ) -> PoolStatus:
        """Make the pool, or change what differs from the configuration; wait for every slot.

        `autoscale` is whether an autoscaler runs in the pool from then on; None leaves one that
        is there, and brings it to the configuration too.
        `initialise` allows to make a single-node Swarm of an engine that is in none.
        Raises RefusedError when something is in the way, InvalidInputError when the pool is not
        for this engine, OutOfReachError when the engine, the Swarm or the pool does not answer.
        """
        engine = self._require_swarm_manager(initialise)
        check_host(self.pool, engine)
        if self.pool.services is not None:
            if autoscale:
                raise InvalidInputError(
                    "the stack was deployed by somebody else, and gets no autoscaler from here; "
                    "`swarm-runner pool autoscale` runs one"
                )
            return self._join_external_stack(engine, timeout_s)
        check_managed(self.pool, self._swarm.services(self.pool.name).values())
        image = self._swarm.pool_image(
            self.pool.image, self._progress, virtual_machines=self.pool.has_vm_classes
        )
        check_image(self.pool, engine, image)
        present = self._swarm.services(self.pool.name)
        if self.pool.service() in present:
            check_immutable_settings(self.pool, present)
        stack = Stack(pool=self.pool, image=image, node_id=spool_node(self.pool, present, engine))
        if stack.network not in self._swarm.networks(self.pool.name):
            self._progress(f"making network {stack.network}")
            self._swarm.create_network(stack.network, stack.labels)
        failures = self._convergence_waiter.start(engine.nodes)
        tokens = Tokens(stack, self._swarm)
        tokens.ensure_signing_key()
        self._ensure_service(stack.central_manager(), present)
        self._credentials.distribute(tokens, failures)
        self._credentials.check_network(stack, min(timeout_s, NETWORK_TIMEOUT_S))
        wishes = stack.executors()
        for wish in wishes.values():
            self._ensure_service(wish, present)
        dropped = {
            name
            for name, service in present.items()
            if service.labels.get(CLASS_LABEL, next(iter(wishes))) not in wishes
        }
        if dropped:
            self._progress(f"removing {', '.join(sorted(dropped))}: the class is gone")
            self._swarm.remove_services(sorted(dropped))
        if self._roll_out(stack, engine, timeout_s):
            failures = self._convergence_waiter.start(engine.nodes)
        self._convergence_waiter.wait(list(wishes), timeout_s, failures)
        # At last: from then on the number of executors is its own.
        ensure_autoscaler(stack, self._swarm, tokens, self._progress, self._waiter, autoscale)
        return self.status()

    def upgrade(self, image: str | None = None, *, timeout_s: float | None = None) -> PoolStatus:
        """Bring a pool that is there to the configuration, with another `image` if one is named.

        Executors are replaced one after another, the manager last; no running job is ended. An
        executor that does not work after its replacement takes its service back to what it was.
        Raises RefusedError then, and when the image cannot be had (nothing is changed), when
        services are missing, or when `limit_s` ends the wait, not the upgrade.
        """
        engine = self._require_swarm_manager(initialise=False)
        present = self._services()
        check_managed(self.pool, present.values())
        pool = self.pool if image is None else self.pool.model_copy(update={"image": image})
        check_services_exist(pool, present)
        node_id = present[pool.service()].labels[NODE_LABEL]
        check_immutable_settings(pool, present)
        taken = self._swarm.pool_image(
            pool.image, self._progress, virtual_machines=pool.has_vm_classes
        )
        check_image(pool, engine, taken)
        rolled = self._roll_out(Stack(pool=pool, image=taken, node_id=node_id), engine, timeout_s)
        if not rolled:
            self._progress("nothing differs: every service runs this image and configuration")
        classes = [wish.labels[CLASS_LABEL] for wish in rolled if CLASS_LABEL in wish.labels]
        self._convergence_waiter.wait(
            classes, timeout_s, self._convergence_waiter.start(engine.nodes)
        )
        return self._waiter.retry_while_unreachable(self.status)

    def repair(
        self, *, dry_run: bool = False, timeout_s: float | None = None
    ) -> tuple[list[ExecutorReplacement], PoolStatus]:
        """Have the executors that do not work replaced, and wait until that is done.

        What was found and done comes back, with the status at the end; without `act` nothing is
        done. Raises RefusedError when services are missing, and when `limit_s` ends the wait.
        """
        self._require_swarm_manager(initialise=False)
        check_services_exist(self.pool, self._services())
        health = ExecutorHealthMonitor(
            self.pool, self._swarm, self._pool_query, dry_run=dry_run, grace_s=0
        )
        found: dict[str, ExecutorReplacement] = {}

        def look() -> bool:
            status = self._inspector.observe()
            sick = health.run_once(status)
            for mending in sick:
                found[mending.task] = mending
                self._waiter.report(str(mending))
            left = [
                *status.problems,
                *status.pending_changes({m.capacity_class for m in found.values()}),
            ]
            if left and not sick:
                self._waiter.report("waiting for " + "; ".join(left))
            return not (left or sick or health.draining_count)

        if not dry_run:
            self._waiter.poll_until(look, bool, timeout_s)
        else:
            look()
        return list(found.values()), self._waiter.retry_while_unreachable(self.status)

    def status(self) -> PoolStatus:
        """What Swarm and HTCondor say, joined.

        Raises OutOfReachError when the Swarm does not answer, RefusedError when there is no pool;
        a pool whose collector does not answer is a status with trouble.
        """
        self._require_swarm_manager(initialise=False)
        return self._inspector.status()

    def scale(self, replicas: Mapping[str, int], *, timeout_s: float | None = None) -> PoolStatus:
        """Set how many executors each class has and wait until they are there, or gone.

        No running job is ended: an executor that leaves finishes its jobs first, which may take
        as long as they do; `limit_s` ends the wait (RefusedError), not the scaling.
        Other classes are not waited for. Raises InvalidInputError for unknown classes and counts
        out of range, all at once; RefusedError when the service of one is missing, and when
        executors do not start, on one node at least.
        """
        check_counts(self.pool, replicas)
        engine = self._require_swarm_manager(initialise=False)
        self._waiter.retry_while_unreachable(self._inspector.observe, timeout_s)
        check_services_exist(self.pool, self._services(), replicas)
        failures = self._convergence_waiter.start(engine.nodes)
        for name, count in replicas.items():
            service = self.pool.service(name)
            self._progress(f"scaling {service} to {count}")
            self._waiter.retry_while_unreachable(partial(self._swarm.scale_service, service, count))
        self._convergence_waiter.wait(replicas, timeout_s, failures, require_complete=True)
        return self._waiter.retry_while_unreachable(self.status)

    def down(self, *, drain: bool = False, force: bool = False) -> None:
        """Remove exactly what `up` made.

        Refuses (RefusedError) while jobs have not ended, unless `drain` waits for them
        or `force` removes them.
        """
        engine = self._swarm.docker_engine()
        if not engine.swarm:
            self._token_path.unlink(missing_ok=True)
            return
        self._require_swarm_manager(initialise=False)
        services = self._services()
        check_managed(self.pool, services.values())
        if self.pool.service() in services:
            self._jobs.ensure_empty_queue(drain=drain, force=force)
        tear_down(self.pool, self._swarm, self._waiter, self._progress)
        self._token_path.unlink(missing_ok=True)
        if self._waiter.retry_while_unreachable(self._swarm.initialised_here):
            self._progress("dissolving the Swarm that `pool up --init` made")
            self._swarm.leave()

    def _join_external_stack(self, docker_engine: DockerEngine, timeout_s: float) -> PoolStatus:
        """Of a stack that somebody else deployed: let this client in, and wait; change nothing."""
        missing = [
            name
            for name in (self.pool.services or {}).values()
            if name not in self._swarm.services(self.pool.name)
        ]
        if missing:
            raise PreconditionError(
                f"pool.services names {', '.join(missing)}, which is not there: deploy the stack"
            )
        failures = self._convergence_waiter.start(docker_engine.nodes)
        tokens = Tokens(Stack(pool=self.pool, image="unused", node_id="unused"), self._swarm)
        self._credentials.ensure_client_token(tokens, failures)
        self._convergence_waiter.wait(list(self.pool.classes), timeout_s, failures)
        return self.status()

    def _require_swarm_manager(self, initialise: bool) -> DockerEngine:
        engine = self._swarm.docker_engine()
        if not engine.swarm:
            if not initialise:
                raise UnreachableError(
                    f"engine {engine.name} is in no Swarm; `pool up --init` makes a single-node "
                    "one, `docker swarm join` makes it part of another"
                )
            self._progress(f"making a single-node Swarm of engine {engine.name}")
            self._swarm.initialise(self.pool.host)
            engine = self._swarm.docker_engine()
        if not engine.swarm_manager:
            raise UnreachableError(
                f"engine {engine.name} is a Swarm worker; name a manager with DOCKER_HOST "
                "or a docker context"
            )
        return engine

    def _ensure_service(self, spec: ServiceSpec, existing: Mapping[str, ServiceState]) -> None:
        if spec.name not in existing:
            self._progress(f"making service {spec.name}")
            self._swarm.create_service(spec)

    def _roll_out(
        self, stack: Stack, docker_engine: DockerEngine, timeout_s: float | None
    ) -> list[ServiceSpec]:
        """Bring the services to the stack's wishes; those that had to be.

        The manager is last: a bad image shows itself on one executor, not on the queue.
        """
        wishes = [*stack.executors().values(), stack.central_manager()]
        different = outdated_services(self._services(), wishes)
        for wish in different:
            if CLASS_LABEL not in wish.labels:
                self._jobs.wait_for_stable_slots()
            Rollout(
                wish,
                self._swarm,
                self._inspector.observe,
                self._waiter,
                docker_engine.nodes,
                self._readiness_timeout_s,
            ).run(timeout_s)
        return different

    def _services(self) -> dict[str, ServiceState]:
        return self._waiter.retry_while_unreachable(lambda: self._swarm.services(self.pool.name))
