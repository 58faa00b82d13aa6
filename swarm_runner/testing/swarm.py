"""A Docker Swarm in memory, for tests."""

from __future__ import annotations

import base64
import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from swarm_runner.errors import ConflictError, PreconditionError, UnreachableError
from swarm_runner.model.pool_status import (
    AddressSpace,
    DockerEngine,
    ServiceState,
    SwarmNode,
    TaskState,
)
from swarm_runner.provisioner.subnets import capacity
from swarm_runner.swarm.global_job import GlobalJobResult
from swarm_runner.swarm.specs import (
    CLASS_LABEL,
    IDENTITIES_PROGRAM,
    POOL_LABEL,
    QUEUE_LOCK_PROGRAM,
    SPEC_DIGEST_LABEL,
    ServiceSpec,
    Stack,
)
from swarm_runner.testing.spool import FakeSpool

DEFAULT_NODE = "swarm-1"
# Swarm avoids a node on which this many tasks of a service failed recently.
MAX_TASK_FAILURES = 5


class FakeSwarm(FakeSpool):
    """Implements `swarm.ports.Swarm`, and `condor.pool_query.PoolQueryPort` through `FakePool`.

    The spool is that of `FakeSpool`.

    Time passes with every call of `tasks`: a task starts or stops, and a rolling update replaces
    one task. Set these attributes to change the behaviour:

    - `in_swarm`, `swarm_manager`: the engine's role in a Swarm.
    - `reachable`: whether the engine answers.
    - `engine_name`, `docker_host`, `node_count`: the engine, and the size of its Swarm.
    - `engine_version`, `memory_limit`, `rootless`: Docker's version, whether the kernel limits
      memory, and whether the engine runs without root.
    - `other_nodes`: the Swarm's nodes beside the engine's own.
    - `start_errors`: maps a service, an image or a host to the error that its tasks fail with.
    - `unschedulable`: maps a service to the reason why no node accepts another task of it.
    - `lingering`: IDs of tasks whose containers do not stop while they are in the set.
    - `pinned`: a task's successor runs on the same host.
    - `no_ip_vs`: the kernel does not support virtual IP addresses of services.
    - `unreachable_nodes`: the hosts on which `remove_volumes` and `manage_job_images` fail.

    `volume_removals` records the calls of `remove_volumes`, `image_commands` those of
    `manage_job_images`.
    """

    def __init__(self, *, in_swarm: bool = True, swarm_manager: bool = True) -> None:
        super().__init__()
        self.in_swarm = in_swarm
        self.swarm_manager = swarm_manager
        self.reachable = True
        self.no_ip_vs = self.pinned = False
        self.docker_host, self.node_count, self.engine_name = "", 1, DEFAULT_NODE
        self.engine_version, self.memory_limit, self.rootless = "28.0.0", True, False
        self.other_nodes: list[SwarmNode] = []
        self.start_errors: dict[str, str] = {}
        self.unschedulable: dict[str, str] = {}
        self.lingering: set[str] = set()
        self.volume_removals: list[tuple[str, str, tuple[str, ...]]] = []
        self.image_commands: list[tuple[str, tuple[str, ...]]] = []
        self._initialised_here = False
        self._down_nodes: set[str] = set()
        self._networks: dict[str, str] = {}  # the owning pool, by name
        self._subnets: dict[str, str] = {}  # of the networks
        self.used_subnets: tuple[tuple[str, str], ...] = (("ingress", "10.0.0.0/24"),)
        self._secrets: dict[str, str] = {}
        self._configs: dict[str, str] = {}  # the owning pool, by name
        self._services: dict[str, tuple[ServiceSpec, ServiceState]] = {}
        self._tasks: list[TaskState] = []
        self._specs: dict[str, ServiceSpec] = {}  # every spec that a service ever had, by digest
        # For each update: whether Swarm waits between tasks, and the tasks that it has started.
        self._updates: dict[str, tuple[bool, set[str]]] = {}
        self._task_numbers = itertools.count(1)
        self._versions = itertools.count(1)

    def docker_engine(self) -> DockerEngine:
        """See `Swarm.docker_engine`."""
        if not self.reachable:
            raise UnreachableError("the Docker engine does not answer (FakeSwarm)")
        active = self.in_swarm
        return DockerEngine(
            name=self.engine_name,
            version=self.engine_version,
            swarm=active,
            swarm_manager=active and self.swarm_manager,
            node_id=self.engine_name.replace("swarm", "node") if active else "",
            address="127.0.0.1" if active else "",
            nodes=self.node_count if active else 0,
            managers=1 if active else 0,
            host=self.docker_host,
            memory_limit=self.memory_limit,
            rootless=self.rootless,
        )

    def nodes(self) -> list[SwarmNode]:
        """See `Swarm.nodes`."""
        self.check_reachable()
        own = [
            SwarmNode(
                id=f"node-{number}",
                name=f"swarm-{number}",
                address=f"192.0.2.{number}",
                ready=f"swarm-{number}" not in self._down_nodes,
                engine_version=self.docker_engine().version,
                architecture="x86_64",
            )
            for number in range(1, self.node_count + 1)
        ]
        return sorted([*own, *self.other_nodes], key=lambda node: node.name)

    def initialise(self, address: str) -> None:
        """See `Swarm.initialise`."""
        if self.in_swarm:
            raise PreconditionError(
                f"creating a Swarm at {address}: this node is already part of a Swarm"
            )
        self.in_swarm = self._initialised_here = True

    def leave(self) -> None:
        """See `Swarm.leave`."""
        self.in_swarm = self._initialised_here = False

    def initialised_here(self) -> bool:
        """See `Swarm.initialised_here`."""
        self.check_reachable()
        return self._initialised_here and not self._services

    def pool_image(
        self, image: str | None, progress: Callable[[str], None], *, virtual_machines: bool = False
    ) -> str:
        """See `Swarm.pool_image`."""
        progress("finding the pool image")
        variant = "pool-vm" if virtual_machines else "pool"
        return image or f"swarm-runner-{variant}:fake"

    def autoscaler_image(
        self, image: str | None, base: str, progress: Callable[[str], None]
    ) -> str:
        """See `Swarm.autoscaler_image`."""
        progress("finding the autoscaler image")
        return image or f"swarm-runner-autoscaler:on-{base.partition(':')[2]}"

    def services(self, pool: str) -> dict[str, ServiceState]:
        """See `Swarm.services`."""
        self.check_reachable()
        return {
            name: state
            for name, (spec, state) in self._services.items()
            if spec.labels[POOL_LABEL] == pool
        }

    def tasks(self, pool: str) -> list[TaskState]:
        """See `Swarm.tasks`. Each call lets time pass."""
        services = self.services(pool)
        for name in services:
            self._reconcile(name)
            self._advance_update(name)
        tasks = [task for task in self._tasks if task.service in services]
        for position, task in enumerate(self._tasks):
            self._tasks[position] = self._advance_task(task)
        self._tasks = [t for t in self._tasks if not t.stopped or t.state in ("failed", "complete")]
        return tasks

    def create_service(self, spec: ServiceSpec) -> None:
        """See `Swarm.create_service`."""
        self.check_reachable()
        if spec.name in self._services:
            raise PreconditionError(f"creating service {spec.name}: the name is in use")
        for secret in spec.secrets:
            if secret.name not in self._secrets:
                raise PreconditionError(f"service {spec.name}: secret {secret.name} does not exist")
        self._specs[spec.digest()] = spec
        self._services[spec.name] = (spec, self._service_state(spec, spec.replicas))

    def deploy(self, spec: ServiceSpec) -> None:
        """Create a service without a digest label, as `docker stack deploy` does."""
        self.create_service(spec)
        state = self._services[spec.name][1].model_copy(update={"labels": dict(spec.labels)})
        self._services[spec.name] = (spec, state)

    def update_service(self, spec: ServiceSpec, update_delay_s: int = 0) -> None:
        """See `Swarm.update_service`."""
        self.check_reachable()
        replicas = self._services[spec.name][1].replicas
        self._specs[spec.digest()] = spec
        state = self._service_state(spec, replicas)
        if any(task.spec_digest != spec.digest() for task in self._live_tasks(spec.name)):
            state = state.model_copy(update={"update": "updating"})
        self._services[spec.name] = (spec, state)
        self._updates[spec.name] = (update_delay_s > 0, set())

    def service_spec(self, name: str) -> Mapping[str, Any]:
        """See `Swarm.service_spec`."""
        self.check_reachable()
        if name not in self._services:
            raise PreconditionError(f"inspecting service {name}: no such service")
        return {"spec": self._services[name][0]}

    def restore_service(self, name: str, spec: Mapping[str, Any]) -> None:
        """See `Swarm.restore_service`."""
        self.update_service(spec["spec"].model_copy(update={"name": name}))

    def scale_service(self, name: str, replicas: int, version: int | None = None) -> None:
        """See `Swarm.scale_service`."""
        self.check_reachable()
        if name not in self._services:
            raise PreconditionError(f"scaling service {name}: no such service")
        spec, state = self._services[name]
        if version not in (None, state.version):
            raise ConflictError(
                f"scaling service {name}: the service changed since it was read; try again"
            )
        change = {"replicas": replicas, "version": next(self._versions)}
        self._services[name] = (spec, state.model_copy(update=change))

    def remove_services(self, names: Sequence[str]) -> None:
        """See `Swarm.remove_services`."""
        self.check_reachable()
        for name in names:
            self._services.pop(name, None)
        self._tasks = [task for task in self._tasks if task.service in self._services]

    def networks(self, pool: str) -> set[str]:
        """See `Swarm.networks`."""
        return {name for name, owner in self._networks.items() if owner == pool}

    def network_subnet(self, name: str) -> str:
        """See `Swarm.network_subnet`."""
        self.check_reachable()
        return self._subnets.get(name, "")

    def address_space(self) -> AddressSpace:
        """See `Swarm.address_space`."""
        self.check_reachable()
        used = (*self.used_subnets, *self._subnets.items())
        return AddressSpace(pools=("10.0.0.0/8",), used=used)

    def create_network(self, name: str, labels: Mapping[str, str], subnet: str) -> None:
        """See `Swarm.create_network`."""
        self._networks[name] = labels[POOL_LABEL]
        self._subnets[name] = subnet

    def secrets(self, pool: str) -> set[str]:
        """See `Swarm.secrets`."""
        return {name for name, owner in self._secrets.items() if owner == pool}

    def create_secret(self, name: str, data: bytes, labels: Mapping[str, str]) -> None:
        """See `Swarm.create_secret`."""
        if not data:
            raise PreconditionError(f"creating secret {name}: its data is empty")
        self._secrets[name] = labels[POOL_LABEL]

    def configs(self, pool: str) -> set[str]:
        """See `Swarm.configs`."""
        return {name for name, owner in self._configs.items() if owner == pool}

    def create_config(self, name: str, data: bytes, labels: Mapping[str, str]) -> None:
        """See `Swarm.create_config`."""
        if name in self._configs:
            raise PreconditionError(f"creating config {name}: it exists")
        if not data:
            raise PreconditionError(f"creating config {name}: its data is empty")
        self._configs[name] = labels[POOL_LABEL]

    def remove_configs(self, names: Sequence[str]) -> None:
        """See `Swarm.remove_configs`."""
        used = {config.name for spec, _ in self._services.values() for config in spec.configs}
        if found := used & set(names):
            raise PreconditionError(f"removing configs: {min(found)} is in use")
        for name in names:
            self._configs.pop(name, None)

    def delete_secret(self, name: str) -> None:
        """Remove a secret, as `docker secret rm` does."""
        del self._secrets[name]

    def remove_pool_resources(self, pool: str, volumes: Sequence[str]) -> None:
        """See `Swarm.remove_pool_resources`."""
        if self.services(pool):
            raise PreconditionError(f"removing {', '.join(volumes)}: they are in use")
        self._networks = {k: owner for k, owner in self._networks.items() if owner != pool}
        self._subnets = {k: s for k, s in self._subnets.items() if k in self._networks}
        self._secrets = {k: owner for k, owner in self._secrets.items() if owner != pool}
        self._configs = {k: owner for k, owner in self._configs.items() if owner != pool}

    def remove_volumes(self, pool: str, image: str, volumes: Sequence[str]) -> list[str]:
        """See `Swarm.remove_volumes`."""
        self.check_reachable()
        self.volume_removals.append((pool, image, tuple(volumes)))
        return list(self.unreachable_nodes)

    def manage_job_images(
        self, stack: Stack, arguments: Sequence[str], timeout_s: float
    ) -> GlobalJobResult:
        """See `Swarm.manage_job_images`. Each pull and each removal succeeds at once."""
        del timeout_s
        self.check_reachable()
        self.image_commands.append((stack.image, tuple(arguments)))
        names = arguments[1:] if arguments[0] == "pull" else ["debian:trixie"]
        done = [{"name": name, "mb": 100, "seconds": 1.0} for name in names]
        report = {"node": DEFAULT_NODE, "images": done, "problems": []}
        return GlobalJobResult(list(self.unreachable_nodes), [json.dumps(report)])

    def exec_in_service(self, service: str, command: Sequence[str]) -> bytes | None:
        """See `Swarm.exec_in_service`. Only programs that create or list tokens print something."""
        self.check_reachable()
        if service not in self._services or self.engine_name != DEFAULT_NODE:
            return None
        if command[0] == "condor_off":
            self.retire(command[-1])
            return b""
        if QUEUE_LOCK_PROGRAM in command:
            return self.spool_state(self._running_managers(), service)
        if IDENTITIES_PROGRAM in command:
            return self._manage_identities(*command[2:])
        if "condor_token_create" not in command:
            if self.no_ip_vs:
                raise PreconditionError(
                    f"running {command[0]} in {service}: exit code 1: No route to host"
                )
            return b""
        self.token_commands.append(tuple(command))
        return b"a.fake.token\n"

    def _manage_identities(self, command: str, *arguments: str) -> bytes:
        if command == "create":
            name, rights, lifetime_s = arguments
            self.token_commands.append((command, *arguments))
            now = int(time.time())
            claims = {"sub": f"{name}@pool", "exp": now + int(lifetime_s)}
            payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
            record = {
                "id": f"{len(self.identity_tokens):032x}",
                "identity": claims["sub"],
                "rights": rights,
                "created_at": now,
                "expires_at": claims["exp"],
                "revoked_at": None,
            }
            self.identity_tokens.append(record)
            return json.dumps(record | {"token": f"fake.{payload}.token"}).encode()
        found = self.identity_tokens
        if command == "revoke":
            (what,) = arguments
            found = [
                token
                for token in found
                if token["revoked_at"] is None
                and what in (token["id"], token["identity"], token["identity"].split("@")[0])
            ]
            for token in found:
                token["revoked_at"] = int(time.time())
        return json.dumps(found).encode()

    def pool_of(self, service: str) -> str:
        """See `FakeSpool.pool_of`."""
        return self._services[service][0].labels[POOL_LABEL]

    def _running_managers(self) -> list[TaskState]:
        return [
            task
            for task in self._tasks
            if task.state == "running" and CLASS_LABEL not in self._services[task.service][0].labels
        ]

    def mark_node_down(self, task_id: str) -> None:
        """Take a task's node down. Swarm replaces the task; its slot stays in the collector."""
        self._down_nodes |= {task.node for task in self._tasks if task.id == task_id}
        self._tasks = [
            _with_shutdown_desired(task).model_copy(update={"node_down": True})
            if task.id == task_id
            else task
            for task in self._tasks
        ]

    def _service_state(self, spec: ServiceSpec, replicas: int) -> ServiceState:
        return ServiceState(
            name=spec.name,
            image=spec.image,
            replicas=replicas,
            labels=dict(spec.labels) | {SPEC_DIGEST_LABEL: spec.digest()},
            version=next(self._versions),
            environment=spec.environment,
        )

    def running_executors(self) -> Iterator[tuple[TaskState, ServiceSpec]]:
        """See `FakePool.running_executors`."""
        for task in self._tasks:
            if task.state == "running" and task.service in self._services:
                spec = self._specs[task.spec_digest]
                if CLASS_LABEL in spec.labels:
                    yield task, spec

    def check_reachable(self) -> None:
        """See `FakePool.check_reachable`."""
        self.docker_engine()
        if not (self.in_swarm and self.swarm_manager):
            raise UnreachableError("this node is not a swarm manager")

    def _reconcile(self, name: str) -> None:
        replicas = self._services[name][1].replicas
        tasks = self._live_tasks(name)
        for task in tasks[replicas:]:
            self._stop_task(task)
        used_slots = {task.slot for task in tasks}
        free_slots = (slot for slot in itertools.count(1) if slot not in used_slots)
        for slot in itertools.islice(free_slots, max(replicas - len(tasks), 0)):
            self._start_task(name, slot)

    def _advance_update(self, name: str) -> None:
        """Replace at most one task of a rolling update."""
        spec, state = self._services[name]
        if state.update != "updating":
            return
        delayed, started = self._updates[name]
        new = [task for task in self._tasks if task.id in started]
        old = [task for task in self._live_tasks(name) if task.spec_digest != spec.digest()]
        if failed := [task for task in new if task.failed]:
            message = f"update paused due to failure or early termination of task {failed[0].id}"
            state = state.model_copy(update={"update": "paused", "update_message": message})
        elif not old:
            state = state.model_copy(update={"update": "completed"})
        elif not (delayed and new) and all(task.state == "running" for task in new):
            self._stop_task(old[0])
            started.add(self._start_task(name, old[0].slot))
        self._services[name] = (spec, state)

    def _live_tasks(self, name: str) -> list[TaskState]:
        return [t for t in self._tasks if t.service == name and not t.stopping and not t.stopped]

    def _stop_task(self, task: TaskState) -> None:
        self._tasks[self._tasks.index(task)] = _with_shutdown_desired(task)

    def _choose_host(self, name: str, slot: int) -> str:
        """Return the host with the fewest tasks of the service; avoid those that failed them."""
        node_id = self._services[name][0].node_id
        if node_id:
            return node_id.replace("node", "swarm")
        tasks = [task for task in self._tasks if task.service == name]
        predecessors = [task for task in tasks if task.slot == slot]
        if self.pinned and predecessors:
            return predecessors[-1].node
        failed = Counter(task.node for task in tasks if task.failed)
        live = Counter(task.node for task in tasks if not (task.stopping or task.stopped))
        hosts = [f"swarm-{number}" for number in range(1, self.node_count + 1)]
        return min(hosts, key=lambda host: (failed[host] >= MAX_TASK_FAILURES, live[host]))

    def _start_task(self, name: str, slot: int) -> str:
        number = next(self._task_numbers)
        has_address = self._has_free_address(name)
        state = "pending" if name in self.unschedulable else "starting"
        self._tasks.append(
            TaskState(
                id=f"task{number:08}",
                service=name,
                slot=slot,
                node=self._choose_host(name, slot) if has_address else "",
                container=f"{number:012x}" if has_address else "",
                state=state if has_address else "new",
                error=self.unschedulable.get(name, "") if has_address else "",
                desired="running",
                created_at=f"2026-01-01T00:{number // 60:02}:{number % 60:02}Z",
                spec_digest=self._services[name][0].digest(),
            )
        )
        return self._tasks[-1].id

    def _has_free_address(self, service: str) -> bool:
        """Return whether the service's network has an address for another task."""
        network = self._services[service][0].network
        limit = capacity(self._subnets.get(network, ""))
        attached = [
            task
            for task in self._tasks
            if task.node and not task.stopped and self._services[task.service][0].network == network
        ]
        return limit is None or len(attached) + len({task.node for task in attached}) < limit

    def _advance_task(self, task: TaskState) -> TaskState:
        if task.stopped or task.lost:
            return task
        if task.state == "new":
            if task.stopping:
                return task.model_copy(update={"state": "shutdown"})
            if not self._has_free_address(task.service):
                return task
            placed = {
                "state": "starting",
                "node": self._choose_host(task.service, task.slot),
                "container": task.id.removeprefix("task").rjust(12, "0"),
            }
            return task.model_copy(update=placed)
        if task.id in self.retiring and task.id not in self.busy_tasks:
            return task.model_copy(update={"state": "complete", "desired": "shutdown"})
        if task.stopping and task.id not in self.busy_tasks | self.lingering:
            return task.model_copy(update={"state": "shutdown"})
        if task.state == "pending" and task.service not in self.unschedulable:
            return task.model_copy(update={"state": "starting", "error": ""})
        if task.state == "starting":
            image = self._specs[task.spec_digest].image
            causes = (task.service, image, task.node)
            error = next((self.start_errors[c] for c in causes if c in self.start_errors), None)
            if error is not None:
                return task.model_copy(
                    update={"state": "failed", "desired": "shutdown", "error": error}
                )
            return task.model_copy(update={"state": "running"})
        return task


def _with_shutdown_desired(task: TaskState) -> TaskState:
    return task.model_copy(update={"desired": "shutdown"})
