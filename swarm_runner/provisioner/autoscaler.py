"""The autoscaler: the loop that scales a pool's classes, and the service that runs it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from swarm_runner.condor.pool_query import PoolQueryPort
from swarm_runner.errors import ConflictError, PreconditionError, UnreachableError
from swarm_runner.hooks.manager import Hooks
from swarm_runner.model.pool import Pool
from swarm_runner.model.pool_status import ExecutorReplacement, PoolStatus, ServiceState
from swarm_runner.model.scaling import ClassSnapshot, ScalingDecision, ScalingLimits, ScalingRecord
from swarm_runner.provisioner.credentials import Tokens
from swarm_runner.provisioner.health import ExecutorHealthMonitor
from swarm_runner.provisioner.observation import Observer, PoolObservation
from swarm_runner.provisioner.waiter import Waiter
from swarm_runner.structured_log import get_logger
from swarm_runner.swarm.ports import Swarm
from swarm_runner.swarm.specs import SPEC_DIGEST_LABEL, Stack

log = get_logger(__name__)

INTERVAL_S = 2.0
# The share of time spent observing and acting. A large pool is observed less often.
MAX_DUTY_CYCLE = 0.2
STOP_TIMEOUT_S = 120.0

AutoscalerRecord = ScalingRecord | ExecutorReplacement


@dataclass(frozen=True, slots=True)
class AutoscalerRound:
    """One round of an autoscaler: what it observed, and its records.

    `observation` is None when the Swarm did not answer.
    """

    observation: PoolObservation | None
    records: Sequence[AutoscalerRecord]
    ended_s: float
    duration_s: float


class Autoscaler:
    """Scales the classes of one pool, and replaces its unhealthy executors.

    It stores nothing that a restarted autoscaler would need. Several may run at once: a service
    that changed since it was observed is not scaled, but observed again.

    Args:
        pool: The pool.
        swarm: Where its services run.
        pool_query: Reads its queue and its slots.
        hooks: Decide about each class, and are notified of changes of the pool.
        dry_run: Report decisions and change nothing.
        clock: Returns the time in seconds since the epoch.
        on_round: Is called after each round, in the autoscaler's thread.
    """

    def __init__(
        self,
        pool: Pool,
        swarm: Swarm,
        pool_query: PoolQueryPort,
        hooks: Hooks,
        *,
        dry_run: bool = False,
        clock: Callable[[], float] = time.time,
        on_round: Callable[[AutoscalerRound], None] | None = None,
    ) -> None:
        self._pool = pool
        self._on_round = on_round
        self._swarm = swarm
        self._hooks = hooks
        self._dry_run = dry_run
        self._clock = clock
        self._observer = Observer(pool, swarm, pool_query, clock)
        self._health_monitor = ExecutorHealthMonitor(
            pool, swarm, pool_query, dry_run=dry_run, clock=clock
        )
        self._scaling_limits = {
            name: ScalingLimits.from_capacity_class(name, capacity_class)
            for name, capacity_class in pool.classes.items()
        }
        self._previous_status: PoolStatus | None = None
        self._replicas: dict[str, int] = {}  # by class, as observed last
        self._frozen_classes: set[str] = set()

    def run(
        self,
        report: Callable[[AutoscalerRecord], None],
        stop: threading.Event,
        interval_s: float = INTERVAL_S,
    ) -> None:
        """Call `run_once` every `interval_s` seconds until `stop` is set; `report` each record.

        Raises UnreachableError when the Swarm does not answer at the start, because it may be the
        wrong one. During a later outage nothing is changed.
        """
        self._swarm.services(self._pool.name)
        while not stop.is_set():
            started_s = time.monotonic()
            for record in self.run_once():
                report(record)
            duration_s = time.monotonic() - started_s
            stop.wait(max(interval_s, duration_s * (1 / MAX_DUTY_CYCLE - 1)))

    def run_once(self) -> list[AutoscalerRecord]:
        """Observe the pool, scale each class, and replace unhealthy executors.

        Without a complete observation nothing is changed. Return a record for each class and for
        each unhealthy executor.
        """
        started_s = time.monotonic()
        observation, records = self._observe_and_act()
        if self._on_round:
            duration_s = time.monotonic() - started_s
            self._on_round(AutoscalerRound(observation, records, self._clock(), duration_s))
        return records

    def _observe_and_act(self) -> tuple[PoolObservation | None, list[AutoscalerRecord]]:
        try:
            observation = self._observer.observe()
        except (UnreachableError, PreconditionError) as error:
            return None, [self._frozen_record(name, str(error)) for name in self._pool.classes]
        self._notify_change(observation.status)
        self._replicas = dict(observation.status.replicas)
        records = [
            self._scale_class(name, observation.classes[name], observation.services)
            if name in observation.classes
            else self._frozen_record(
                name,
                f"service {self._pool.service(name)} is missing; run `swarm-runner pool up` to "
                "create it",
            )
            for name in self._pool.classes
        ]
        return observation, [*records, *self._health_monitor.run_once(observation.status)]

    def _scale_class(
        self, name: str, snapshot: ClassSnapshot, services: Mapping[str, ServiceState]
    ) -> ScalingRecord:
        decision = self._hooks.size_class(self._scaling_limits[name], snapshot)
        self._log_freeze(name, decision.frozen, decision.reason)
        if decision.frozen:
            self._observer.clear_demand(name)
        else:
            self._observer.record_demand(name, decision.needed)
        record = self._scaling_record(name, snapshot, decision)
        if decision.frozen or decision.wanted == snapshot.replicas:
            return record
        if self._dry_run:
            return record.model_copy(update={"action": "dry_run"})
        return self._scale_service(record, services[self._pool.service(name)])

    def _scale_service(self, record: ScalingRecord, service: ServiceState) -> ScalingRecord:
        """Set the replicas that the record wants. Return the record with the result."""
        try:
            self._swarm.scale_service(service.name, record.wanted, service.version)
        except ConflictError as error:
            log.warning("Scaling conflict", service=service.name, problem=str(error))
            return record.model_copy(update={"action": "conflict", "problem": str(error)})
        except (UnreachableError, PreconditionError) as error:
            log.warning(
                "Scaling failed", service=service.name, replicas=record.wanted, problem=str(error)
            )
            return record.model_copy(update={"action": "failed", "problem": str(error)})
        log.info(
            "Service scaled",
            service=service.name,
            previous_replicas=record.replicas,
            replicas=record.wanted,
            reason=record.reason,
        )
        return record.model_copy(update={"action": "scaled"})

    def _scaling_record(
        self, name: str, snapshot: ClassSnapshot, decision: ScalingDecision
    ) -> ScalingRecord:
        return ScalingRecord(
            time_s=snapshot.time_s,
            pool=self._pool.name,
            capacity_class=name,
            replicas=snapshot.replicas,
            wanted=decision.wanted,
            needed=decision.needed,
            reason=decision.reason,
            frozen=decision.frozen,
            executors=snapshot.executors,
            waiting=sum(jobs.count for jobs in snapshot.idle_jobs),
            running_jobs=snapshot.running_jobs,
        )

    def _frozen_record(self, name: str, reason: str) -> ScalingRecord:
        """Return the record of a class that could not be observed and is not changed."""
        self._log_freeze(name, True, reason)
        self._observer.clear_demand(name)
        replicas = self._replicas.get(name, 0)
        return ScalingRecord(
            time_s=self._clock(),
            pool=self._pool.name,
            capacity_class=name,
            replicas=replicas,
            wanted=replicas,
            needed=replicas,
            reason=reason,
            frozen=True,
        )

    def _log_freeze(self, name: str, frozen: bool, reason: str) -> None:
        """Log when a class freezes and when it is scaled again, once each."""
        if frozen and name not in self._frozen_classes:
            self._frozen_classes.add(name)
            log.warning("Scaling frozen", service=self._pool.service(name), reason=reason)
        elif not frozen and name in self._frozen_classes:
            self._frozen_classes.discard(name)
            log.info("Scaling resumed", service=self._pool.service(name))

    def _notify_change(self, after: PoolStatus) -> None:
        before, self._previous_status = self._previous_status, after
        if before is not None and before.fingerprint() != after.fingerprint():
            self._hooks.pool_changed(before, after)


def ensure_autoscaler(
    stack: Stack,
    swarm: Swarm,
    tokens: Tokens,
    progress: Callable[[str], None],
    waiter: Waiter,
    enabled: bool | None,
) -> None:
    """Create the autoscaler's service, update it to the stack's configuration, or remove it.

    `enabled` None keeps the service if it exists. Raises PreconditionError when its image cannot
    be built.
    """
    name = stack.pool.autoscaler
    existing = swarm.services(stack.pool.name).get(name)
    if enabled is False or (enabled is None and existing is None):
        if existing:
            progress(f"removing {name}")
            _stop(stack.pool, swarm, waiter)
            log.info("Service removed", service=name, reason="the autoscaler was switched off")
        return
    image = swarm.autoscaler_image(stack.pool.autoscaler_image, stack.image, progress)
    tokens.ensure_autoscaler_token()
    spec = stack.autoscaler(image, swarm.docker_engine().node_id)
    if existing is None:
        progress(f"creating service {name}")
        swarm.create_service(spec)
        log.info("Service created", service=name, reason="the autoscaler was switched on")
    elif existing.labels.get(SPEC_DIGEST_LABEL) != spec.digest():
        progress(f"updating service {name}")
        swarm.update_service(spec)
        log.info("Service updated", service=name, reason="its configuration changed")


def _stop(pool: Pool, swarm: Swarm, waiter: Waiter) -> None:
    """Remove the service after its task has stopped, so that nothing is scaled afterwards."""
    swarm.scale_service(pool.autoscaler, 0)

    def is_running() -> bool:
        waiter.report("waiting for the autoscaler to stop")
        return any(
            task.service == pool.autoscaler and not task.stopped for task in swarm.tasks(pool.name)
        )

    waiter.poll_until(is_running, lambda running: not running, STOP_TIMEOUT_S)
    swarm.remove_services([pool.autoscaler])
