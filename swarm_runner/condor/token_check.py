"""Asks a pool whether it accepts a token: only the pool can check a signature and a revocation.

The bindings keep sessions, so that a process which talked to the pool before might be accepted for
its earlier token. Each check has a process of its own, which has no other token and receives this
one on its standard input.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from swarm_runner.condor.connection import htcondor
from swarm_runner.condor.manager_addresses import ManagerAddresses
from swarm_runner.condor.tokens import claims_from_text
from swarm_runner.model.pool import Pool

# A daemon may need many seconds for its first answer to a new token.
TIMEOUT_S = 60.0
# Tokens of HTCondor have a few hundred characters.
MAX_TOKEN_LENGTH = 4096
_CHILD_CODE = """
import sys
sys.path[:] = sys.argv[1:]
from swarm_runner.condor.token_check import main
main()
"""


class TokenVerdict(StrEnum):
    """What a pool makes of a token."""

    ACCEPTED = "accepted"
    """The pool lets its owner read."""
    REJECTED = "rejected"
    """It is not a token of the pool, or it is expired, revoked, or without the permission READ."""
    UNKNOWN = "unknown"
    """The pool did not answer in time."""


@dataclass(frozen=True, slots=True)
class TokenCheck:
    """The verdict, and of an accepted token its identity and expiry (seconds since the epoch)."""

    verdict: TokenVerdict
    identity: str = ""
    expires_s: float | None = None


def check_token(pool: Pool, token: str, timeout_s: float = TIMEOUT_S) -> TokenCheck:
    """Ask the pool's collector whether it accepts a token for reading.

    The token is never in a file, an argument or the environment.
    """
    try:
        claims = claims_from_text(token)
    except ValueError:
        return TokenCheck(TokenVerdict.REJECTED)
    request = json.dumps({"address": pool.address, "pool": pool.name, "token": token})
    try:
        done = subprocess.run(  # noqa: S603 (this module)
            [sys.executable, "-c", _CHILD_CODE, *sys.path],
            input=request,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=True,
            start_new_session=True,
        )
        verdict = TokenVerdict(done.stdout)
    except (subprocess.SubprocessError, OSError, ValueError):
        return TokenCheck(TokenVerdict.UNKNOWN)
    if verdict is not TokenVerdict.ACCEPTED:
        return TokenCheck(verdict)
    expires = claims.get("exp")
    expires_s = float(expires) if isinstance(expires, int | float) else None
    return TokenCheck(verdict, str(claims.get("sub", "")), expires_s)


def ping(address: str, pool_name: str, token: str) -> TokenVerdict:
    """Return a collector's verdict on a token, in a process that has no other token."""
    bindings: Any = htcondor()
    settings = bindings.param
    for name in ("SEC_TOKEN_DIRECTORY", "SEC_TOKEN_SYSTEM_DIRECTORY", "SEC_PASSWORD_DIRECTORY"):
        settings[name] = os.devnull
    settings["SEC_TOKEN_POOL_SIGNING_KEY_FILE"] = os.devnull
    settings["SEC_CLIENT_AUTHENTICATION"] = "REQUIRED"
    settings["SEC_CLIENT_AUTHENTICATION_METHODS"] = "IDTOKENS"
    for name in ("TRUST_DOMAIN", "UID_DOMAIN", "FILESYSTEM_DOMAIN"):
        settings[name] = pool_name
    try:
        location = _resolve(ManagerAddresses(address).answering())
        reply = bindings.ping(location, "READ", bindings.SecurityContext(token))
    except OSError:
        return TokenVerdict.UNKNOWN
    except bindings.HTCondorException as error:
        # "Unable to connect ..." before anything was sent; "Failed to start command" if the
        # authentication fails.
        unreachable = "connect" in str(error)
        return TokenVerdict.UNKNOWN if unreachable else TokenVerdict.REJECTED
    # A ping also succeeds without the permission: it only reports it.
    allowed = reply.get("AuthorizationSucceeded") is True
    return TokenVerdict.ACCEPTED if allowed else TokenVerdict.REJECTED


def _resolve(address: str) -> str:
    """Return host:port as an address that HTCondor connects to. Raises OSError."""
    host, _, port = address.rpartition(":")
    family, *_, endpoint = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0]
    number = f"[{endpoint[0]}]" if family == socket.AF_INET6 else endpoint[0]
    return f"<{number}:{port}>"


def main() -> None:
    """Run the child process: read a request, write the verdict."""
    request = json.load(sys.stdin)
    verdict = ping(request["address"], request["pool"], request["token"])
    sys.stdout.write(verdict.value)
