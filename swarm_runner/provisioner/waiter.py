"""Polling and retrying with timeouts, and waiting until a pool has converged."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

from tenacity import (
    RetryError,
    Retrying,
    retry_base,
    retry_if_exception,
    retry_if_exception_type,
    retry_if_result,
    stop_after_delay,
    stop_never,
    wait_fixed,
)

from swarm_runner.errors import PreconditionError, UnreachableError
from swarm_runner.model.pool import Pool
from swarm_runner.model.pool_status import PoolStatus, TaskState
from swarm_runner.provisioner.preconditions import PermanentError, check_services_exist
from swarm_runner.provisioner.task_failures import TaskFailures
from swarm_runner.structured_log import get_logger
from swarm_runner.swarm.ports import Swarm

log = get_logger(__name__)

Result = TypeVar("Result")
POLL_INTERVAL_S = 1.0
# A Swarm elects a leader within seconds; a restarted engine needs longer.
OUTAGE_TIMEOUT_S = 120.0


class Waiter:
    """Polls every `poll_interval_s` seconds and reports to `progress` what it waits for.

    An action that raises UnreachableError is retried for `outage_timeout_s` seconds.
    """

    def __init__(
        self,
        progress: Callable[[str], None],
        poll_interval_s: float,
        outage_timeout_s: float = OUTAGE_TIMEOUT_S,
    ) -> None:
        self._progress = progress
        self._poll_interval_s = poll_interval_s
        self._outage_timeout_s = outage_timeout_s
        self._last_message = ""

    def report(self, message: str) -> None:
        """Report a message, unless it equals the last one."""
        if message != self._last_message:
            self._last_message = message
            self._progress(message)

    def poll_until(
        self, poll: Callable[[], Result], is_done: Callable[[Result], bool], timeout_s: float | None
    ) -> Result:
        """Call `poll` until `is_done` accepts its result, and return that result.

        Raises PreconditionError with the last message after `timeout_s` seconds (None: no limit),
        and UnreachableError when an outage lasts too long.
        """
        retrying = self._retrying(timeout_s, retry_if_result(lambda result: not is_done(result)))
        try:
            return retrying(self._with_outage_retries(poll, timeout_s))
        except RetryError as error:
            raise PreconditionError(
                f"timed out after {timeout_s:g} s: {self._last_message}"
            ) from error

    def retry_while_refused(self, action: Callable[[], Result], timeout_s: float) -> Result:
        """Retry while the action raises PreconditionError, except PermanentError."""

        def attempt() -> Result:
            try:
                return action()
            except PreconditionError as error:
                self._report_retry(error, logging.DEBUG)
                raise

        return self._retrying(timeout_s, retry_if_exception(_is_temporary_refusal))(
            self._with_outage_retries(attempt, timeout_s)
        )

    def retry_quietly(self, action: Callable[[], Result], timeout_s: float) -> Result:
        """Retry without a message while PreconditionError or UnreachableError is raised."""
        retry = retry_if_exception_type((PreconditionError, UnreachableError))
        return self._retrying(timeout_s, retry)(action)

    def retry_while_unreachable(
        self, action: Callable[[], Result], timeout_s: float | None = None
    ) -> Result:
        """Retry an idempotent action during an outage, such as the election of a Swarm leader.

        Raises UnreachableError when the outage lasts longer than the outage timeout, or longer
        than `timeout_s`.
        """

        def attempt() -> Result:
            try:
                return action()
            except UnreachableError as error:
                self._report_retry(error, logging.WARNING)
                raise

        stop_after_s = self._outage_timeout_s
        if timeout_s is not None:
            stop_after_s = min(stop_after_s, timeout_s)
        return self._retrying(stop_after_s, retry_if_exception_type(UnreachableError))(attempt)

    def _report_retry(self, error: Exception, level: int) -> None:
        """Report and log a retry. Only the first of equal ones is logged above DEBUG."""
        message = f"retrying: {error}"
        repeated = message == self._last_message
        log.log(logging.DEBUG if repeated else level, "Retrying", reason=str(error))
        self.report(message)

    def _with_outage_retries(
        self, action: Callable[[], Result], timeout_s: float | None
    ) -> Callable[[], Result]:
        """Return the action with retries during an outage, until a deadline counted from now."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        return lambda: self.retry_while_unreachable(
            action, None if deadline is None else deadline - time.monotonic()
        )

    def _retrying(self, timeout_s: float | None, retry: retry_base) -> Retrying:
        stop = stop_never if timeout_s is None else stop_after_delay(max(timeout_s, 0))
        return Retrying(
            stop=stop, wait=wait_fixed(self._poll_interval_s), retry=retry, reraise=True
        )


def _is_temporary_refusal(error: BaseException) -> bool:
    return isinstance(error, PreconditionError) and not isinstance(error, PermanentError)


class ConvergenceWaiter:
    """Waits until the classes that a command changes have converged, and no others.

    Args:
        pool: The pool.
        swarm: Where its services run.
        observe: Returns the pool's current status.
        waiter: Polls and reports.
    """

    def __init__(
        self, pool: Pool, swarm: Swarm, observe: Callable[[], PoolStatus], waiter: Waiter
    ) -> None:
        self._pool = pool
        self._swarm = swarm
        self._observe = observe
        self._waiter = waiter

    def start(self, node_count: int) -> TaskFailures:
        """Start to record task failures. Tasks that have failed already do not count."""
        return TaskFailures(self._waiter.retry_while_unreachable(self._tasks), node_count)

    def wait(
        self,
        classes: Collection[str],
        timeout_s: float | None,
        failures: TaskFailures,
        *,
        require_complete: bool = False,
    ) -> None:
        """Wait until each class has exactly the executors that its service asks for.

        A node among several on which tasks keep failing is reported, and the wait ends without
        it; with `require_complete` this raises PreconditionError. PreconditionError also means
        that tasks start on no node, that a service is missing, that the pool's HTCondor is too
        old, or that `timeout_s` seconds have passed.
        """

        def poll() -> list[str]:
            tasks = self._tasks()
            failures.check(tasks)
            status = self._observe()
            check_services_exist(
                self._pool, {self._pool.service(name) for name in status.replicas}, classes
            )
            if status.unsupported_version:
                raise PreconditionError("; ".join(status.problems))
            pending = status.pending_changes(classes, self._by_class(failures.blocked_slots(tasks)))
            if pending:
                self._waiter.report("waiting for " + "; ".join([*status.problems, *pending]))
            return pending

        self._waiter.poll_until(poll, lambda pending: not pending, timeout_s)
        tasks = self._waiter.retry_while_unreachable(self._tasks)
        messages = failures.messages(tasks)
        for message in messages:
            log.warning("Tasks fail on a node", pool=self._pool.name, reason=message)
            self._waiter.report(message)
        if require_complete and failures.blocked_slots(tasks):
            status = self._waiter.retry_while_unreachable(self._observe)
            if pending := status.pending_changes(classes):
                raise PreconditionError("; ".join([*pending, *messages]))

    def _by_class(self, blocked_slots: Mapping[str, int]) -> dict[str, int]:
        classes = {self._pool.service(name): name for name in self._pool.classes}
        return {
            classes[service]: count
            for service, count in blocked_slots.items()
            if service in classes
        }

    def _tasks(self) -> list[TaskState]:
        return self._swarm.tasks(self._pool.name)
