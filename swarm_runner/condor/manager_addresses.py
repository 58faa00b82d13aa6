"""The addresses of a pool's managers: the one that has the job queue answers."""

from __future__ import annotations

import contextlib
import socket

PROBE_TIMEOUT_S = 3.0
# Docker's proxy for the loopback address accepts a connection, and closes it when it finds that
# nothing listens in the container. HTCondor waits for the client's first word.
CLOSE_TIMEOUT_S = 0.3


class ManagerAddresses:
    """The managers of a pool, in the text of `Pool.address`: `host:port`, with commas between."""

    def __init__(self, text: str) -> None:
        self._addresses = text.split(",")
        self._found = len(self._addresses) == 1

    def answering(self) -> str:
        """Return the address that accepted connections when `problem` last tried them.

        A pool's only address is returned as it is.
        """
        if not self._found:
            self.problem()
        return self._addresses[0]

    def problem(self) -> str:
        """Try the addresses. Return why none accepts connections, or nothing if there is one."""
        problem = ""
        for address in list(self._addresses):
            try:
                self._probe(address)
            except (OSError, UnicodeError) as error:
                problem = problem or str(error)
            else:
                self._found = True
                self._addresses.remove(address)
                self._addresses.insert(0, address)
                return ""
        return problem

    def _probe(self, address: str) -> None:
        """Raise OSError or UnicodeError if an address does not accept connections."""
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port)), PROBE_TIMEOUT_S) as connection:
            if len(self._addresses) > 1:
                connection.settimeout(CLOSE_TIMEOUT_S)
                with contextlib.suppress(TimeoutError):
                    if not connection.recv(1):
                        raise ConnectionResetError("the connection was closed at once")
