"""One pool's collector and schedd over the network, and what to check when they do not answer."""

from __future__ import annotations

import base64
import json
import logging
import os
import socket
import threading
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import platformdirs
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from swarm_runner.errors import UnreachableError

# The bindings keep one configuration and one set of connections for the whole process.
LOCK = threading.RLock()


@cache
def htcondor() -> Any:
    """The module `htcondor2`, with no configuration of this machine's own unless it is named.

    A machine that merely submits has no configuration file, and the bindings would complain.
    """
    with LOCK:
        absent = "CONDOR_CONFIG" not in os.environ
        if absent:
            os.environ["CONDOR_CONFIG"] = os.devnull
        try:
            return import_module("htcondor2")
        finally:
            if absent:
                del os.environ["CONDOR_CONFIG"]


@cache
def classad() -> Any:
    """The module `classad2`."""
    htcondor()
    return import_module("classad2")


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


def token_file(pool_name: str, token_directory: str | None = None) -> Path:
    """Where a pool's token lies: one file for each pool, mode 0600."""
    directory = (
        Path(token_directory)
        if token_directory
        else platformdirs.user_config_path("swarm-runner") / "tokens.d"
    )
    return directory / pool_name


def token_problem(file: Path, now: float) -> str | None:
    """What is wrong with a token as far as one can see from here, and what to do; or nothing."""
    try:
        text = file.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return f"there is no token at {file}; `swarm-runner pool up` writes it there"
    except (OSError, UnicodeDecodeError) as error:
        return f"the token at {file} cannot be read: {error}"
    try:
        payload = text.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        expires = claims.get("exp")
    except (IndexError, ValueError, AttributeError):
        return f"what lies at {file} is no token; `swarm-runner pool up` writes a new one"
    if isinstance(expires, int | float) and expires <= now:
        when = datetime.fromtimestamp(expires, UTC).strftime("%Y-%m-%d %H:%M UTC")
        return f"the token at {file} expired on {when}; `swarm-runner pool up` writes a new one"
    return None
