"""The one place that calls plugins: typed, and with one rule for a plugin's faults.

A plugin is at fault when it raises, returns what its hook does not allow, or takes longer than
`timeout_s`. A fault affects one decision, and its message names the plugin and the hook:

- `route` and `amend` reject that one invocation (InvalidInputError);
- `job_held` and `size_class` leave that one decision to the next plugin, and finally to the
  built-in policy, with a log line;
- `jobs_changed` and `pool_changed` only notify: the fault is logged.

Each plugin is called in its own thread, because nothing else limits the time that it takes. A
plugin that blocks costs one timeout: until the call returns, further calls fail at once, and
notifications queue up. The built-in policies do no I/O and are called directly.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, wait
from math import inf, isfinite
from threading import Condition, Thread, current_thread
from typing import TYPE_CHECKING, Any

import pluggy
from pydantic import ValidationError

from swarm_runner.errors import Diagnostic, InvalidInputError, SwarmRunnerError
from swarm_runner.hooks import specs
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.pool import Destination, Pool, Route
from swarm_runner.policy import routing
from swarm_runner.structured_log import get_logger
from swarm_runner.submit.description import SubmitDescription

# The policies of jobs and of the pool, with their models, are imported by the methods that ask
# them: `swarm-runner translate` needs none of them.
if TYPE_CHECKING:
    from swarm_runner.model.job import Hold, Job, JobChange, Release, Remove
    from swarm_runner.model.pool_status import PoolStatus
    from swarm_runner.model.scaling import ClassSnapshot, ScalingDecision, ScalingLimits

log = get_logger(__name__)
ENTRY_POINT_GROUP = "swarm_runner"
HOOK_TIMEOUT_S = 10.0
# Notifications that queue up for a plugin that blocks. Further ones are dropped, with a log line.
MAX_PENDING_NOTIFICATIONS = 10_000
# A plugin's thread ends after this time without a call; the next call starts another one.
THREAD_IDLE_S = 60.0


class _PluginError(Exception):
    """A plugin's fault; its message names the plugin and the hook."""


class _BlockedError(Exception):
    """A plugin did not return in time."""


class Hooks:
    """Calls the built-in policies, the plugins of `installed` distributions, and `plugins`.

    A plugin that was registered later is asked first, and the built-in policies are asked last.
    Raises pluggy.PluginValidationError when a plugin does not match the specification, and
    SwarmRunnerError when an installed one cannot be loaded or one wraps a hook.
    """

    def __init__(
        self,
        plugins: Iterable[object] = (),
        *,
        installed: bool = True,
        timeout_s: float = HOOK_TIMEOUT_S,
    ) -> None:
        self._timeout_s = timeout_s
        manager = pluggy.PluginManager(ENTRY_POINT_GROUP)
        manager.add_hookspecs(specs)
        if installed:
            _load_installed(manager)
        for plugin in plugins:
            manager.register(plugin)
        manager.check_pending()
        threads: dict[int, _PluginThread] = {}
        self._implementations = {
            name: [
                _Implementation(name, impl, threads)
                for impl in reversed(getattr(manager.hook, name).get_hookimpls())
            ]
            for name in vars(specs)
            if name.startswith("swarm_runner_")
        }

    @property
    def amends(self) -> bool:
        """Whether any plugin amends submit descriptions."""
        return bool(self._implementations["swarm_runner_amend_submit"])

    def route(self, invocation: Invocation, destination: Destination) -> Route:
        """Ask in which class an invocation runs.

        Raises InvalidInputError when a plugin rejects it or is at fault, or when it fits no class.
        """
        for implementation in self._implementations["swarm_runner_route"]:
            try:
                route = implementation.decide(
                    Route,
                    self._timeout_s,
                    invocation=invocation,
                    destination=destination,
                    pool=destination.pool,
                )
            except _PluginError as error:
                raise _refusal(invocation, str(error)) from error
            if isinstance(route, Route):
                problem = _route_problem(route, destination.pool)
                if problem:
                    raise _refusal(invocation, f"{implementation} returned a route {problem}")
                return route
        return routing.swarm_runner_route(invocation, destination, destination.pool)

    def amend(
        self, description: SubmitDescription, invocation: Invocation, route: Route
    ) -> SubmitDescription:
        """Apply the changes of every plugin. If two set a command, the later plugin's value holds.

        Raises InvalidInputError when a plugin rejects the invocation or is at fault.
        """
        for implementation in reversed(self._implementations["swarm_runner_amend_submit"]):
            try:
                changes = implementation.decide(
                    Mapping, self._timeout_s, invocation=invocation, route=route
                )
                if changes is not None:
                    description = description.with_commands(changes)
            except _PluginError as error:
                raise _refusal(invocation, str(error)) from error
            except (ValidationError, TypeError, ValueError) as error:
                reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
                message = f"{implementation} returned invalid submit commands: {reason}"
                raise _refusal(invocation, message) from error
        return description

    def job_held(self, job: Job, hold: Hold) -> Release | Remove | None:
        """Ask whether to release or remove a held job. None leaves it held."""
        from swarm_runner.model.job import Release, Remove
        from swarm_runner.policy import holds

        for implementation in self._implementations["swarm_runner_job_held"]:
            try:
                decision: Release | Remove | None = implementation.decide(
                    (Release, Remove), self._timeout_s, job=job, hold=hold
                )
                if decision is None:
                    continue
                problem = _hold_decision_problem(decision)
                if not problem:
                    return decision
                message = f"{implementation} returned a {type(decision).__name__} {problem}"
            except _PluginError as error:
                message = str(error)
            log.error(f"{message}. The next policy decides", job_id=str(job.id), key=job.key)
        return holds.swarm_runner_job_held(job, hold)

    def size_class(self, capacity_class: ScalingLimits, snapshot: ClassSnapshot) -> ScalingDecision:
        """Ask how many executors a class should have. The class's limits apply to every answer."""
        from swarm_runner.model.scaling import ScalingDecision
        from swarm_runner.policy import sizing

        for implementation in self._implementations["swarm_runner_size_class"]:
            try:
                answer = implementation.decide(
                    (ScalingDecision, int),
                    self._timeout_s,
                    capacity_class=capacity_class,
                    status=snapshot,
                )
            except _PluginError as error:
                log.error(f"{error}. The next policy decides", capacity_class=capacity_class.name)
                continue
            if answer is not None:
                return sizing.resolve_decision(answer, capacity_class)
        decision = sizing.swarm_runner_size_class(capacity_class, snapshot)
        return sizing.resolve_decision(decision, capacity_class)

    def jobs_changed(self, changes: Sequence[JobChange]) -> None:
        """Notify plugins of changes of jobs, in order."""
        for implementation in self._implementations["swarm_runner_job_changed"]:
            implementation.notify(self._timeout_s, [{"change": change} for change in changes])

    def pool_changed(self, before: PoolStatus, after: PoolStatus) -> None:
        """Notify plugins of a change of the pool."""
        for implementation in self._implementations["swarm_runner_pool_changed"]:
            implementation.notify(self._timeout_s, [{"before": before, "after": after}])


class _Implementation:
    """One plugin's implementation of one hook."""

    def __init__(self, hook: str, impl: pluggy.HookImpl, threads: dict[int, _PluginThread]) -> None:
        self._hook = hook
        self._may_refuse = hook in ("swarm_runner_route", "swarm_runner_amend_submit")
        self._function: Callable[..., object] = impl.function
        self._arguments = impl.argnames
        self._plugin = _plugin_name(impl)
        if impl.hookwrapper or impl.wrapper:
            raise SwarmRunnerError(
                f"plugin {self._plugin} wraps {hook}, which swarm_runner does not support; make "
                "it a plain hookimpl"
            )
        self._thread = threads.setdefault(id(impl.plugin), _PluginThread(self._plugin))

    def __str__(self) -> str:
        return f"plugin {self._plugin} ({self._hook})"

    def decide(self, types: type | tuple[type, ...], timeout_s: float, **arguments: object) -> Any:
        """Call a deciding hook; return its answer, which has one of `types` or is None.

        Raises InvalidInputError when the plugin rejects an invocation, and _PluginError for every
        fault.
        """
        values = [arguments[name] for name in self._arguments]
        try:
            answer = self._thread.call(lambda: self._function(*values), timeout_s)
        except _BlockedError as error:
            raise _PluginError(f"{self} {error}") from error
        except Exception as error:
            if self._may_refuse and isinstance(error, InvalidInputError):
                raise
            raise _PluginError(f"{self} failed: {_describe(error)}") from error
        if answer is not None and (not isinstance(answer, types) or isinstance(answer, bool)):
            expected = types if isinstance(types, tuple) else (types,)
            names = ", ".join(allowed.__name__ for allowed in expected)
            raise _PluginError(
                f"{self} returned an object of type {type(answer).__name__}; it must return "
                f"{names} or None"
            )
        return answer

    def notify(self, timeout_s: float, batch: Sequence[Mapping[str, object]]) -> None:
        """Call an observing hook for each item, in order; wait at most `timeout_s` for it."""
        calls = [self._notification(arguments) for arguments in batch]
        if not self._thread.notify(calls, timeout_s):
            log.error(f"{self} did not return within {timeout_s:g} s; its notifications queue up")

    def _notification(self, arguments: Mapping[str, object]) -> Callable[[], None]:
        def deliver() -> None:
            try:
                self._function(*(arguments[name] for name in self._arguments))
            except BaseException as error:  # also SystemExit, which must not end the thread
                log.error(f"{self} failed: {_describe(error)}", exc_info=True)

        return deliver


class _PluginThread:
    """Runs a plugin's calls one after another in a daemon thread, decisions first."""

    def __init__(self, plugin: str) -> None:
        self._plugin = plugin
        self._condition = Condition()
        self._decisions: deque[tuple[Callable[[], object], Future[object]]] = deque()
        self._notifications: deque[tuple[Callable[[], object], Future[object]]] = deque()
        self._thread: Thread | None = None
        # When the running call began, by time.monotonic; None between two calls.
        self._call_began_at: float | None = None

    def call(self, function: Callable[[], object], timeout_s: float) -> object:
        """Return what the function returns.

        Raises what it raises, and _BlockedError when it does not return in time, or when an
        earlier call has not: then its answer is discarded.
        """
        if current_thread() is self._thread:  # a hook called the runner, which calls the plugin
            return function()
        with self._condition:
            if self._is_overdue(timeout_s):
                raise _BlockedError("has not returned from an earlier call")
            future = self._put(self._decisions, function)
        done, _ = wait([future], timeout_s)
        if not done:
            future.cancel()  # if it has not begun
            self._note_overdue(future)
            raise _BlockedError(f"did not return within {timeout_s:g} s")
        return future.result()

    def notify(self, functions: Sequence[Callable[[], object]], timeout_s: float) -> bool:
        """Queue notifications, in order, and wait for them; whether they returned in time.

        Does not wait if notifications are queued already or the plugin blocks.
        """
        with self._condition:
            behind = bool(self._notifications) or self._is_overdue(timeout_s)
            if behind and len(self._notifications) >= MAX_PENDING_NOTIFICATIONS:
                log.error(
                    "A plugin blocks; notifications are dropped",
                    plugin=self._plugin,
                    dropped=len(functions),
                )
                return True
            futures = [self._put(self._notifications, function) for function in functions]
        if behind or not futures or current_thread() is self._thread:
            return True
        done, _ = wait(futures[-1:], timeout_s)
        if not done:
            self._note_overdue(futures[-1])
        return bool(done)

    def _is_overdue(self, timeout_s: float) -> bool:
        """Whether the running call has exceeded the timeout."""
        return (
            self._call_began_at is not None
            and self._is_alive()
            and time.monotonic() - self._call_began_at >= timeout_s
        )

    def _note_overdue(self, future: Future[object]) -> None:
        """Note that a call exceeded the timeout: it began a little later than the wait for it."""
        with self._condition:
            if future.running() and self._call_began_at is not None:
                self._call_began_at = -inf

    def _is_alive(self) -> bool:
        # After a fork this object exists, and its thread does not.
        return self._thread is not None and self._thread.is_alive()

    def _put(
        self,
        queue: deque[tuple[Callable[[], object], Future[object]]],
        function: Callable[[], object],
    ) -> Future[object]:
        future = Future[object]()
        queue.append((function, future))
        if not self._is_alive():
            self._call_began_at = None
            self._thread = Thread(
                target=self._run, name=f"swarm-runner plugin {self._plugin}", daemon=True
            )
            self._thread.start()
        self._condition.notify()
        return future

    def _run(self) -> None:
        while True:
            with self._condition:
                if not self._condition.wait_for(
                    lambda: self._decisions or self._notifications, THREAD_IDLE_S
                ):
                    self._thread = None
                    return
                function, future = (self._decisions or self._notifications).popleft()
                if not future.set_running_or_notify_cancel():
                    continue
                self._call_began_at = time.monotonic()
            result: object = None
            fault: BaseException | None = None
            try:
                result = function()
            except BaseException as error:  # noqa: BLE001 (the caller gets it)
                fault = error if isinstance(error, Exception) else RuntimeError(_describe(error))
            with self._condition:
                self._call_began_at = None
            if fault is not None:
                future.set_exception(fault)
            else:
                future.set_result(result)
            del function, future, result, fault


def _load_installed(manager: pluggy.PluginManager) -> None:
    try:
        manager.load_setuptools_entrypoints(ENTRY_POINT_GROUP)
    except Exception as error:
        raise SwarmRunnerError(
            f"an installed plugin (entry point group {ENTRY_POINT_GROUP}) cannot be loaded: "
            f"{_describe(error)}. Repair its distribution, or uninstall it"
        ) from error


def _plugin_name(impl: pluggy.HookImpl) -> str:
    """Return the entry point's or module's name; of an object, its class's name."""
    if not impl.plugin_name.isdigit():  # pluggy names an object by its id
        return impl.plugin_name
    return type(impl.plugin).__qualname__


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _route_problem(route: Route, pool: Pool) -> str:
    """Return why a pool cannot run a job of this route; an empty text if it can."""
    for name in (route.capacity_class, *route.candidates):
        if name not in pool.classes:
            return f"to class {name}, which is not in pool {pool.name} ({', '.join(pool.classes)})"
    return "" if route.candidates else "without candidates; it needs at least one class"


def _hold_decision_problem(decision: Release | Remove) -> str:
    """Return what is wrong with a decision's fields, which their classes do not check."""
    from swarm_runner.model.job import Outcome, OutcomeKind, Release

    if isinstance(decision, Release):
        valid = isinstance(decision.after_s, int | float) and isfinite(decision.after_s)
        return "" if valid else "whose after_s is not a finite number"
    outcome: object = decision.outcome
    valid = isinstance(outcome, Outcome) and isinstance(outcome.kind, OutcomeKind)
    return "" if valid else "whose outcome is not an Outcome with a kind"


def _refusal(invocation: Invocation, message: str) -> InvalidInputError:
    return InvalidInputError([Diagnostic(message, key=invocation.key)])
