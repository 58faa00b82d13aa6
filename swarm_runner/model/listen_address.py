"""HOST:PORT, where metrics or the page are served."""

from __future__ import annotations

from swarm_runner.errors import Diagnostic, InvalidInputError

MAX_PORT = 65535


def parse_listen_address(address: str, example: str, source: str) -> tuple[str, int]:
    """Split HOST:PORT; the host may be in brackets, as an IPv6 address is.

    `source` is where the address was configured. Raises InvalidInputError.
    """
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and int(port) <= MAX_PORT):
        message = f"write HOST:PORT, for example {example}"
        raise InvalidInputError([Diagnostic(message, source=f"{source} {address}".strip())])
    return host.removeprefix("[").removesuffix("]"), int(port)
