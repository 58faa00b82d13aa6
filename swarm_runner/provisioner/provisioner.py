"""The commands for one pool on one Swarm: up, scale, upgrade, repair, status and down."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from swarm_runner.condor.pool_query import PoolQueryPort
from swarm_runner.errors import InvalidInputError, PreconditionError, UnreachableError
from swarm_runner.model.access_token import RESERVED_NAMES, AccessToken, Rights
from swarm_runner.model.pool import Pool
from swarm_runner.model.pool_status import (
    DockerEngine,
    ExecutorReplacement,
    PoolStatus,
    ServiceState,
)
from swarm_runner.provisioner.autoscaler import ensure_autoscaler
from swarm_runner.provisioner.backup import Backup, restore_backup, write_backup
from swarm_runner.provisioner.credentials import PoolCredentials, Tokens
from swarm_runner.provisioner.health import ExecutorHealthMonitor
from swarm_runner.provisioner.inspector import PoolInspector, spool_node
from swarm_runner.provisioner.job_images import NodeImages, prune_images, pull_images
from swarm_runner.provisioner.managers import (
    check_spool,
    losses,
    manager_nodes,
    move_managers,
    remove_unchecked,
)
from swarm_runner.provisioner.monitoring import ensure_monitoring, is_monitored
from swarm_runner.provisioner.nodes import node_warnings
from swarm_runner.provisioner.preconditions import (
    check_counts,
    check_engine,
    check_host,
    check_image,
    check_immutable_settings,
    check_managed,
    check_services_exist,
)
from swarm_runner.provisioner.rollout import READINESS_TIMEOUT_S, Rollout, outdated_services
from swarm_runner.provisioner.subnets import (
    addresses_needed,
    choose_subnet,
    enlarge,
    shortage,
)
from swarm_runner.provisioner.task_failures import TaskFailures
from swarm_runner.provisioner.teardown import PoolJobs, tear_down
from swarm_runner.provisioner.waiter import POLL_INTERVAL_S, ConvergenceWaiter, Waiter
from swarm_runner.structured_log import get_logger
from swarm_runner.swarm.ports import Swarm
from swarm_runner.swarm.specs import CLASS_LABEL, NODE_LABEL, ServiceSpec, Stack

log = get_logger(__name__)

Progress = Callable[[str], None]
UP_TIMEOUT_S = 300.0
NETWORK_TIMEOUT_S = 60.0


def _ignore_progress(_message: str) -> None:
    return


class Provisioner:
    """Manages one pool on one Swarm.

    Every method raises UnreachableError when the Docker engine, the Swarm or the pool does not
    answer, or when an outage lasts too long.

    Args:
        pool: The pool's configuration.
        swarm: Where the pool's services run.
        pool_query: Reads the pool's queue and its slots.
        token_path: The client's token file.
        progress: Receives a message for each step.
        poll_interval_s: The time between two polls, in seconds.
        readiness_timeout_s: How long a new executor may run without a working slot, in seconds.
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
        self._jobs = PoolJobs(pool, swarm, pool_query, self._waiter, progress)
        self._inspector = PoolInspector(pool, swarm, pool_query)
        self._convergence_waiter = ConvergenceWaiter(
            pool, swarm, self._inspector.observe, self._waiter
        )

    def up(
        self,
        *,
        initialise: bool = False,
        autoscale: bool | None = None,
        monitoring: bool | None = None,
        timeout_s: float = UP_TIMEOUT_S,
    ) -> PoolStatus:
        """Create the pool, or update it to its configuration, and wait until it has converged.

        `autoscale` sets whether an autoscaler runs in the pool; None keeps and updates the one
        that exists. `monitoring` likewise sets whether Prometheus and Grafana run in it.
        `initialise` permits making a single-node Swarm of an engine without one.

        Raises PreconditionError when the state of the Swarm or of the pool forbids it, or after
        `timeout_s` seconds; InvalidInputError when the configuration does not suit this engine.
        """
        docker_engine = self._require_swarm_manager(initialise)
        check_engine(docker_engine)
        check_host(self.pool, docker_engine)
        if self.pool.services is not None:
            if autoscale or monitoring:
                raise InvalidInputError(
                    "pool up cannot add an autoscaler or monitoring to a stack that it did not "
                    "deploy; run "
                    "`swarm-runner pool autoscale` or `pool watch` instead"
                )
            return self._join_external_stack(docker_engine, timeout_s)
        check_managed(self.pool, self._swarm.services(self.pool.name).values())
        image = self._swarm.pool_image(
            self.pool.image, self._progress, virtual_machines=self.pool.has_vm_classes
        )
        check_image(self.pool, docker_engine, image)
        existing = self._swarm.services(self.pool.name)
        if self.pool.service() in existing:
            check_immutable_settings(self.pool, existing)
        node_id = spool_node(self.pool, existing, docker_engine)
        stack = self._stack(self.pool, image, node_id, docker_engine)
        stack = stack.model_copy(update={"monitored": is_monitored(stack, self._swarm, monitoring)})
        self._ensure_network(stack, docker_engine.nodes)
        failures = self._convergence_waiter.start(docker_engine.nodes)
        tokens = Tokens(stack, self._swarm)
        tokens.ensure_signing_key()
        self._ensure_managers(stack, existing, failures)
        self._credentials.distribute(tokens, failures)
        self._credentials.check_network(stack, min(timeout_s, NETWORK_TIMEOUT_S))
        specs = stack.executors()
        for spec in specs.values():
            self._ensure_service(spec, existing)
        self._remove_dropped_services(existing)
        if self._roll_out(stack, docker_engine, timeout_s):
            failures = self._convergence_waiter.start(docker_engine.nodes)
        self._convergence_waiter.wait(list(specs), timeout_s, failures)
        # Last, because it then controls the number of executors.
        ensure_autoscaler(stack, self._swarm, tokens, self._progress, self._waiter, autoscale)
        ensure_monitoring(stack, self._swarm, tokens, self._progress)
        return self.status()

    def upgrade(self, image: str | None = None, *, timeout_s: float | None = None) -> PoolStatus:
        """Update an existing pool to its configuration, and to another `image` if one is given.

        Executors are replaced one after the other, the manager last; running jobs finish. When a
        replaced executor does not work, its service is rolled back.

        Raises PreconditionError after a rollback; when the image is not available or a service is
        missing, in which case nothing was changed; and after `timeout_s` seconds (None: no
        limit), in which case Swarm finishes the update.
        """
        docker_engine = self._require_swarm_manager(initialise=False)
        existing = self._services()
        check_managed(self.pool, existing.values())
        pool = self.pool if image is None else self.pool.model_copy(update={"image": image})
        check_services_exist(pool, existing)
        node_id = existing[pool.service()].labels[NODE_LABEL]
        check_immutable_settings(pool, existing)
        pool_image = self._swarm.pool_image(
            pool.image, self._progress, virtual_machines=pool.has_vm_classes
        )
        check_image(pool, docker_engine, pool_image)
        stack = self._stack(pool, pool_image, node_id, docker_engine)
        updated = self._roll_out(stack, docker_engine, timeout_s)
        if not updated:
            self._progress("no changes: every service has this image and configuration")
        classes = [spec.labels[CLASS_LABEL] for spec in updated if CLASS_LABEL in spec.labels]
        self._convergence_waiter.wait(
            classes, timeout_s, self._convergence_waiter.start(docker_engine.nodes)
        )
        return self._waiter.retry_while_unreachable(self.status)

    def repair(
        self, *, dry_run: bool = False, timeout_s: float | None = None
    ) -> tuple[list[ExecutorReplacement], PoolStatus]:
        """Replace the executors that do not work, and wait until their classes have converged.

        Return what was found and done, and the status afterwards. With `dry_run` nothing is
        changed. Raises PreconditionError when a service is missing, and after `timeout_s` seconds
        (None: no limit).
        """
        self._require_swarm_manager(initialise=False)
        check_services_exist(self.pool, self._services())
        health_monitor = ExecutorHealthMonitor(
            self.pool, self._swarm, self._pool_query, dry_run=dry_run, grace_s=0
        )
        found: dict[str, ExecutorReplacement] = {}  # by task ID

        def poll() -> bool:
            status = self._inspector.observe()
            replacements = health_monitor.run_once(status)
            for replacement in replacements:
                found[replacement.task] = replacement
                self._waiter.report(str(replacement))
            classes = {replacement.capacity_class for replacement in found.values()}
            pending = [*status.problems, *status.pending_changes(classes)]
            if pending and not replacements:
                self._waiter.report("waiting for " + "; ".join(pending))
            return not (pending or replacements or health_monitor.draining_count)

        if dry_run:
            poll()
        else:
            self._waiter.poll_until(poll, bool, timeout_s)
        return list(found.values()), self._waiter.retry_while_unreachable(self.status)

    def status(self, *, tokens: bool = False) -> PoolStatus:
        """Return the pool's status, from Swarm and from HTCondor.

        With `tokens` it warns of tokens that expire, and of nodes that cannot run executors.

        Raises PreconditionError when the pool does not exist. A collector that does not answer is
        a problem in the status.
        """
        docker_engine = self._require_swarm_manager(initialise=False)
        status = self._inspector.status()
        node = status.autoscaler.node if status.autoscaler else ""
        update: dict[str, object] = {
            "losses": losses(self.pool, docker_engine, autoscaler_node=node)
        }
        if tokens:
            unsuitable = node_warnings(self._swarm.nodes(), docker_engine.node_id)
            expiring = self._credentials.expiry_warnings()
            update["warnings"] = (*status.warnings, *expiring, *unsuitable)
        return status.model_copy(update=update)

    def create_token(self, name: str, rights: Rights, lifetime_s: int) -> tuple[AccessToken, str]:
        """Create a token for a user or a service; return what the pool records, and its text.

        Raises InvalidInputError for a name that the pool or HTCondor itself uses, and
        PreconditionError when the manager does not run on this engine's node.
        """
        if name in RESERVED_NAMES:
            raise InvalidInputError(
                f"{name} is a name that HTCondor or the pool itself uses; choose another one"
            )
        return self._tokens().create(name, rights, lifetime_s)

    def tokens(self) -> list[AccessToken]:
        """Return the tokens that `create_token` and `up` created. See `create_token`."""
        return self._tokens().recorded()

    def revoke_tokens(self, what: str) -> list[AccessToken]:
        """Revoke a token by its ID, or all of an identity; return the revoked ones.

        Raises InvalidInputError when there is no such token, and PreconditionError as
        `create_token`.
        """
        revoked = self._tokens().revoke(what)
        if not revoked:
            raise InvalidInputError(
                f"{what} is neither the ID of a valid token nor an identity that has one; see "
                "`swarm-runner pool token list`"
            )
        return revoked

    def _tokens(self) -> Tokens:
        self._require_swarm_manager(initialise=False)
        return Tokens(Stack(pool=self.pool, image="unused", node_id="unused"), self._swarm)

    def backup(self, path: Path) -> Backup:
        """Write the queue, the history, the tokens and the signing key to a file (mode 0600).

        The pool goes on. Raises PreconditionError when no manager runs on this engine's node.
        """
        self._require_swarm_manager(initialise=False)
        return write_backup(self.pool, self._swarm, path)

    def restore(self, path: Path, *, initialise: bool = False) -> Backup:
        """Bring back what `backup` wrote, before `up`. Return what the backup says of itself.

        `initialise` permits making a single-node Swarm of an engine without one.

        Raises PreconditionError when the pool exists, or when the backup is of another pool or
        version of HTCondor; InvalidInputError when the file is not a complete backup.
        """
        docker_engine = self._require_swarm_manager(initialise)

        def make_stack() -> Stack:
            image = self._swarm.pool_image(
                self.pool.image, self._progress, virtual_machines=self.pool.has_vm_classes
            )
            return Stack(pool=self.pool, image=image, node_id=docker_engine.node_id)

        return restore_backup(self.pool, self._swarm, path, make_stack, self._progress)

    def pull_images(self, names: Sequence[str]) -> list[NodeImages]:
        """Pull images of jobs on every node. Return what each node did, and what failed there.

        Raises InvalidInputError if there is no name, and PreconditionError if the pool does not
        exist.
        """
        self._require_swarm_manager(initialise=False)
        return pull_images(self.pool, self._swarm, names)

    def prune_images(self, unused_s: float) -> list[NodeImages]:
        """Remove the images that executors pulled and that no job has used for `unused_s` seconds.

        Images that a container uses stay. Raises PreconditionError if the pool does not exist.
        """
        self._require_swarm_manager(initialise=False)
        return prune_images(self.pool, self._swarm, unused_s)

    def scale(self, replicas: Mapping[str, int], *, timeout_s: float | None = None) -> PoolStatus:
        """Set the number of executors of each given class, and wait until these have converged.

        Running jobs finish: an executor that stops completes its jobs first. After `timeout_s`
        seconds (None: no limit) PreconditionError is raised, and the scaling continues.

        Raises InvalidInputError that names every unknown class and every count out of range, and
        PreconditionError when a service is missing or executors do not start on a node.
        """
        check_counts(self.pool, replicas)
        docker_engine = self._require_swarm_manager(initialise=False)
        self._waiter.retry_while_unreachable(self._inspector.observe, timeout_s)
        check_services_exist(self.pool, self._services(), replicas)
        failures = self._convergence_waiter.start(docker_engine.nodes)
        for name, count in replicas.items():
            service = self.pool.service(name)
            self._progress(f"scaling {service} to {count}")
            self._waiter.retry_while_unreachable(partial(self._swarm.scale_service, service, count))
            log.info("Service scaled", service=service, replicas=count, reason="requested")
        self._convergence_waiter.wait(replicas, timeout_s, failures, require_complete=True)
        return self._waiter.retry_while_unreachable(self.status)

    def down(self, *, drain: bool = False, force: bool = False) -> None:
        """Remove everything that `up` created, and nothing else.

        Raises PreconditionError while jobs are left in the queue, unless `drain` waits for them
        or `force` removes them.
        """
        docker_engine = self._swarm.docker_engine()
        if not docker_engine.swarm:
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
            self._progress("dissolving the Swarm that `pool up --init` created")
            self._swarm.leave()

    def _join_external_stack(self, docker_engine: DockerEngine, timeout_s: float) -> PoolStatus:
        """Get a token for a pool that somebody else deployed, and wait; change nothing."""
        existing = self._swarm.services(self.pool.name)
        missing = [name for name in (self.pool.services or {}).values() if name not in existing]
        if missing:
            raise PreconditionError(
                f"pool.services names {', '.join(missing)}, but the Swarm has no such service; "
                "deploy the stack first"
            )
        failures = self._convergence_waiter.start(docker_engine.nodes)
        tokens = Tokens(Stack(pool=self.pool, image="unused", node_id="unused"), self._swarm)
        self._credentials.ensure_client_token(tokens, failures)
        self._convergence_waiter.wait(list(self.pool.classes), timeout_s, failures)
        return self.status()

    def _require_swarm_manager(self, initialise: bool) -> DockerEngine:
        """Return the engine if it is a Swarm manager; with `initialise`, make it one."""
        docker_engine = self._swarm.docker_engine()
        if not docker_engine.swarm:
            if not initialise:
                raise UnreachableError(
                    f"engine {docker_engine.name} is not part of a Swarm; run `pool up --init` to "
                    "make it a single-node Swarm, or `docker swarm join` to add it to another one"
                )
            self._progress(f"initialising a single-node Swarm on engine {docker_engine.name}")
            self._swarm.initialise(self.pool.manager_addresses[0][0])
            docker_engine = self._swarm.docker_engine()
        if not docker_engine.swarm_manager:
            raise UnreachableError(
                f"engine {docker_engine.name} is a Swarm worker; name a manager with DOCKER_HOST "
                "or a docker context"
            )
        return docker_engine

    def _ensure_network(self, stack: Stack, nodes: int) -> None:
        """Create the pool's network. An existing one keeps its subnet, which tasks use."""
        needed = addresses_needed(self.pool, nodes)
        if stack.network not in self._swarm.networks(self.pool.name):
            network = enlarge(self.pool.network, needed)
            subnet = str(choose_subnet(network, self._swarm.address_space()))
            self._progress(f"creating network {stack.network} ({subnet})")
            self._swarm.create_network(stack.network, stack.labels, subnet)
        else:
            subnet = self._swarm.network_subnet(stack.network)
            if self.pool.network.subnet not in (None, subnet):
                self._progress(
                    f"network {stack.network} keeps its subnet {subnet}: pool.network.subnet "
                    "applies to a new pool (`pool down`, then `pool up`)"
                )
        if problem := shortage(self.pool, subnet, needed):
            log.warning("The network is small", pool=self.pool.name, problem=problem)
            self._progress(problem)

    def _ensure_service(self, spec: ServiceSpec, existing: Mapping[str, ServiceState]) -> None:
        if spec.name not in existing:
            self._progress(f"creating service {spec.name}")
            self._swarm.create_service(spec)
            log.info("Service created", service=spec.name, reason="it did not exist")

    def _stack(self, pool: Pool, image: str, node_id: str, docker_engine: DockerEngine) -> Stack:
        """Return the pool's stack, with the node of each manager if it has several."""
        nodes: list[str] = []
        if pool.managers > 1:
            nodes = manager_nodes(pool, docker_engine, self._swarm.nodes())
        return Stack(pool=pool, image=image, node_id=node_id, manager_nodes=tuple(nodes))

    def _ensure_managers(
        self, stack: Stack, existing: Mapping[str, ServiceState], failures: TaskFailures
    ) -> None:
        """Create or move the managers. Several must share one spool that locks."""
        for spec in (specs := stack.central_managers()):
            self._ensure_service(spec, existing)
        if len(specs) == 1:
            return
        move_managers(specs, existing, self._swarm, self._progress)
        try:
            check_spool(self.pool, self._swarm, self._waiter, failures, specs)
        except PreconditionError as error:
            created = [spec.name for spec in specs if spec.name not in existing]
            if len(created) == len(specs):
                remove_unchecked(self._swarm, created, error)
            raise

    def _remove_dropped_services(self, existing: Mapping[str, ServiceState]) -> None:
        """Remove the services of classes and managers that the configuration no longer has."""
        first = self.pool.service()
        dropped = sorted(
            name
            for name, service in existing.items()
            if (
                CLASS_LABEL in service.labels
                and service.labels[CLASS_LABEL] not in self.pool.classes
            )
            or (name.startswith(f"{first}-manager-") and name not in self.pool.manager_services)
        )
        if dropped:
            self._progress(f"removing {', '.join(dropped)}: the configuration no longer has it")
            self._swarm.remove_services(dropped)
        for name in dropped:
            log.info("Service removed", service=name, reason="not in the configuration")

    def _roll_out(
        self, stack: Stack, docker_engine: DockerEngine, timeout_s: float | None
    ) -> list[ServiceSpec]:
        """Update the services that differ from the stack's specs, and return their specs.

        The manager is last, so that a bad image fails on an executor and not on the queue. Of
        several managers, the one that has the queue is last.
        """
        managers = list(stack.central_managers())
        if len(managers) > 1:
            holder = self._inspector.observe().manager
            managers.sort(key=lambda spec: holder is not None and spec.name == holder.service)
        specs = [*stack.executors().values(), *managers]
        changed = outdated_services(self._services(), specs)
        for spec in changed:
            if CLASS_LABEL not in spec.labels:
                self._jobs.wait_for_stable_slots()
            Rollout(
                spec,
                self._swarm,
                self._inspector.observe,
                self._waiter,
                docker_engine.nodes,
                self._readiness_timeout_s,
            ).run(timeout_s)
        return changed

    def _services(self) -> dict[str, ServiceState]:
        return self._waiter.retry_while_unreachable(lambda: self._swarm.services(self.pool.name))
