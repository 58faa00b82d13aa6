"""A plugin at fault affects one decision, and the message names the plugin and the hook."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event, current_thread
from typing import Any

import pytest

from swarm_runner.errors import InvalidInputError, SwarmRunnerError
from swarm_runner.hooks import manager
from swarm_runner.hooks.manager import Hooks
from swarm_runner.hooks.specs import hookimpl
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.job import (
    Hold,
    Job,
    JobChange,
    JobEvent,
    JobId,
    JobState,
    Outcome,
    OutcomeKind,
    Release,
    Remove,
)
from swarm_runner.model.pool import Destination, Route
from swarm_runner.model.pool_status import PoolStatus
from swarm_runner.model.scaling import ClassSnapshot, IdleJobs, ScalingLimits
from swarm_runner.submit.description import SubmitDescription
from tests.polling import poll_until

TIMEOUT_S = 0.05
# For calls that must return: no test waits for it.
LONG_S = 600.0

DESTINATION = Destination()
INVOCATION = Invocation(key="the-key", image="debian", command=["true"])
ROUTE = Route(
    destination="swarm", capacity_class="normal", candidates=("normal",), reason="a test's"
)
DESCRIPTION = SubmitDescription(commands=(("universe", "docker"),))
JOB = Job(JobId(17, 0), "the-key", JobState.HELD)
HOLD = Hold(34, 102, "too much memory")
LIMITS = ScalingLimits(name="normal", cpus=4, memory_mb=4096, max_replicas=20)
SNAPSHOT = ClassSnapshot(
    time_s=1000, replicas=1, idle_jobs=(IdleJobs(cpus=1, memory_mb=512, count=9),)
)
POOL_STATUS = PoolStatus(pool="swarm", manager=None, replicas={}, executors=())

# Each hook, and a call of it with the arguments above.
REFUSING: dict[str, Callable[[Hooks], object]] = {
    "swarm_runner_route": lambda hooks: hooks.route(INVOCATION, DESTINATION),
    "swarm_runner_amend_submit": lambda hooks: hooks.amend(DESCRIPTION, INVOCATION, ROUTE),
}
DEFAULTING: dict[str, Callable[[Hooks], object]] = {
    "swarm_runner_job_held": lambda hooks: hooks.job_held(JOB, HOLD),
    "swarm_runner_size_class": lambda hooks: hooks.size_class(LIMITS, SNAPSHOT),
}
DECIDING = REFUSING | DEFAULTING
NOTIFYING: dict[str, Callable[[Hooks], object]] = {
    "swarm_runner_job_changed": lambda hooks: hooks.jobs_changed([change(1)]),
    "swarm_runner_pool_changed": lambda hooks: hooks.pool_changed(POOL_STATUS, POOL_STATUS),
}


def change(number: int) -> JobChange:
    job = Job(JobId(number, 0), f"key-{number}", JobState.IDLE)
    return JobChange(job, JobEvent.SUBMITTED)


def make_plugin(hook: str, function: Callable[[], object], name: str = "Faulty") -> object:
    """Return a plugin that implements one hook by a function without arguments."""

    def implementation(_self: object) -> object:
        return function()

    return type(name, (), {hook: hookimpl(implementation)})()


def make_hooks(*plugins: object, timeout_s: float = LONG_S) -> Hooks:
    return Hooks(plugins, installed=False, timeout_s=timeout_s)


def raises(error: BaseException) -> Callable[[], object]:
    def function() -> object:
        raise error

    return function


def refusal(call: Callable[[Hooks], object], hooks: Hooks) -> str:
    with pytest.raises(InvalidInputError) as caught:
        call(hooks)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.key == INVOCATION.key
    return diagnostic.message


@pytest.fixture
def blocked() -> Iterator[Event]:
    """An event that a blocked plugin waits for; it is set at the test's end."""
    event = Event()
    yield event
    event.set()


ERRORS = [(LookupError("no database"), "LookupError: no database"), (SystemExit(3), "SystemExit")]


@pytest.mark.parametrize(("error", "text"), ERRORS)
@pytest.mark.parametrize("hook", REFUSING)
def test_a_plugin_that_raises_refuses_the_invocation(
    hook: str, error: BaseException, text: str
) -> None:
    message = refusal(DECIDING[hook], make_hooks(make_plugin(hook, raises(error))))
    assert message.startswith(f"plugin Faulty ({hook}) failed: ")
    assert text in message


@pytest.mark.parametrize("hook", REFUSING)
def test_a_plugin_can_refuse_an_invocation_with_its_own_message(hook: str) -> None:
    hooks = make_hooks(make_plugin(hook, raises(InvalidInputError("not on Sundays"))))
    with pytest.raises(InvalidInputError, match=r"^not on Sundays$"):
        DECIDING[hook](hooks)


@pytest.mark.parametrize(
    ("error", "text"), [*ERRORS, (InvalidInputError("not on Sundays"), "not on Sundays")]
)
@pytest.mark.parametrize("hook", DEFAULTING)
def test_a_plugin_that_raises_leaves_the_decision_to_the_policy(
    hook: str, error: BaseException, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    decision = DECIDING[hook](make_hooks(make_plugin(hook, raises(error))))
    assert decision == DECIDING[hook](make_hooks())
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage().startswith(f"plugin Faulty ({hook}) failed: ")
    assert text in record.getMessage()


@pytest.mark.parametrize(("error", "text"), ERRORS)
@pytest.mark.parametrize("hook", NOTIFYING)
def test_a_plugin_that_raises_in_a_notification_is_logged(
    hook: str, error: BaseException, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    hooks = make_hooks(make_plugin(hook, raises(error)))
    NOTIFYING[hook](hooks)
    NOTIFYING[hook](hooks)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    assert all(message.startswith(f"plugin Faulty ({hook}) failed: ") for message in messages)
    assert text in messages[0]


@pytest.mark.parametrize("answer", [object(), "big", 5.5, True, [("a", "b")]])
@pytest.mark.parametrize("hook", REFUSING)
def test_a_wrong_type_refuses_the_invocation(hook: str, answer: object) -> None:
    message = refusal(DECIDING[hook], make_hooks(make_plugin(hook, lambda: answer)))
    assert message.startswith(f"plugin Faulty ({hook}) returned an object of type ")
    assert f"of type {type(answer).__name__}; it must return" in message


@pytest.mark.parametrize("answer", [object(), "big", 5.5, True])
@pytest.mark.parametrize("hook", DEFAULTING)
def test_a_wrong_type_leaves_the_decision_to_the_policy(
    hook: str, answer: object, caplog: pytest.LogCaptureFixture
) -> None:
    decision = DECIDING[hook](make_hooks(make_plugin(hook, lambda: answer)))
    assert decision == DECIDING[hook](make_hooks())
    assert f"plugin Faulty ({hook}) returned an object of type" in caplog.text


def test_an_answer_whose_repr_fails_is_a_wrong_type_like_any_other() -> None:
    class Unprintable:
        def __repr__(self) -> str:
            raise LookupError("no repr")

    message = refusal(
        REFUSING["swarm_runner_route"],
        make_hooks(make_plugin("swarm_runner_route", Unprintable)),
    )
    assert "of type Unprintable" in message


@pytest.mark.parametrize(
    ("route", "problem"),
    [
        (ROUTE.model_copy(update={"capacity_class": "huge"}), "a route to class huge"),
        (ROUTE.model_copy(update={"candidates": ("normal", "huge")}), "a route to class huge"),
        (ROUTE.model_copy(update={"candidates": ()}), "a route without candidates"),
    ],
)
def test_a_route_that_the_pool_does_not_have_refuses_the_invocation(
    route: Route, problem: str
) -> None:
    hooks = make_hooks(make_plugin("swarm_runner_route", lambda: route))
    message = refusal(REFUSING["swarm_runner_route"], hooks)
    assert message.startswith(f"plugin Faulty (swarm_runner_route) returned {problem}")


@pytest.mark.parametrize("commands", [{"priority": 5}, {"a b": "1"}, {1: "1"}, {"x": "a\nqueue"}])
def test_invalid_submit_commands_refuse_the_invocation(commands: object) -> None:
    hooks = make_hooks(make_plugin("swarm_runner_amend_submit", lambda: commands))
    message = refusal(REFUSING["swarm_runner_amend_submit"], hooks)
    assert message.startswith(
        "plugin Faulty (swarm_runner_amend_submit) returned invalid submit commands: "
    )


OUTCOME: Any = "lost"
SOON: Any = "soon"


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (Release(SOON, "later"), "a Release whose after_s is not a finite number"),
        (Release(float("nan"), "later"), "a Release whose after_s is not a finite number"),
        (Remove(OUTCOME), "a Remove whose outcome is not an Outcome"),
        (Remove(Outcome(OUTCOME, "?")), "a Remove whose outcome is not an Outcome"),
    ],
)
def test_a_hold_decision_with_wrong_fields_leaves_the_decision_to_the_policy(
    answer: object, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    decision = make_hooks(make_plugin("swarm_runner_job_held", lambda: answer)).job_held(JOB, HOLD)
    assert isinstance(decision, Remove)
    assert decision.outcome.kind is OutcomeKind.OUT_OF_MEMORY
    assert f"plugin Faulty (swarm_runner_job_held) returned {problem}" in caplog.text
    assert "job_id=17.0" in caplog.text


@pytest.mark.parametrize("hook", DECIDING | NOTIFYING)
@pytest.mark.parametrize("marker", [hookimpl(wrapper=True), hookimpl(hookwrapper=True)])
def test_a_plugin_that_wraps_is_rejected(hook: str, marker: Callable[..., object]) -> None:
    def wrap(_self: object) -> Iterator[None]:
        yield

    plugin = type("Wrapping", (), {hook: marker(wrap)})()
    with pytest.raises(SwarmRunnerError, match=rf"plugin Wrapping wraps {hook}.*make it a plain"):
        make_hooks(plugin)


@pytest.mark.parametrize("hook", DECIDING)
def test_a_blocked_plugin_costs_one_timeout_and_recovers(
    hook: str, blocked: Event, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[str] = []
    returned = Event()

    def block_once() -> None:
        calls.append(hook)
        if len(calls) == 1:
            blocked.wait()
            returned.set()

    hooks = make_hooks(make_plugin(hook, block_once), timeout_s=TIMEOUT_S)

    def message() -> str:
        if hook in REFUSING:
            return refusal(DECIDING[hook], hooks)
        caplog.clear()
        assert DECIDING[hook](hooks) == DECIDING[hook](make_hooks())
        return caplog.messages[0]

    name = f"plugin Faulty ({hook})"
    while not calls:  # on a busy machine the first ones may time out before they begin
        assert message().startswith(f"{name} did not return within {TIMEOUT_S:g} s")
    for _ in range(20):
        assert message().startswith(f"{name} has not returned from an earlier call")
    assert calls == [hook]
    blocked.set()
    returned.wait()
    assert poll_until(lambda: _succeeds(hook, hooks), interval_s=0.01)


def _succeeds(hook: str, hooks: Hooks) -> bool:
    """Whether the call works; the thread may not have returned from the previous one."""
    try:
        return DECIDING[hook](hooks) == DECIDING[hook](make_hooks())
    except InvalidInputError:
        return False


def test_a_blocked_plugin_does_not_affect_other_plugins(blocked: Event) -> None:
    hooks = make_hooks(
        make_plugin("swarm_runner_job_held", lambda: Release(7, "later"), "Working"),
        make_plugin("swarm_runner_job_held", blocked.wait),
        timeout_s=TIMEOUT_S,
    )
    for _ in range(3):
        assert hooks.job_held(JOB, HOLD) == Release(7, "later")


def test_an_answer_that_comes_too_late_is_discarded(blocked: Event) -> None:
    entered = Event()

    def answer() -> Release:
        if entered.is_set():
            return Release(2, "in time")
        entered.set()
        blocked.wait()
        return Release(1, "late")

    hooks = make_hooks(make_plugin("swarm_runner_job_held", answer), timeout_s=TIMEOUT_S)
    while not entered.is_set():
        assert isinstance(hooks.job_held(JOB, HOLD), Remove)
    blocked.set()
    decision = poll_until(
        lambda: hooks.job_held(JOB, HOLD), lambda d: isinstance(d, Release), interval_s=0.01
    )
    assert decision == Release(2, "in time")


def test_a_timeout_error_of_the_plugin_itself_is_a_failure_like_any_other() -> None:
    hooks = make_hooks(make_plugin("swarm_runner_route", raises(TimeoutError("database"))))
    message = refusal(REFUSING["swarm_runner_route"], hooks)
    assert message == "plugin Faulty (swarm_runner_route) failed: TimeoutError: database"


def test_two_calls_at_once_wait_for_each_other() -> None:
    entered, leave = Event(), Event()

    def route() -> Route:
        entered.set()
        leave.wait()
        return ROUTE

    hooks = make_hooks(make_plugin("swarm_runner_route", route))
    with ThreadPoolExecutor(4) as executor:
        first = executor.submit(hooks.route, INVOCATION, DESTINATION)
        entered.wait()
        others = [executor.submit(hooks.route, INVOCATION, DESTINATION) for _ in range(3)]
        poll_until(
            lambda: len(_thread(hooks, "swarm_runner_route")._decisions) == 3, interval_s=0.01
        )
        leave.set()
        assert [future.result() for future in (first, *others)] == [ROUTE] * 4


def _thread(hooks: Hooks, hook: str) -> manager._PluginThread:
    thread = hooks._implementations[hook][0]._thread
    assert thread is not None
    return thread


class Recorder:
    """Records its notifications and decisions; the first call waits for `leave`."""

    def __init__(self) -> None:
        self.entered, self.leave = Event(), Event()
        self.calls: list[object] = []

    def record(self, call: object) -> None:
        self.calls.append(call)
        if len(self.calls) == 1:
            self.entered.set()
            self.leave.wait()

    @hookimpl
    def swarm_runner_job_changed(self, change: JobChange) -> None:
        self.record(change.job.id.cluster)

    @hookimpl
    def swarm_runner_pool_changed(self, after: PoolStatus) -> None:
        self.record(after.pool)

    @hookimpl
    def swarm_runner_job_held(self) -> Release:
        self.record("held")
        return Release(1, "later")


def test_notifications_of_a_blocked_plugin_are_delivered_later_in_order(
    caplog: pytest.LogCaptureFixture,
) -> None:
    plugin = Recorder()
    hooks = make_hooks(plugin, timeout_s=TIMEOUT_S)
    hooks.jobs_changed([change(number) for number in range(3)])
    plugin.entered.wait()
    for number in range(3, 30):
        hooks.jobs_changed([change(number)])
    hooks.pool_changed(POOL_STATUS, POOL_STATUS)
    assert plugin.calls == [0]
    # One line for all of them.
    (message,) = caplog.messages
    assert message == (
        f"plugin Recorder (swarm_runner_job_changed) did not return within {TIMEOUT_S:g} s; its "
        "notifications queue up"
    )
    plugin.leave.set()
    poll_until(lambda: len(plugin.calls) == 31, interval_s=0.01)
    assert plugin.calls == [*range(30), "swarm"]


def test_notifications_are_delivered_when_the_call_returns() -> None:
    plugin = Recorder()
    plugin.leave.set()
    hooks = make_hooks(plugin)
    hooks.jobs_changed([change(number) for number in range(100)])
    assert plugin.calls == list(range(100))


def test_one_failing_notification_does_not_affect_the_next_ones() -> None:
    delivered: list[int] = []

    class Fragile:
        @hookimpl
        def swarm_runner_job_changed(self, change: JobChange) -> None:
            if change.job.id.cluster == 1:
                raise LookupError("of job 1")
            delivered.append(change.job.id.cluster)

    make_hooks(Fragile()).jobs_changed([change(number) for number in range(4)])
    assert delivered == [0, 2, 3]


def test_a_decision_does_not_wait_for_queued_notifications() -> None:
    plugin = Recorder()
    hooks = make_hooks(plugin)
    with ThreadPoolExecutor(2) as executor:
        notified = executor.submit(hooks.jobs_changed, [change(number) for number in range(3)])
        plugin.entered.wait()
        decided = executor.submit(hooks.job_held, JOB, HOLD)
        poll_until(lambda: _thread(hooks, "swarm_runner_job_held")._decisions, interval_s=0.01)
        plugin.leave.set()
        assert decided.result() == Release(1, "later")
        notified.result()
    assert plugin.calls == [0, "held", 1, 2]


def test_notifications_of_a_plugin_that_blocks_are_limited(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(manager, "MAX_PENDING_NOTIFICATIONS", 5)
    plugin = Recorder()
    hooks = make_hooks(plugin, timeout_s=TIMEOUT_S)
    for number in range(20):
        hooks.jobs_changed([change(number)])
        plugin.entered.wait()
    assert "A plugin blocks; notifications are dropped plugin=Recorder dropped=1" in caplog.text
    plugin.leave.set()
    poll_until(lambda: len(plugin.calls) == 6, interval_s=0.01)
    hooks.jobs_changed([change(99)])
    poll_until(lambda: plugin.calls[-1] == 99, interval_s=0.01)
    assert plugin.calls == [*range(6), 99]


def test_a_hook_may_cause_calls_of_its_own_plugin() -> None:
    class Nested:
        hooks: Hooks
        routes: list[Route]

        @hookimpl
        def swarm_runner_route(self) -> Route:
            return ROUTE

        @hookimpl
        def swarm_runner_job_changed(self) -> None:
            self.routes = [self.hooks.route(INVOCATION, DESTINATION)]
            self.hooks.pool_changed(POOL_STATUS, POOL_STATUS)

        @hookimpl
        def swarm_runner_pool_changed(self) -> None:
            self.routes.append(ROUTE)

    plugin = Nested()
    plugin.hooks = make_hooks(plugin)
    plugin.hooks.jobs_changed([change(1)])
    poll_until(lambda: plugin.routes == [ROUTE, ROUTE], interval_s=0.01)


def test_the_calls_of_one_plugin_share_a_thread_that_ends_when_idle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(manager, "THREAD_IDLE_S", 0.01)
    threads = []

    class Threads:
        @hookimpl
        def swarm_runner_job_held(self) -> None:
            threads.append(current_thread())

        @hookimpl
        def swarm_runner_pool_changed(self) -> None:
            threads.append(current_thread())

    hooks = make_hooks(Threads())
    for _ in range(3):
        hooks.job_held(JOB, HOLD)
        threads[-1].join()
        hooks.pool_changed(POOL_STATUS, POOL_STATUS)
        threads[-1].join()
    assert len(threads) == 6
    assert current_thread() not in threads
    assert threads[0].name == "swarm-runner plugin " + Threads.__qualname__


def test_a_later_plugin_is_asked_first() -> None:
    first = make_plugin("swarm_runner_job_held", lambda: Release(1, "first"))
    second = make_plugin("swarm_runner_job_held", lambda: Release(2, "second"))
    without_opinion = make_plugin("swarm_runner_job_held", lambda: None)
    hooks = make_hooks(first, second, without_opinion)
    assert hooks.job_held(JOB, HOLD) == Release(2, "second")


def test_the_amendments_of_all_plugins_are_applied_and_the_later_plugins_value_holds() -> None:
    first = make_plugin("swarm_runner_amend_submit", lambda: {"a": "1", "b": "1"})
    second = make_plugin("swarm_runner_amend_submit", lambda: {"b": "2"})
    without_opinion = make_plugin("swarm_runner_amend_submit", lambda: None)
    hooks = make_hooks(first, second, without_opinion)
    assert hooks.amends
    assert not make_hooks().amends
    amended = hooks.amend(DESCRIPTION, INVOCATION, ROUTE)
    assert dict(amended.commands) == {"universe": "docker", "a": "1", "b": "2"}
