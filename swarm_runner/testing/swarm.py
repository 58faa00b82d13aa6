"""A Swarm in memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from swarm_runner.errors import ConflictError, PreconditionError, UnreachableError
from swarm_runner.model.pool_status import DockerEngine, ServiceState, TaskState
from swarm_runner.swarm.specs import CLASS_LABEL, POOL_LABEL, SPEC_DIGEST_LABEL, ServiceSpec
from swarm_runner.testing.placement import choose_host
from swarm_runner.testing.pool import FakePool
from swarm_runner.testing.resources import FakeResources

DEFAULT_NODE = "swarm-1"


class FakeSwarm(FakePool, FakeResources):
    """Satisfies `swarm.port.Swarm`: `nodes` hosts, tasks that need one look to start or end.

    `in_swarm` and `manager` set its part in a Swarm, `reachable` whether it answers at all.
    `failing` maps a service, an image or a host to the error with which its tasks fail to start,
    `full` a service to the reason why no node takes another task. While `tight`, a task's
    successor finds no room but where it was. An update replaces one task with every
    look at the tasks. `nameless` is a kernel that cannot do what service names need. What HTCondor
    would say of the tasks is `FakePool`'s.
    """

    def __init__(self, *, in_swarm: bool = True, swarm_manager: bool = True) -> None:
        self.in_swarm = in_swarm
        self.swarm_manager = swarm_manager
        super().__init__()
        self.reachable = True
        self.no_ip_vs = self.pinned = False
        self.docker_host, self.node_count, self.engine_name = "", 1, DEFAULT_NODE
        self.start_errors: dict[str, str] = {}
        self.unschedulable: dict[str, str] = {}
        self._initialised_here = False
        self._services: dict[str, tuple[ServiceSpec, ServiceState]] = {}
        self._tasks: list[TaskState] = []
        self._specs: dict[str, ServiceSpec] = {}
        # Of each update: whether it is paced, and the tasks that it has started.
        self._updates: dict[str, tuple[bool, set[str]]] = {}
        self._task_numbers = itertools.count(1)
        self._versions = itertools.count(1)

    def docker_engine(self) -> DockerEngine:
        """See `Swarm.engine`. `host`, `nodes` and `name` are of the engine that is asked."""
        if not self.reachable:
            raise UnreachableError("the Docker engine does not answer (a fake one)")
        active = self.in_swarm
        return DockerEngine(
            name=self.engine_name,
            version="28.0.0",
            swarm=active,
            swarm_manager=active and self.swarm_manager,
            node_id=self.engine_name.replace("swarm", "node") if active else "",
            address="127.0.0.1" if active else "",
            nodes=self.node_count if active else 0,
            host=self.docker_host,
        )

    def initialise(self, address: str) -> None:
        """See `Swarm.initialise`."""
        if self.in_swarm:
            raise PreconditionError(
                f"making a Swarm at {address}: this node is part of one already"
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
        self, wanted: str | None, progress: Callable[[str], None], *, virtual_machines: bool = False
    ) -> str:
        """See `Swarm.pool_image`."""
        progress("taking the image")
        variant = "pool-vm" if virtual_machines else "pool"
        return wanted or f"swarm-runner-{variant}:fake"

    def autoscaler_image(self, base: str, progress: Callable[[str], None]) -> str:
        """See `Swarm.autoscaler_image`."""
        progress("taking the autoscaler's image")
        return f"swarm-runner-autoscaler:on-{base.partition(':')[2]}"

    def services(self, pool: str) -> dict[str, ServiceState]:
        """See `Swarm.services`."""
        self.check_reachable()
        return {
            name: state
            for name, (wish, state) in self._services.items()
            if wish.labels[POOL_LABEL] == pool
        }

    def tasks(self, pool: str) -> list[TaskState]:
        """See `Swarm.tasks`. Each call lets a little time pass."""
        services = self.services(pool)
        for name in services:
            self._reconcile(name)
            self._advance_update(name)
        seen = [task for task in self._tasks if task.service in services]
        self._tasks = [self._advance_task(task) for task in self._tasks]
        remembered = ("failed", "complete")
        self._tasks = [t for t in self._tasks if not t.stopped or t.state in remembered]
        return seen

    def create_service(self, spec: ServiceSpec) -> None:
        """See `Swarm.create_service`."""
        self.check_reachable()
        if spec.name in self._services:
            raise PreconditionError(f"creating service {spec.name}: the name is taken")
        if spec.secret.name not in self._secrets:
            raise PreconditionError(f"creating service {spec.name}: no secret {spec.secret.name}")
        self._specs[spec.digest()] = spec
        self._services[spec.name] = (spec, self._service_state(spec, spec.replicas))

    def deploy(self, spec: ServiceSpec) -> None:
        """A service that somebody else makes, as by `docker stack deploy`."""
        self.create_service(spec)
        made = self._services[spec.name][1]
        foreign = made.model_copy(update={"labels": dict(spec.labels)})
        self._services[spec.name] = (spec, foreign)

    def update_service(self, spec: ServiceSpec, update_delay_s: int = 0) -> None:
        """See `Swarm.update_service`."""
        self.check_reachable()
        replicas = self._services[spec.name][1].replicas
        self._specs[spec.digest()] = spec
        state = self._service_state(spec, replicas)
        if any(task.wish != spec.digest() for task in self._live_tasks(spec.name)):
            state = state.model_copy(update={"update": "updating"})
        self._services[spec.name] = (spec, state)
        self._updates[spec.name] = (update_delay_s > 0, set())

    def service_spec(self, name: str) -> Mapping[str, Any]:
        """See `Swarm.service_spec`."""
        self.check_reachable()
        if name not in self._services:
            raise PreconditionError(f"asking about service {name}: no such service")
        return {"spec": self._services[name][0]}

    def restore_service(self, name: str, spec: Mapping[str, Any]) -> None:
        """See `Swarm.restore_service`."""
        self.update_service(spec["spec"].model_copy(update={"name": name}))

    def scale_service(self, name: str, replicas: int, version: int | None = None) -> None:
        """See `Swarm.scale_service`."""
        self.check_reachable()
        if name not in self._services:
            raise PreconditionError(f"scaling service {name}: no such service")
        wish, present = self._services[name]
        if version not in (None, present.version):
            raise ConflictError(f"scaling service {name}: somebody changed it meanwhile")
        kept = {"replicas": replicas, "version": next(self._versions)}
        self._services[name] = (wish, present.model_copy(update=kept))

    def remove_services(self, names: Sequence[str]) -> None:
        """See `Swarm.remove_services`."""
        self.check_reachable()
        for name in names:
            self._services.pop(name, None)
        self._tasks = [task for task in self._tasks if task.service in self._services]

    def exec_in_service(self, service: str, command: Sequence[str]) -> bytes | None:
        """See `Swarm.run_in`. condor_token_create prints a token, others nothing."""
        self.check_reachable()
        if service not in self._services or self.engine_name != DEFAULT_NODE:
            return None
        if command[0] == "condor_off":
            self.retire(command[-1])
            return b""
        if "condor_token_create" not in command:
            if self.no_ip_vs:
                raise PreconditionError(f"{command[0]} in {service} ended with 1: No route to host")
            return b""
        self.token_commands.append(tuple(command))
        return b"a.fake.token\n"

    def mark_node_down(self, task_id: str) -> None:
        """Its node goes down: Swarm replaces the task, and HTCondor keeps its last words."""
        self._tasks = [
            _with_shutdown_desired(one).model_copy(update={"node_down": True})
            if one.id == task_id
            else one
            for one in self._tasks
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
                wish = self._specs[task.wish]
                if CLASS_LABEL in wish.labels:
                    yield task, wish

    def check_reachable(self) -> None:
        """See `FakePool.answer`."""
        self.docker_engine()
        if not (self.in_swarm and self.swarm_manager):
            raise UnreachableError("this node is not a swarm manager")

    def _reconcile(self, name: str) -> None:
        wanted = self._services[name][1].replicas
        mine = self._live_tasks(name)
        for task in mine[wanted:]:
            self._stop_task(task)
        taken = {task.slot for task in mine}
        free = (slot for slot in itertools.count(1) if slot not in taken)
        for slot in itertools.islice(free, max(wanted - len(mine), 0)):
            self._start_task(name, slot)

    def _advance_update(self, name: str) -> None:
        """Take an update one step further."""
        wish, state = self._services[name]
        if state.update != "updating":
            return
        paced, started = self._updates[name]
        fresh = [task for task in self._tasks if task.id in started]
        old = [task for task in self._live_tasks(name) if task.wish != wish.digest()]
        if broken := [task for task in fresh if task.failed]:
            said = f"update paused due to failure or early termination of task {broken[0].id}"
            state = state.model_copy(update={"update": "paused", "update_message": said})
        elif not old:
            state = state.model_copy(update={"update": "completed"})
        elif not (paced and fresh) and all(task.state == "running" for task in fresh):
            self._stop_task(old[0])
            started.add(self._start_task(name, old[0].slot))
        self._services[name] = (wish, state)

    def _live_tasks(self, name: str) -> list[TaskState]:
        return [t for t in self._tasks if t.service == name and not t.stopping and not t.stopped]

    def _stop_task(self, task: TaskState) -> None:
        self._tasks[self._tasks.index(task)] = _with_shutdown_desired(task)

    def _choose_host(self, name: str, slot: int) -> str:
        pinned = self._services[name][0].node_id
        if pinned:
            return pinned.replace("node", "swarm")
        before = [t.node for t in self._tasks if (t.service, t.slot) == (name, slot)]
        if self.pinned and before:
            return before[-1]
        return choose_host(name, [f"swarm-{n}" for n in range(1, self.node_count + 1)], self._tasks)

    def _start_task(self, name: str, slot: int) -> str:
        number = next(self._task_numbers)
        self._tasks.append(
            TaskState(
                id=f"task{number:08}",
                service=name,
                slot=slot,
                node=self._choose_host(name, slot),
                container=f"{number:012x}",
                state="pending" if name in self.unschedulable else "starting",
                error=self.unschedulable.get(name, ""),
                desired="running",
                created_at=f"2026-01-01T00:{number // 60:02}:{number % 60:02}Z",
                wish=self._services[name][0].digest(),
            )
        )
        return self._tasks[-1].id

    def _advance_task(self, task: TaskState) -> TaskState:
        if task.stopped or task.lost:
            return task
        if task.id in self.retiring and task.id not in self.busy_tasks:
            return task.model_copy(update={"state": "complete", "desired": "shutdown"})
        if task.stopping and task.id not in self.busy_tasks:
            return task.model_copy(update={"state": "shutdown"})
        if task.state == "pending" and task.service not in self.unschedulable:
            return task.model_copy(update={"state": "starting", "error": ""})
        if task.state == "starting":
            image = self._specs[task.wish].image
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
