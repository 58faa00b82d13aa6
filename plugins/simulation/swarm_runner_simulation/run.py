"""Runs a trace under our policy, and under those that it is compared with."""

from __future__ import annotations

import itertools
import math
from array import array
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
POLICY, ORACLE, QUEUE_RATIO, LINEAR = "swarm_runner", "oracle", "ceil(idle/slots)", "COBalD linear"
FIXED_SAME, FIXED_MAX = "fixed, same cost", "fixed, max"
BASELINES = (ORACLE, QUEUE_RATIO, LINEAR, FIXED_SAME, FIXED_MAX)
# Points in a timeline, and how long after the last arrival a simulation goes on at most.
_TIMELINE_SAMPLES = 720
_MAX_OVERRUN_S = 30 * 86_400.0

ControllerFactory = Callable[[ClassPool], Controller]


@dataclass(frozen=True, slots=True)
class SimulationConfig:
    """What a pool on the fake clock is like.

    `placeable` is how many executors of a class the nodes hold, those that retire included; as
    many as its `max_replicas` if None. `retirement_s` is by class, and endless where it names none.
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
    timeline: tuple[Sample, ...]


def simulate(
    trace: Trace,
    classes: Mapping[str, ScalingLimits],
    size_class: SizeClass,
    config: SimulationConfig | None = None,
    *,
    baselines: Collection[str] = BASELINES,
    progress: Callable[[str], None] = lambda _: None,
) -> SimulationReport:
    """The trace under the policy `size`, and under those that it is compared with."""
    chosen = config or SimulationConfig()
    jobs, refused = split_by_class(trace, classes)

    def under(name: str, run: Callable[[ScalingLimits, ClassTrace], _Outcome]) -> ControllerReport:
        progress(f"{trace.name}: {len(trace) - refused} jobs under {name}")
        return _report(name, {each: run(classes[each], jobs[each]) for each in classes})

    def controlled(make: ControllerFactory) -> Callable[[ScalingLimits, ClassTrace], _Outcome]:
        return lambda shape, mine: _run_controller(shape, mine, chosen, make)

    ours = under(POLICY, controlled(lambda pool: Policy(size_class, pool, chosen.interval_s)))
    same = {name: _same_cost_replicas(ours.classes[name], jobs[name]) for name in classes}
    most = {
        name: ours.classes[name].peak_executors if each.max_replicas is None else each.max_replicas
        for name, each in classes.items()
    }
    others: dict[str, Callable[[ScalingLimits, ClassTrace], _Outcome]] = {
        ORACLE: lambda shape, mine: _oracle(shape, mine, chosen),
        QUEUE_RATIO: controlled(lambda _: QueueRatio(chosen.interval_s)),
        LINEAR: controlled(lambda _: Linear()),
        FIXED_SAME: controlled(lambda pool: Fixed(same[pool.capacity_class.name])),
        FIXED_MAX: controlled(lambda pool: Fixed(most[pool.capacity_class.name])),
    }
    return SimulationReport(
        trace=trace.name,
        jobs=len(trace),
        refused=refused,
        start_up_s=chosen.start_up_s,
        controllers=(ours, *(under(name, others[name]) for name in others if name in baselines)),
    )


def _run_controller(
    capacity_class: ScalingLimits,
    jobs: ClassTrace,
    config: SimulationConfig,
    factory: ControllerFactory,
) -> _Outcome:
    placeable = capacity_class.max_replicas if config.schedulable is None else config.schedulable
    # The least executors there are to be have been there before.
    pool = ClassPool(
        capacity_class,
        jobs,
        config.start_up_s,
        schedulable=placeable,
        placement=config.placement,
        retirement_s=config.retirement_s.get(capacity_class.name, math.inf),
        begin_s=-config.start_up_s,
    )
    pool.scale(capacity_class.min_replicas)
    pool.advance(0.0)
    pool.scale_operations = 0
    controller = factory(pool)
    step_s = max(jobs.length_s / _TIMELINE_SAMPLES, 1.0)
    timeline: list[Sample] = []
    look_s = sample_s = 0.0
    while pool.now < jobs.length_s or not pool.finished:
        if pool.now >= look_s:
            pool.scale(controller.desired_replicas(pool))
            look_s += controller.interval_s
        if pool.now >= sample_s:
            timeline.append(_sample(pool, pool.alive))
            sample_s += max(step_s, pool.now / _TIMELINE_SAMPLES)
        if pool.now > jobs.length_s + _MAX_OVERRUN_S:
            break
        pool.advance(min(look_s, sample_s))
    return _outcome(pool, pool.executor_s(), tuple(timeline))


def _oracle(capacity_class: ScalingLimits, jobs: ClassTrace, config: SimulationConfig) -> _Outcome:
    """Perfect foresight: every executor is up the moment that a job needs it, never later.

    A job waits only where all that there may be are taken. An executor costs its start-up, its
    work, and its idle time between two jobs or another start-up, whichever is less.
    """
    pool = ClassPool(
        capacity_class,
        jobs,
        config.start_up_s,
        placement=Placement.LATEST,
        instant_executors=len(jobs)
        if capacity_class.max_replicas is None
        else capacity_class.max_replicas,
    )
    step_s = max(jobs.length_s / _TIMELINE_SAMPLES, 1.0)
    timeline = []
    while not pool.finished:
        timeline.append(_sample(pool, max(pool.active - pool.idle, capacity_class.min_replicas)))
        pool.advance(pool.now + step_s)
    end_s = max(pool.last_end_s, jobs.length_s)
    always = [end_s] * capacity_class.min_replicas
    return _outcome(
        pool, sum([*always, *pool.oracle_cost_s[capacity_class.min_replicas :]]), tuple(timeline)
    )


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
    figures = Metrics(
        jobs=len(waits),
        waits=Waits.summarize(waits),
        executor_hours=executor_s / 3600,
        peak_executors=max((moment.executors for moment in timeline), default=0),
        scale_operations=pool.scale_operations,
        evictions=pool.evictions,
        unfinished=len(waits) - pool.ended,
    )
    return _Outcome(figures, waits, timeline)


def _report(name: str, outcomes: Mapping[str, _Outcome]) -> ControllerReport:
    return ControllerReport(
        controller=name,
        total=sum_metrics(
            [outcome.metrics for outcome in outcomes.values()],
            itertools.chain.from_iterable(outcome.waits for outcome in outcomes.values()),
        ),
        classes={each: outcome.metrics for each, outcome in outcomes.items()},
        timeline={each: outcome.timeline for each, outcome in outcomes.items()},
    )


def _same_cost_replicas(metrics: Metrics, jobs: ClassTrace) -> int:
    """The number that, all the time, costs at least what our policy cost."""
    return max(1, math.ceil(metrics.executor_hours * 3600 / jobs.length_s)) if len(jobs) else 0
