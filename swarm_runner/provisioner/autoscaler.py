"""Sizes the classes of a pool, round after round: observe, decide, act."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

import pluggy

from swarm_runner.condor.ports import PoolQueryPort
from swarm_runner.errors import ConflictError, PreconditionError, UnreachableError
from swarm_runner.model.pool import Pool
from swarm_runner.model.pool_status import ExecutorReplacement, PoolStatus, ServiceState
from swarm_runner.model.scaling import ClassSnapshot, ScalingDecision, ScalingLimits, ScalingRecord
from swarm_runner.policy.sizing import resolve_decision
from swarm_runner.provisioner.credentials import Tokens
from swarm_runner.provisioner.health import ExecutorHealthMonitor
from swarm_runner.provisioner.observation import Observer
from swarm_runner.provisioner.waiter import Waiter
from swarm_runner.swarm.ports import Swarm
from swarm_runner.swarm.specs import SPEC_DIGEST_LABEL, Stack

INTERVAL_S = 2.0
# A round may take at most this part of the time: a large pool is looked at less often.
MAX_DUTY_CYCLE = 0.2

AutoscalerRecord = ScalingRecord | ExecutorReplacement


class Autoscaler:
    """Sizes one pool. It keeps no state that matters: another one may go on at any time.

    Several at once do no harm: a service that changed since it was looked at is left alone, and
    looked at again. Without `act` it changes nothing.
    """

    def __init__(
        self,
        pool: Pool,
        swarm: Swarm,
        pool_query: PoolQueryPort,
        plugins: pluggy.PluginManager,
        *,
        dry_run: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._pool = pool
        self._swarm = swarm
        self._hook = plugins.hook
        self._dry_run = dry_run
        self._clock = clock
        self._observer = Observer(pool, swarm, pool_query, clock)
        self._health_monitor = ExecutorHealthMonitor(
            pool, swarm, pool_query, dry_run=dry_run, clock=clock
        )
        self._scaling_limits = {
            name: ScalingLimits.from_capacity_class(name, shape)
            for name, shape in pool.classes.items()
        }
        self._previous_status: PoolStatus | None = None
        self._replicas: dict[str, int] = {}

    def run(
        self,
        report: Callable[[AutoscalerRecord], None],
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
            for step in self.run_once():
                report(step)
            took_s = time.monotonic() - began
            stop.wait(max(interval_s, took_s * (1 / MAX_DUTY_CYCLE - 1)))

    def run_once(self) -> list[AutoscalerRecord]:
        """Look, decide about each class, act; have executors that do not work replaced.

        What does not answer changes nothing.
        """
        try:
            look = self._observer.observe()
        except (UnreachableError, PreconditionError) as error:
            return [self._frozen_record(name, str(error)) for name in self._pool.classes]
        self._notify_change(look.status)
        self._replicas = dict(look.status.replicas)
        scalings = [
            self._scale_class(name, look.classes[name], look.services)
            if name in look.classes
            else self._frozen_record(name, f"service {self._pool.service(name)} is missing")
            for name in self._pool.classes
        ]
        return [*scalings, *self._health_monitor.run_once(look.status)]

    def _scale_class(
        self, name: str, status: ClassSnapshot, services: Mapping[str, ServiceState]
    ) -> ScalingRecord:
        sized = self._scaling_limits[name]
        answer = self._hook.swarm_runner_size_class(capacity_class=sized, status=status)
        decision = resolve_decision(answer, sized, status)
        if decision.frozen:
            self._observer.clear_demand(name)
        else:
            self._observer.record_demand(name, decision.needed)
        scaling = self._scaling_record(name, status, decision)
        if decision.frozen or decision.wanted == status.replicas:
            return scaling
        if self._dry_run:
            return scaling.model_copy(update={"action": "dry_run"})
        service = services[self._pool.service(name)]
        try:
            self._swarm.scale_service(service.name, decision.wanted, service.version)
        except ConflictError as error:
            return scaling.model_copy(update={"action": "conflict", "problem": str(error)})
        except (UnreachableError, PreconditionError) as error:
            return scaling.model_copy(update={"action": "failed", "problem": str(error)})
        return scaling.model_copy(update={"action": "scaled"})

    def _scaling_record(
        self, name: str, status: ClassSnapshot, decision: ScalingDecision
    ) -> ScalingRecord:
        return ScalingRecord(
            time_s=status.time_s,
            pool=self._pool.name,
            capacity_class=name,
            replicas=status.replicas,
            wanted=decision.wanted,
            needed=decision.needed,
            reason=decision.reason,
            frozen=decision.frozen,
            executors=status.executors,
            waiting=sum(request.count for request in status.idle_jobs),
            running_jobs=status.running_jobs,
        )

    def _frozen_record(self, name: str, reason: str) -> ScalingRecord:
        """Nothing can be seen of the class, and nothing is changed."""
        self._observer.clear_demand(name)
        last = self._replicas.get(name, 0)
        return ScalingRecord(
            time_s=self._clock(),
            pool=self._pool.name,
            capacity_class=name,
            replicas=last,
            wanted=last,
            needed=last,
            reason=reason,
            frozen=True,
        )

    def _notify_change(self, after: PoolStatus) -> None:
        before, self._previous_status = self._previous_status, after
        if before is not None and before.fingerprint() != after.fingerprint():
            self._hook.swarm_runner_pool_changed(before=before, after=after)


STOP_TIMEOUT_S = 120.0


def ensure_autoscaler(
    stack: Stack,
    swarm: Swarm,
    tokens: Tokens,
    progress: Callable[[str], None],
    waiter: Waiter,
    enabled: bool | None,
) -> None:
    """Make the service, or bring it to the stack's configuration, or remove it.

    None leaves it to whether there is one. Raises RefusedError when its image cannot be built.
    """
    name = stack.pool.autoscaler
    present = swarm.services(stack.pool.name).get(name)
    if enabled is False or (enabled is None and present is None):
        if present:
            progress(f"removing {name}")
            _stop(stack.pool, swarm, waiter)
        return
    image = swarm.autoscaler_image(stack.image, progress)
    tokens.ensure_autoscaler_token()
    wish = stack.autoscaler(image, swarm.docker_engine().node_id)
    if present is None:
        progress(f"making service {name}")
        swarm.create_service(wish)
    elif present.labels.get(SPEC_DIGEST_LABEL) != wish.digest():
        progress(f"updating service {name}")
        swarm.update_service(wish)


def _stop(pool: Pool, swarm: Swarm, waiter: Waiter) -> None:
    """Remove the service when its task has ended: what is scaled afterwards stays as it is."""
    swarm.scale_service(pool.autoscaler, 0)

    def left() -> bool:
        waiter.report("waiting for the autoscaler to end")
        return any(t.service == pool.autoscaler and not t.stopped for t in swarm.tasks(pool.name))

    waiter.poll_until(left, lambda there: not there, STOP_TIMEOUT_S)
    swarm.remove_services([pool.autoscaler])
