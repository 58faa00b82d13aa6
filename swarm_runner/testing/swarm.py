"""A Swarm in memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from swarm_runner.errors import ChangedError, OutOfReachError, RefusedError
from swarm_runner.model.stack import CLASS_LABEL, POOL_LABEL, WISH_LABEL, ServiceWish
from swarm_runner.model.status import EngineState, ServiceState, TaskState
from swarm_runner.testing.belongings import FakeBelongings
from swarm_runner.testing.placement import host_for
from swarm_runner.testing.pool import FakePool

NODE = "swarm-1"


class FakeSwarm(FakePool, FakeBelongings):
    """Satisfies `swarm.port.Swarm`: `nodes` hosts, tasks that need one look to start or end.

    `in_swarm` and `manager` set its part in a Swarm, `reachable` whether it answers at all.
    `failing` maps a service, an image or a host to the error with which its tasks fail to start,
    `full` a service to the reason why no node takes another task. While `tight`, a task's
    successor finds no room but where it was. An update replaces one task with every
    look at the tasks. `nameless` is a kernel that cannot do what service names need. What HTCondor
    would say of the tasks is `FakePool`'s.
    """

    def __init__(self, *, in_swarm: bool = True, manager: bool = True) -> None:
        self.in_swarm = in_swarm
        self.manager = manager
        super().__init__()
        self.reachable = True
        self.nameless = self.tight = False
        self.host, self.nodes, self.name = "", 1, NODE
        self.failing: dict[str, str] = {}
        self.full: dict[str, str] = {}
        self._made_here = False
        self._services: dict[str, tuple[ServiceWish, ServiceState]] = {}
        self._tasks: list[TaskState] = []
        self._wishes: dict[str, ServiceWish] = {}
        # Of each update: whether it is paced, and the tasks that it has started.
        self._updates: dict[str, tuple[bool, set[str]]] = {}
        self._numbers = itertools.count(1)
        self._versions = itertools.count(1)

    def engine(self) -> EngineState:
        """See `Swarm.engine`. `host`, `nodes` and `name` are of the engine that is asked."""
        if not self.reachable:
            raise OutOfReachError("the Docker engine does not answer (a fake one)")
        active = self.in_swarm
        return EngineState(
            name=self.name,
            version="28.0.0",
            swarm=active,
            manager=active and self.manager,
            node_id=self.name.replace("swarm", "node") if active else "",
            address="127.0.0.1" if active else "",
            nodes=self.nodes if active else 0,
            host=self.host,
        )

    def initialise(self, address: str) -> None:
        """See `Swarm.initialise`."""
        if self.in_swarm:
            raise RefusedError(f"making a Swarm at {address}: this node is part of one already")
        self.in_swarm = self._made_here = True

    def leave(self) -> None:
        """See `Swarm.leave`."""
        self.in_swarm = self._made_here = False

    def initialised_here(self) -> bool:
        """See `Swarm.initialised_here`."""
        self.answer()
        return self._made_here and not self._services

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
        self.answer()
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
            self._roll(name)
        seen = [task for task in self._tasks if task.service in services]
        self._tasks = [self._step(task) for task in self._tasks]
        remembered = ("failed", "complete")
        self._tasks = [t for t in self._tasks if not t.gone or t.state in remembered]
        return seen

    def create_service(self, wish: ServiceWish) -> None:
        """See `Swarm.create_service`."""
        self.answer()
        if wish.name in self._services:
            raise RefusedError(f"creating service {wish.name}: the name is taken")
        if wish.secret.name not in self._secrets:
            raise RefusedError(f"creating service {wish.name}: no secret {wish.secret.name}")
        self._wishes[wish.digest()] = wish
        self._services[wish.name] = (wish, self._state(wish, wish.replicas))

    def deploy(self, wish: ServiceWish) -> None:
        """A service that somebody else makes, as by `docker stack deploy`."""
        self.create_service(wish)
        made = self._services[wish.name][1]
        foreign = made.model_copy(update={"labels": dict(wish.labels)})
        self._services[wish.name] = (wish, foreign)

    def update_service(self, wish: ServiceWish, pace_s: int = 0) -> None:
        """See `Swarm.update_service`."""
        self.answer()
        replicas = self._services[wish.name][1].replicas
        self._wishes[wish.digest()] = wish
        state = self._state(wish, replicas)
        if any(task.wish != wish.digest() for task in self._living(wish.name)):
            state = state.model_copy(update={"update": "updating"})
        self._services[wish.name] = (wish, state)
        self._updates[wish.name] = (pace_s > 0, set())

    def service_spec(self, name: str) -> Mapping[str, Any]:
        """See `Swarm.service_spec`."""
        self.answer()
        if name not in self._services:
            raise RefusedError(f"asking about service {name}: no such service")
        return {"wish": self._services[name][0]}

    def restore_service(self, name: str, spec: Mapping[str, Any]) -> None:
        """See `Swarm.restore_service`."""
        self.update_service(spec["wish"].model_copy(update={"name": name}))

    def scale_service(self, name: str, replicas: int, version: int | None = None) -> None:
        """See `Swarm.scale_service`."""
        self.answer()
        if name not in self._services:
            raise RefusedError(f"scaling service {name}: no such service")
        wish, present = self._services[name]
        if version not in (None, present.version):
            raise ChangedError(f"scaling service {name}: somebody changed it meanwhile")
        kept = {"replicas": replicas, "version": next(self._versions)}
        self._services[name] = (wish, present.model_copy(update=kept))

    def remove_services(self, names: Sequence[str]) -> None:
        """See `Swarm.remove_services`."""
        self.answer()
        for name in names:
            self._services.pop(name, None)
        self._tasks = [task for task in self._tasks if task.service in self._services]

    def run_in(self, service: str, command: Sequence[str]) -> bytes | None:
        """See `Swarm.run_in`. condor_token_create prints a token, others nothing."""
        self.answer()
        if service not in self._services or self.name != NODE:
            return None
        if command[0] == "condor_off":
            self.retire(command[-1])
            return b""
        if "condor_token_create" not in command:
            if self.nameless:
                raise RefusedError(f"{command[0]} in {service} ended with 1: No route to host")
            return b""
        self.tokens_made.append(tuple(command))
        return b"a.fake.token\n"

    def lose_node_of(self, task: str) -> None:
        """Its node goes down: Swarm replaces the task, and HTCondor keeps its last words."""
        self._tasks = [
            _leaving(one).model_copy(update={"node_down": True}) if one.id == task else one
            for one in self._tasks
        ]

    def _state(self, wish: ServiceWish, replicas: int) -> ServiceState:
        return ServiceState(
            name=wish.name,
            image=wish.image,
            replicas=replicas,
            labels=dict(wish.labels) | {WISH_LABEL: wish.digest()},
            version=next(self._versions),
            environment=wish.environment,
        )

    def running_executors(self) -> Iterator[tuple[TaskState, ServiceWish]]:
        """See `FakePool.running_executors`."""
        for task in self._tasks:
            if task.state == "running" and task.service in self._services:
                wish = self._wishes[task.wish]
                if CLASS_LABEL in wish.labels:
                    yield task, wish

    def answer(self) -> None:
        """See `FakePool.answer`."""
        self.engine()
        if not (self.in_swarm and self.manager):
            raise OutOfReachError("this node is not a swarm manager")

    def _reconcile(self, name: str) -> None:
        wanted = self._services[name][1].replicas
        mine = self._living(name)
        for task in mine[wanted:]:
            self._end(task)
        taken = {task.slot for task in mine}
        free = (slot for slot in itertools.count(1) if slot not in taken)
        for slot in itertools.islice(free, max(wanted - len(mine), 0)):
            self._start(name, slot)

    def _roll(self, name: str) -> None:
        """Take an update one step further."""
        wish, state = self._services[name]
        if state.update != "updating":
            return
        paced, started = self._updates[name]
        fresh = [task for task in self._tasks if task.id in started]
        old = [task for task in self._living(name) if task.wish != wish.digest()]
        if broken := [task for task in fresh if task.failed]:
            said = f"update paused due to failure or early termination of task {broken[0].id}"
            state = state.model_copy(update={"update": "paused", "update_message": said})
        elif not old:
            state = state.model_copy(update={"update": "completed"})
        elif not (paced and fresh) and all(task.state == "running" for task in fresh):
            self._end(old[0])
            started.add(self._start(name, old[0].slot))
        self._services[name] = (wish, state)

    def _living(self, name: str) -> list[TaskState]:
        return [t for t in self._tasks if t.service == name and not t.going and not t.gone]

    def _end(self, task: TaskState) -> None:
        self._tasks[self._tasks.index(task)] = _leaving(task)

    def _host(self, name: str, slot: int) -> str:
        pinned = self._services[name][0].node_id
        if pinned:
            return pinned.replace("node", "swarm")
        before = [t.node for t in self._tasks if (t.service, t.slot) == (name, slot)]
        if self.tight and before:
            return before[-1]
        return host_for(name, [f"swarm-{n}" for n in range(1, self.nodes + 1)], self._tasks)

    def _start(self, name: str, slot: int) -> str:
        number = next(self._numbers)
        self._tasks.append(
            TaskState(
                id=f"task{number:08}",
                service=name,
                slot=slot,
                node=self._host(name, slot),
                container=f"{number:012x}",
                state="pending" if name in self.full else "starting",
                error=self.full.get(name, ""),
                desired="running",
                created_at=f"2026-01-01T00:{number // 60:02}:{number % 60:02}Z",
                wish=self._services[name][0].digest(),
            )
        )
        return self._tasks[-1].id

    def _step(self, task: TaskState) -> TaskState:
        if task.gone or task.lost:
            return task
        if task.id in self.retiring and task.id not in self.busy:
            return task.model_copy(update={"state": "complete", "desired": "shutdown"})
        if task.going and task.id not in self.busy:
            return task.model_copy(update={"state": "shutdown"})
        if task.state == "pending" and task.service not in self.full:
            return task.model_copy(update={"state": "starting", "error": ""})
        if task.state == "starting":
            image = self._wishes[task.wish].image
            causes = (task.service, image, task.node)
            error = next((self.failing[c] for c in causes if c in self.failing), None)
            if error is not None:
                return task.model_copy(
                    update={"state": "failed", "desired": "shutdown", "error": error}
                )
            return task.model_copy(update={"state": "running"})
        return task


def _leaving(task: TaskState) -> TaskState:
    return task.model_copy(update={"desired": "shutdown"})
