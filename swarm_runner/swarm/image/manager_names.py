"""Keeps the last addresses of the central manager, for when the engine does not resolve its name.

An engine may answer for hours that a service's name does not exist (moby#53141, Engine 29 after a
cut of some seconds). HTCondor resolves the name at every update: the executor's ads would expire,
and no job would be matched to it. Lines in /etc/hosts, which is read before the engine is asked,
keep the last addresses. This module asks the engine itself and follows a manager that moves.
"""

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

HOSTS = Path("/etc/hosts")
INTERVAL_S = 5.0
MARKER = "# swarm-runner: the last known address"


def resolve(name: str) -> list[str]:
    """Return the addresses that the engine has for a name; none if it does not resolve it.

    The dot at the end makes the name differ from the one in /etc/hosts.
    """
    try:
        found = socket.getaddrinfo(f"{name}.", None, socket.AF_INET, socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(str(address[4][0]) for address in found))


class ManagerNames:
    """The names and their last addresses, as lines of the hosts file."""

    def __init__(
        self,
        names: Iterable[str],
        hosts: Path = HOSTS,
        resolver: Callable[[str], list[str]] = resolve,
    ) -> None:
        self._hosts = hosts
        self._resolver = resolver
        self._addresses: dict[str, list[str]] = {name: [] for name in names}
        self._written: set[tuple[str, str]] = set()

    def update(self) -> None:
        """Ask for each name. One that does not resolve keeps its addresses. Raises OSError."""
        for name in self._addresses:
            self._addresses[name] = self._resolver(name) or self._addresses[name]
        known = {(name, address) for name, found in self._addresses.items() for address in found}
        # A set: the engine rotates the addresses of a name that has several.
        if known != self._written:
            self._write()
            self._written = known

    def keep(self) -> None:
        """Update forever."""
        while True:
            try:
                self.update()
            except OSError as error:
                sys.stderr.write(f"swarm-runner: {self._hosts} was not changed: {error}\n")
            time.sleep(INTERVAL_S)

    def _write(self) -> None:
        """Replace this module's lines. The file is a mount, and cannot be replaced itself."""
        lines = [line for line in self._hosts.read_text().splitlines() if MARKER not in line]
        lines += [
            f"{address}\t{name}\t{MARKER}"
            for name, addresses in self._addresses.items()
            for address in addresses
        ]
        content = "".join(f"{line}\n" for line in lines).encode()
        with self._hosts.open("r+b", buffering=0) as file:
            file.write(content)  # in one call: a reader sees the old content or the new
            os.ftruncate(file.fileno(), len(content))


def start(names: Iterable[str]) -> None:
    """Keep the addresses of these names in a thread."""
    threading.Thread(target=ManagerNames(names).keep, daemon=True).start()
