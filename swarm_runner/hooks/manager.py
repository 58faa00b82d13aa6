"""The one place that calls plugins: typed, and with one rule for a plugin's faults.

A plugin is at fault when it raises, returns what its hook does not take, or needs longer than
`timeout_s`. Its fault costs one decision and a log line that names the plugin and the hook:

- `route` and `amend` refuse that one invocation (InvalidInputError);
- `job_held` and `size_class` leave that one decision to the next plugin, and in the end to the
  built-in policy;
- `jobs_changed` and `pool_changed` only notify.

Each plugin is called in a thread of its own, because nothing else bounds the time it takes. The
built-in policies are pure, and are called directly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import Any

import pluggy
from pydantic import ValidationError

from swarm_runner.errors import Diagnostic, InvalidInputError, SwarmRunnerError
from swarm_runner.hooks import specs
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.job import Hold, Job, JobChange, Release, Remove
from swarm_runner.model.pool import Destination, Route
from swarm_runner.model.pool_status import PoolStatus
from swarm_runner.model.scaling import ClassSnapshot, ScalingDecision, ScalingLimits
from swarm_runner.policy import holds, routing, sizing
from swarm_runner.structured_log import get_logger
from swarm_runner.submit.description import SubmitDescription

log = get_logger(__name__)
ENTRY_POINT_GROUP = "swarm_runner"
BUILT_IN = (routing, holds, sizing)
HOOK_TIMEOUT_S = 10.0
# Notifications that wait for one plugin; beyond these they are dropped, with a log line.
MAX_PENDING_NOTIFICATIONS = 10_000


class _PluginError(Exception):
    """A plugin's fault, in words that name the plugin and the hook."""


class Hooks:
    """The built-in policies, the plugins of `installed` distributions, and `plugins`.

    A plugin that was registered later is asked first, the built-in policies last. Raises
    pluggy.PluginValidationError when a plugin does not fit the contract, SwarmRunnerError when an
    installed one cannot be loaded or wraps a hook.
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
        for policy in BUILT_IN:
            manager.register(policy)
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
        """Ask where an invocation goes.

        Raises InvalidInputError when a plugin refuses it or fails, or when it fits no class.
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
                return route
        raise _refusal(invocation, "no plugin routes it; install the plugin that should")

    def amend(
        self, description: SubmitDescription, invocation: Invocation, route: Route
    ) -> SubmitDescription:
        """Apply every plugin's changes; where two set one command, the plugin asked first wins.

        Raises InvalidInputError when a plugin fails or changes what it must not.
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
                message = f"{implementation} amended the submit description wrongly: {reason}"
                raise _refusal(invocation, message) from error
        return description

    def job_held(self, job: Job, hold: Hold) -> Release | Remove | None:
        """Ask what to do about a held job; None leaves it held."""
        for implementation in self._implementations["swarm_runner_job_held"]:
            try:
                decision = implementation.decide(
                    (Release, Remove), self._timeout_s, job=job, hold=hold
                )
            except _PluginError as error:
                log.error(f"{error}. The next policy decides", job_id=job.id, hold_code=hold.code)
                continue
            if isinstance(decision, Release | Remove):
                return decision
        return None

    def size_class(self, capacity_class: ScalingLimits, snapshot: ClassSnapshot) -> ScalingDecision:
        """Ask how many executors a class is to have; the class's limits hold for every answer."""
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
                return sizing.resolve_decision(answer, capacity_class, snapshot)
        return sizing.resolve_decision(None, capacity_class, snapshot)

    def jobs_changed(self, changes: Sequence[JobChange]) -> None:
        """Notify plugins of changes, in order."""
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
        self._function: Callable[..., object] = impl.function
        self._arguments = impl.argnames
        self._plugin = _plugin_name(impl)
        if impl.hookwrapper or impl.wrapper:
            raise SwarmRunnerError(
                f"plugin {self._plugin} wraps {hook}, which swarm_runner does not support; make "
                "it a plain hookimpl"
            )
        self._thread: _PluginThread | None = None
        if impl.plugin not in BUILT_IN:
            self._thread = threads.setdefault(id(impl.plugin), _PluginThread(self._plugin))

    def __str__(self) -> str:
        return f"plugin {self._plugin} ({self._hook})"

    def decide(self, types: type | tuple[type, ...], timeout_s: float, **arguments: object) -> Any:
        """Call a deciding hook; its answer has one of `types`, or is None.

        Raises InvalidInputError where the plugin does, _PluginError for any other fault.
        """
        values = [arguments[name] for name in self._arguments]
        if self._thread is None:
            return self._function(*values)
        try:
            answer = self._thread.call(lambda: self._function(*values), timeout_s)
        except InvalidInputError:
            raise
        except TimeoutError as error:
            raise _PluginError(f"{self} {error}") from error
        except Exception as error:
            raise _PluginError(f"{self} failed: {_describe(error)}") from error
        if answer is not None and (not isinstance(answer, types) or isinstance(answer, bool)):
            raise _PluginError(f"{self} returned {answer!r}, of type {type(answer).__name__}")
        return answer

    def notify(self, timeout_s: float, batch: Sequence[Mapping[str, object]]) -> None:
        """Call an observing hook for each item, in order; wait for it no longer than allowed."""

        def deliver() -> None:
            for arguments in batch:
                try:
                    self._function(*(arguments[name] for name in self._arguments))
                except Exception as error:
                    log.error(f"{self} failed: {_describe(error)}", exc_info=True)

        if self._thread is None:
            deliver()
        elif not self._thread.send(deliver, timeout_s):
            log.error(f"{self} takes longer than {timeout_s:g} s; its notifications wait")


class _PluginThread:
    """Runs a plugin's calls one after another, in a daemon thread that starts with the first."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._tasks: SimpleQueue[tuple[Callable[[], object], Future[object]]] = SimpleQueue()
        self._last: Future[object] | None = None
        self._thread: Thread | None = None

    def call(self, function: Callable[[], object], timeout_s: float) -> object:
        """Return what the function returns.

        Raises what it raises, and TimeoutError when an earlier call still runs or this one does
        not end in time: then its answer is discarded.
        """
        if self._last is not None and not self._last.done():
            raise TimeoutError("is still busy with an earlier call")
        future = self._put(function)
        try:
            return future.result(timeout_s)
        except TimeoutError as error:
            if future.done():  # the function's own
                raise
            raise TimeoutError(f"did not answer within {timeout_s:g} s") from error

    def send(self, function: Callable[[], object], timeout_s: float) -> bool:
        """Queue the function; whether it ended in time. Behind a call that blocks, do not wait."""
        behind = self._last is not None and not self._last.done()
        if self._tasks.qsize() >= MAX_PENDING_NOTIFICATIONS:
            log.error("A plugin is blocked; notifications are dropped", plugin=self._name)
            return True
        future = self._put(function)
        if behind:
            return True
        try:
            future.result(timeout_s)
        except TimeoutError:
            return False
        return True

    def _put(self, function: Callable[[], object]) -> Future[object]:
        # After a fork the object is there and the thread is not.
        if self._thread is None or not self._thread.is_alive():
            self._thread = Thread(
                target=self._run, name=f"swarm-runner plugin {self._name}", daemon=True
            )
            self._thread.start()
        self._last = future = Future[object]()
        self._tasks.put((function, future))
        return future

    def _run(self) -> None:
        while True:
            function, future = self._tasks.get()
            try:
                result = function()
            except BaseException as error:  # noqa: BLE001 (it belongs to the caller)
                future.set_exception(error)
            else:
                future.set_result(result)
            del function, future


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


def _refusal(invocation: Invocation, message: str) -> InvalidInputError:
    return InvalidInputError([Diagnostic(message, key=invocation.key)])
