"""One pool's collector and schedd over the network, and what to check when they do not answer."""

from __future__ import annotations

import logging
import socket
import time
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from swarm_runner.condor.bindings import LOCK, htcondor
from swarm_runner.condor.token import token_file, token_problem
from swarm_runner.errors import UnreachableError

log = logging.getLogger(__name__)
Result = TypeVar("Result")
MAX_ATTEMPTS = 3
PROBE_TIMEOUT_S = 3.0


class NoResponseError(UnreachableError):
    """Nobody answered; asking again may help."""


class Connection:
    """Talks to the pool at `address` (host:port) with the token of `pool_name`."""

    def __init__(self, address: str, pool_name: str, token_directory: str | None = None) -> None:
        self.address = address
        self.pool_name = pool_name
        self._token_file = token_file(pool_name, token_directory)
        self._schedd_location: Any = None

    def query(self, operation: Callable[[Any], Result]) -> Result:
        """Put a question to the schedd that may be put again: a few times, with pauses."""
        return self.retry_on_no_response(lambda: self._query_once(operation))

    def query_collector(self, operation: Callable[[Any], Result]) -> Result:
        """Put a question to the collector, likewise."""
        return self.retry_on_no_response(lambda: self._query_collector_once(operation))

    def call_once(self, operation: Callable[[Any], Result]) -> Result:
        """Give the schedd an order, once.

        The bindings' own exception comes out, or OutOfReachError when there is no schedd to ask.
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
                    log.warning("HTCondor: %s", warning.message)

    def retry_on_no_response(self, operation: Callable[[], Result]) -> Result:
        """Try again, a few times and with pauses, while it raises UnansweredError."""
        return Retrying(
            retry=retry_if_exception_type(NoResponseError),
            stop=stop_after_attempt(MAX_ATTEMPTS),
            wait=wait_exponential(multiplier=0.3, max=2),
            reraise=True,
        )(operation)

    def diagnose(self, cause: object) -> UnreachableError:
        """Why the pool does not answer or does not let us in, as an error to raise.

        Looks, in this order: does anything listen there, is the token good, is a schedd
        advertised, does it take the token.
        """
        host, _, port = self.address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), PROBE_TIMEOUT_S).close()
        except (OSError, UnicodeError) as error:
            return NoResponseError(
                f"Nothing answers at {self.address} ({error}). Is pool {self.pool_name} up "
                "(`swarm-runner pool status`), and are host and port right in job_conf?"
            )
        wrong = token_problem(self._token_file, time.time())
        if wrong:
            return UnreachableError(f"Pool {self.pool_name} does not let us in: {wrong}.")
        with LOCK:
            self._configure()
            bindings = htcondor()
            try:
                location = bindings.Collector(self.address).locate(bindings.DaemonType.Schedd)
            except bindings.HTCondorException:
                return self._token_rejected(cause)
            if location is None:
                return NoResponseError(
                    f"Pool {self.pool_name} answers at {self.address}, but its access point "
                    "does not. It may be starting: try again in a minute."
                )
            try:
                bindings.ping(location, "WRITE")
            except bindings.HTCondorException as error:
                if "connect" not in str(error):
                    return self._token_rejected(cause)
        return NoResponseError(
            f"The access point of pool {self.pool_name} at {self.address} did not answer "
            f"({cause}). It may be starting: try again in a minute."
        )

    def _token_rejected(self, cause: object) -> UnreachableError:
        return UnreachableError(
            f"Pool {self.pool_name} at {self.address} does not take the token at {self._token_file} "
            f"({cause}). It is another pool's, or the pool was made anew since: "
            "`swarm-runner pool up` writes a new one."
        )

    def _query_once(self, operation: Callable[[Any], Result]) -> Result:
        try:
            return self.call_once(operation)
        except htcondor().HTCondorException as error:
            raise self.diagnose(error) from error

    def _query_collector_once(self, operation: Callable[[Any], Result]) -> Result:
        bindings = htcondor()
        try:
            with LOCK:
                self._configure()
                return operation(bindings.Collector(self.address))
        except bindings.HTCondorException as error:
            raise self.diagnose(error) from error

    def _locate_schedd(self) -> Any:
        """The schedd, located anew after each failure: a restart changes its address."""
        self._configure()
        bindings = htcondor()
        if self._schedd_location is None:
            try:
                location = bindings.Collector(self.address).locate(bindings.DaemonType.Schedd)
            except bindings.HTCondorException as error:
                raise self.diagnose(error) from error
            if location is None:
                raise self.diagnose("no schedd is advertised")
            self._schedd_location = location
        return bindings.Schedd(self._schedd_location)

    def _configure(self) -> None:
        """Set what the bindings read anew at each call; another pool's may stand there."""
        settings = htcondor().param
        settings["SEC_TOKEN_DIRECTORY"] = str(self._token_file.parent)
        settings["SEC_CLIENT_AUTHENTICATION"] = "REQUIRED"
        settings["SEC_CLIENT_AUTHENTICATION_METHODS"] = "IDTOKENS"
        for name in ("TRUST_DOMAIN", "UID_DOMAIN", "FILESYSTEM_DOMAIN"):
            settings[name] = self.pool_name
