"""Runs a trace under the sizing policy and under the baselines that it is compared with."""

from __future__ import annotations

import itertools
import math
from array import array
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from swarm_runner.model.scaling import START_UP_S, ScalingLimits
from swarm_runner_simulation.controllers import (
    Controller,
    Fixed,
    Linear,
    Policy,
    QueueRatio,
    SizeClass,
)
from swarm_runner_simulation.free_capacity import Placement
from swarm_runner_simulation.pool import ClassPool
from swarm_runner_simulation.report import (
    ControllerReport,
    Metrics,
    Sample,
    SimulationReport,
    Waits,
    sum_metrics,
)
from swarm_runner_simulation.trace import ClassTrace, Trace, split_by_class

INTERVAL_S = 5.0
# How often free executors are lent, and how long one must have been free (image/lending.conf): by
# then, HTCondor's negotiator would have given it to an own job.
LEND_INTERVAL_S, LEND_DELAY_S = 2.0, 6.0
POLICY, ORACLE, QUEUE_RATIO, LINEAR = "swarm_runner", "oracle", "ceil(idle/slots)", "COBalD linear"
FIXED_SAME, FIXED_MAX = "fixed, same cost", "fixed, max"
BASELINES = (ORACLE, QUEUE_RATIO, LINEAR, FIXED_SAME, FIXED_MAX)
_TIMELINE_SAMPLES = 720
_MAX_OVERRUN_S = 30 * 86_400.0  # after the end of the trace

ControllerFactory = Callable[[ClassPool], Controller]


@dataclass(frozen=True, slots=True)
class SimulationConfig:
    """The properties of the simulated pool.

    `schedulable` is the number of executors of a class that fit on the nodes, including retiring
    ones (None: the class's `max_replicas`). `retirement_s` is by class; unlimited by default.
    """

    start_up_s: float = START_UP_S
    interval_s: float = INTERVAL_S
    schedulable: int | None = None
    placement: Placement = Placement.ANY
    retirement_s: Mapping[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class _Outcome:
    metrics: Metrics
    waits: array[float]
    users: dict[str, list[float]]
    timeline: tuple[Sample, ...]


RunClass = Callable[[ScalingLimits, ClassTrace], _Outcome]


def simulate(
    trace: Trace,
    classes: Mapping[str, ScalingLimits],
    size_class: SizeClass,
    config: SimulationConfig | None = None,
    *,
    baselines: Collection[str] = BASELINES,
    progress: Callable[[str], None] = lambda _: None,
) -> SimulationReport:
    """Run the trace under the policy `size_class` and under the baselines."""
    config = config or SimulationConfig()
    jobs, refused = split_by_class(trace, classes)

    def report(name: str, run: RunClass) -> ControllerReport:
        progress(f"{trace.name}: {len(trace) - refused} jobs under {name}")
        return _report(name, {each: run(classes[each], jobs[each]) for each in classes})

    def policy_report() -> ControllerReport:
        progress(f"{trace.name}: {len(trace) - refused} jobs under {POLICY}")
        return _report(POLICY, _run_policy(classes, jobs, config, size_class))

    def controlled(factory: ControllerFactory) -> RunClass:
        return lambda limits, class_jobs: _run_controller(limits, class_jobs, config, factory)

    policy = policy_report()
    same = {name: _same_cost_replicas(policy.classes[name], jobs[name]) for name in classes}
    maximum = {
        name: policy.classes[name].peak_executors
        if limits.max_replicas is None
        else limits.max_replicas
        for name, limits in classes.items()
    }
    others: dict[str, RunClass] = {
        ORACLE: lambda limits, class_jobs: _oracle(limits, class_jobs, config),
        QUEUE_RATIO: controlled(lambda _: QueueRatio(config.interval_s)),
        LINEAR: controlled(lambda _: Linear()),
        FIXED_SAME: controlled(lambda pool: Fixed(same[pool.capacity_class.name])),
        FIXED_MAX: controlled(lambda pool: Fixed(maximum[pool.capacity_class.name])),
    }
    return SimulationReport(
        trace=trace.name,
        jobs=len(trace),
        refused=refused,
        start_up_s=config.start_up_s,
        controllers=(policy, *(report(name, others[name]) for name in others if name in baselines)),
    )


def _run_policy(
    classes: Mapping[str, ScalingLimits],
    jobs: Mapping[str, ClassTrace],
    config: SimulationConfig,
    size_class: SizeClass,
) -> dict[str, _Outcome]:
    """Run the policy; where a class lends, all classes at the same time."""

    def factory(pool: ClassPool) -> Controller:
        return Policy(size_class, pool, config.interval_s)

    if all(limits.lend_max_s is None for limits in classes.values()):
        return {
            name: _run_controller(classes[name], jobs[name], config, factory) for name in classes
        }
    runs = {name: _Run(limits, jobs[name], config, factory) for name, limits in classes.items()}
    names, now = list(classes), LEND_INTERVAL_S
    while not all(run.done for run in runs.values()):
        for run in runs.values():
            run.advance(now)
        for lender in reversed(names):
            max_s = classes[lender].lend_max_s
            if max_s is not None:
                for borrower in names[: names.index(lender)]:
                    runs[lender].pool.lend_to(runs[borrower].pool, max_s, LEND_DELAY_S)
        now += LEND_INTERVAL_S
    return {name: run.outcome() for name, run in runs.items()}


class _Run:
    """One class under a controller, in simulated time."""

    def __init__(
        self,
        capacity_class: ScalingLimits,
        jobs: ClassTrace,
        config: SimulationConfig,
        factory: ControllerFactory,
    ) -> None:
        schedulable = config.schedulable
        # The minimum number of executors has started before the first job.
        self.pool = ClassPool(
            capacity_class,
            jobs,
            config.start_up_s,
            schedulable=capacity_class.max_replicas if schedulable is None else schedulable,
            placement=config.placement,
            retirement_s=config.retirement_s.get(capacity_class.name, math.inf),
            begin_s=-config.start_up_s,
        )
        self.pool.scale(capacity_class.min_replicas)
        self.pool.advance(0.0)
        self.pool.scale_operations = 0
        self._jobs = jobs
        self._controller = factory(self.pool)
        self._step_s = max(jobs.length_s / _TIMELINE_SAMPLES, 1.0)
        self._timeline: list[Sample] = []
        self._decision_s = self._sample_s = 0.0

    @property
    def done(self) -> bool:
        """Whether every job has ended, or will not end."""
        pool, length_s = self.pool, self._jobs.length_s
        ended = pool.now >= length_s and pool.finished and not pool.guest_count
        return ended or pool.now > length_s + _MAX_OVERRUN_S

    def advance(self, until_s: float) -> None:
        """Decide, sample and run until a time."""
        while self.pool.now < until_s:
            self.step(until_s)

    def step(self, until_s: float = math.inf) -> None:
        """Decide and sample if it is time, and run until the next time."""
        pool = self.pool
        if pool.now >= self._decision_s:
            pool.scale(self._controller.desired_replicas(pool))
            self._decision_s += self._controller.interval_s
        if pool.now >= self._sample_s:
            self._timeline.append(_sample(pool, pool.alive))
            self._sample_s += max(self._step_s, pool.now / _TIMELINE_SAMPLES)
        pool.advance(min(self._decision_s, self._sample_s, until_s))

    def outcome(self) -> _Outcome:
        """Return the results."""
        return _outcome(self.pool, self.pool.executor_s(), tuple(self._timeline))


def _run_controller(
    capacity_class: ScalingLimits,
    jobs: ClassTrace,
    config: SimulationConfig,
    factory: ControllerFactory,
) -> _Outcome:
    run = _Run(capacity_class, jobs, config, factory)
    while not run.done:
        run.step()
    return run.outcome()


def _oracle(capacity_class: ScalingLimits, jobs: ClassTrace, config: SimulationConfig) -> _Outcome:
    """Run the jobs with perfect foresight: every executor has started when a job needs it.

    A job waits only while all executors that the class may have are in use. An executor costs its
    start-up, its work and, between two jobs, its idle time or another start-up: the smaller.
    """
    maximum, minimum = capacity_class.max_replicas, capacity_class.min_replicas
    pool = ClassPool(
        capacity_class,
        jobs,
        config.start_up_s,
        placement=Placement.LATEST,
        instant_executors=len(jobs) if maximum is None else maximum,
    )
    step_s = max(jobs.length_s / _TIMELINE_SAMPLES, 1.0)
    timeline = []
    while not pool.finished:
        timeline.append(_sample(pool, max(pool.active - pool.idle, minimum)))
        pool.advance(pool.now + step_s)
    end_s = max(pool.last_end_s, jobs.length_s)
    executor_s = sum([end_s] * minimum + pool.oracle_cost_s[minimum:])
    return _outcome(pool, executor_s, tuple(timeline))


def _sample(pool: ClassPool, executors: int) -> Sample:
    return Sample(time_s=pool.now, waiting=pool.waiting, running=pool.running, executors=executors)


def _outcome(pool: ClassPool, executor_s: float, timeline: tuple[Sample, ...]) -> _Outcome:
    times_s = pool.jobs.time_s
    waits = array(
        "d",
        (
            (pool.now if started_s < 0 else started_s) - time_s
            for time_s, started_s in zip(times_s, pool.started_s, strict=True)
        ),
    )
    metrics = Metrics(
        jobs=len(waits),
        waits=Waits.summarize(waits),
        executor_hours=executor_s / 3600,
        peak_executors=max((sample.executors for sample in timeline), default=0),
        scale_operations=pool.scale_operations,
        evictions=pool.evictions,
        unfinished=len(waits) - pool.ended,
    )
    users: dict[str, list[float]] = defaultdict(list)
    if len(set(pool.jobs.users)) > 1:
        for wait_s, request_id in zip(waits, pool.jobs.request_ids, strict=True):
            users[pool.jobs.users[request_id]].append(wait_s)
    return _Outcome(metrics, waits, users, timeline)


def _report(name: str, outcomes: Mapping[str, _Outcome]) -> ControllerReport:
    users: dict[str, list[float]] = defaultdict(list)
    for outcome in outcomes.values():
        for user, waits in outcome.users.items():
            users[user] += waits
    return ControllerReport(
        controller=name,
        users={user: Waits.summarize(waits) for user, waits in users.items()},
        total=sum_metrics(
            [outcome.metrics for outcome in outcomes.values()],
            itertools.chain.from_iterable(outcome.waits for outcome in outcomes.values()),
        ),
        classes={each: outcome.metrics for each, outcome in outcomes.items()},
        timeline={each: outcome.timeline for each, outcome in outcomes.items()},
    )


def _same_cost_replicas(metrics: Metrics, jobs: ClassTrace) -> int:
    """Return the constant number of executors that costs at least what the policy cost."""
    # In a trace of one moment all jobs arrive together.
    length_s = max(jobs.length_s, INTERVAL_S)
    return max(1, math.ceil(metrics.executor_hours * 3600 / length_s)) if len(jobs) else 0
