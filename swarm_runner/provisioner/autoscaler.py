"""Sizes the classes of a pool, round after round: observe, decide, act."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

import pluggy

from swarm_runner.condor.view import PoolView
from swarm_runner.errors import ChangedError, OutOfReachError, RefusedError
from swarm_runner.model.demand import ClassStatus, Decision, Scaling, SizedClass
from swarm_runner.model.health import Mending
from swarm_runner.model.pool import Pool
from swarm_runner.model.status import PoolStatus, ServiceState
from swarm_runner.policy.sizing import decided
from swarm_runner.provisioner.health import Health
from swarm_runner.provisioner.observer import Observer
from swarm_runner.swarm.port import Swarm

INTERVAL_S = 2.0
# A round may take at most this part of the time: a large pool is looked at less often.
SHARE = 0.2

Step = Scaling | Mending


class Autoscaler:
    """Sizes one pool. It keeps no state that matters: another one may go on at any time.

    Several at once do no harm: a service that changed since it was looked at is left alone, and
    looked at again. Without `act` it changes nothing.
    """

    def __init__(
        self,
        pool: Pool,
        swarm: Swarm,
        view: PoolView,
        plugins: pluggy.PluginManager,
        *,
        act: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._pool = pool
        self._swarm = swarm
        self._hook = plugins.hook
        self._act = act
        self._clock = clock
        self._observer = Observer(pool, swarm, view, clock)
        self._health = Health(pool, swarm, view, act=act, clock=clock)
        self._sized = {name: SizedClass.of(name, shape) for name, shape in pool.classes.items()}
        self._before: PoolStatus | None = None
        self._replicas: dict[str, int] = {}

    def run(
        self,
        tell: Callable[[Step], None],
        stop: threading.Event,
        interval_s: float = INTERVAL_S,
    ) -> None:
        """Round after round, until `stop` is set; `tell` gets each step.

        Raises OutOfReachError when the Swarm does not answer at first: it may be the wrong one.
        What does not answer later changes nothing, and is asked again.
        """
        self._swarm.services(self._pool.name)
        while not stop.is_set():
            began = time.monotonic()
            for step in self.round():
                tell(step)
            took_s = time.monotonic() - began
            stop.wait(max(interval_s, took_s * (1 / SHARE - 1)))

    def round(self) -> list[Step]:
        """Look, decide about each class, act; have executors that do not work replaced.

        What does not answer changes nothing.
        """
        try:
            look = self._observer.look()
        except (OutOfReachError, RefusedError) as error:
            return [self._blind(name, str(error)) for name in self._pool.classes]
        self._tell_change(look.status)
        self._replicas = dict(look.status.replicas)
        scalings = [
            self._size(name, look.classes[name], look.services)
            if name in look.classes
            else self._blind(name, f"service {self._pool.service(name)} is missing")
            for name in self._pool.classes
        ]
        return [*scalings, *self._health.round(look.status)]

    def _size(
        self, name: str, status: ClassStatus, services: Mapping[str, ServiceState]
    ) -> Scaling:
        sized = self._sized[name]
        answer = self._hook.swarm_runner_size_class(capacity_class=sized, status=status)
        decision = decided(answer, sized, status)
        if decision.frozen:
            self._observer.forget(name)
        else:
            self._observer.remember(name, decision.needed)
        scaling = self._scaling(name, status, decision)
        if decision.frozen or decision.wanted == status.replicas:
            return scaling
        if not self._act:
            return scaling.model_copy(update={"done": "shown"})
        service = services[self._pool.service(name)]
        try:
            self._swarm.scale_service(service.name, decision.wanted, service.version)
        except ChangedError as error:
            return scaling.model_copy(update={"done": "changed", "trouble": str(error)})
        except (OutOfReachError, RefusedError) as error:
            return scaling.model_copy(update={"done": "failed", "trouble": str(error)})
        return scaling.model_copy(update={"done": "scaled"})

    def _scaling(self, name: str, status: ClassStatus, decision: Decision) -> Scaling:
        return Scaling(
            time_s=status.time_s,
            pool=self._pool.name,
            capacity_class=name,
            replicas=status.replicas,
            wanted=decision.wanted,
            needed=decision.needed,
            reason=decision.reason,
            frozen=decision.frozen,
            executors=status.executors,
            waiting=sum(request.count for request in status.requests),
            running_jobs=status.running_jobs,
        )

    def _blind(self, name: str, why: str) -> Scaling:
        """Nothing can be seen of the class, and nothing is changed."""
        self._observer.forget(name)
        last = self._replicas.get(name, 0)
        return Scaling(
            time_s=self._clock(),
            pool=self._pool.name,
            capacity_class=name,
            replicas=last,
            wanted=last,
            needed=last,
            reason=why,
            frozen=True,
        )

    def _tell_change(self, after: PoolStatus) -> None:
        before, self._before = self._before, after
        if before is not None and before.outline() != after.outline():
            self._hook.swarm_runner_pool_changed(before=before, after=after)
