"""The bindings, and the connection to one pool's collector and schedd."""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any, TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential,
)

from swarm_runner.condor.manager_addresses import ManagerAddresses
from swarm_runner.condor.tokens import address_for_token, token_file, token_problem, token_user
from swarm_runner.errors import UnreachableError
from swarm_runner.structured_log import get_logger

log = get_logger(__name__)
Result = TypeVar("Result")
MAX_ATTEMPTS = 3
# The bindings have one configuration and one set of connections per process.
LOCK = threading.RLock()


class NoResponseError(UnreachableError):
    """The pool did not respond. A retry may succeed."""


@cache
def htcondor() -> Any:
    """Return the module `htcondor2`, without this host's configuration unless it is named.

    A host that only submits has no configuration file, about which the bindings would warn.
    """
    with LOCK:
        unset = "CONDOR_CONFIG" not in os.environ
        if unset:
            os.environ["CONDOR_CONFIG"] = os.devnull
        try:
            return import_module("htcondor2")
        finally:
            if unset:
                del os.environ["CONDOR_CONFIG"]


@cache
def classad() -> Any:
    """Return the module `classad2`."""
    htcondor()
    return import_module("classad2")


class Connection:
    """The connection to the pool at `address` (`Pool.address`), with the token of `pool_name`."""

    def __init__(self, address: str, pool_name: str, token_directory: str | None = None) -> None:
        self.address = address
        self._managers = ManagerAddresses(address)
        self.pool_name = pool_name
        self._token_file = token_file(pool_name, token_directory)
        self._schedd_location: Any = None

    @property
    def user(self) -> str | None:
        """The identity in the token, which owns what it submits; None if it cannot be read."""
        return token_user(self._token_file)

    def query(self, operation: Callable[[Any], Result]) -> Result:
        """Call an operation that is safe to repeat on the schedd; retry with pauses.

        Raises UnreachableError.
        """
        return self.retry_on_no_response(lambda: self._query_once(operation))

    def query_collector(self, operation: Callable[[Any], Result]) -> Result:
        """Call an operation that is safe to repeat on the collector; retry with pauses.

        Raises UnreachableError.
        """
        return self.retry_on_no_response(lambda: self._query_collector_once(operation))

    def call_once(self, operation: Callable[[Any], Result]) -> Result:
        """Call an operation on the schedd once.

        Raises the bindings' own exception, or UnreachableError if the schedd cannot be located.
        """
        with LOCK, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            schedd = self._locate_schedd()
            try:
                return operation(schedd)
            except htcondor().HTCondorException:
                self._schedd_location = None
                raise
            finally:
                for warning in caught:
                    log.warning("HTCondor warning", pool=self.pool_name, warning=warning.message)

    def retry_on_no_response(self, operation: Callable[[], Result]) -> Result:
        """Retry an operation a few times, with pauses, while it raises NoResponseError."""
        return Retrying(
            retry=retry_if_exception_type(NoResponseError),
            stop=stop_after_attempt(MAX_ATTEMPTS),
            wait=wait_exponential(multiplier=0.3, max=2),
            before_sleep=self._log_retry,
            reraise=True,
        )(operation)

    def diagnose(self, cause: object) -> UnreachableError:
        """Return why the pool does not respond, or rejects our credentials, as an error to raise.

        The checks, in order: does anything listen at the address, is the token valid, is a schedd
        advertised, does the schedd accept the token.
        """
        if unreachable := self._managers.problem():
            return NoResponseError(
                f"Nothing answers at {self.address} ({unreachable}). Check that pool "
                f"{self.pool_name} is up (`swarm-runner pool status`), and its host and port in "
                "job_conf."
            )
        problem = token_problem(self._token_file, time.time())
        if problem:
            return UnreachableError(f"No valid token for pool {self.pool_name}: {problem}.")
        with LOCK:
            self._configure()
            bindings = htcondor()
            try:
                location = self._collector().locate(bindings.DaemonType.Schedd)
            except bindings.HTCondorException:
                return self._token_rejected(cause)
            if location is None:
                return NoResponseError(
                    f"Pool {self.pool_name} answers at {self.address}, but its access point does "
                    "not. It may be starting; try again in a minute."
                )
            try:
                bindings.ping(location, "WRITE")
            except bindings.HTCondorException as error:
                if "connect" not in str(error):
                    return self._token_rejected(cause)
        return NoResponseError(
            f"The access point of pool {self.pool_name} at {self.address} did not respond "
            f"({cause}). It may be starting; try again in a minute."
        )

    def _token_rejected(self, cause: object) -> UnreachableError:
        return UnreachableError(
            f"Pool {self.pool_name} at {self.address} rejected the token at {self._token_file} "
            f"({cause}). The token belongs to another pool, or the pool was created again; run "
            "`swarm-runner pool up` to write a new one."
        )

    def _log_retry(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        log.debug(
            "Retrying after no response",
            pool=self.pool_name,
            attempt=state.attempt_number,
            pause_s=round(state.upcoming_sleep, 1),
            error=error,
        )

    def _query_once(self, operation: Callable[[Any], Result]) -> Result:
        try:
            return self.call_once(operation)
        except htcondor().HTCondorException as error:
            raise self.diagnose(error) from error

    def _query_collector_once(self, operation: Callable[[Any], Result]) -> Result:
        try:
            with LOCK:
                self._configure()
                return operation(self._collector())
        except htcondor().HTCondorException as error:
            raise self.diagnose(error) from error

    def _collector(self) -> Any:
        """Return the collector of the manager that has the queue."""
        return htcondor().Collector(self._managers.answering())

    def _locate_schedd(self) -> Any:
        """Return the schedd. It is located again after each failure: a restart moves it."""
        self._configure()
        bindings = htcondor()
        if self._schedd_location is None:
            try:
                location = self._collector().locate(bindings.DaemonType.Schedd)
            except bindings.HTCondorException as error:
                raise self.diagnose(error) from error
            if location is None:
                raise self.diagnose("no schedd is advertised")
            location["MyAddress"] = address_for_token(location["MyAddress"], self._token_file)
            self._schedd_location = location
        return bindings.Schedd(self._schedd_location)

    def _configure(self) -> None:
        """Set what the bindings read at each call; another pool's values may be set."""
        settings = htcondor().param
        settings["SEC_TOKEN_DIRECTORY"] = str(self._token_file.parent)
        settings["SEC_CLIENT_AUTHENTICATION"] = "REQUIRED"
        settings["SEC_CLIENT_AUTHENTICATION_METHODS"] = "IDTOKENS"
        for name in ("TRUST_DOMAIN", "UID_DOMAIN", "FILESYSTEM_DOMAIN"):
            settings[name] = self.pool_name
