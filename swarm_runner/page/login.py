"""Who may see the page: the holder of a token that the pool accepts, and the users of a proxy."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from swarm_runner.condor.token_check import MAX_TOKEN_LENGTH, TokenCheck, TokenVerdict
from swarm_runner.errors import Diagnostic, InvalidInputError
from swarm_runner.structured_log import get_logger

log = get_logger(__name__)

COOKIE = "swarm_runner_session"
SESSION_S = 12 * 3600.0
# A token that is revoked ends its sessions after this time, at the latest, while few are open.
RECHECK_S = 900.0
RECHECK_INTERVAL_S = 10.0
MAX_SESSIONS = 10_000
# Logins that wait for the pool's answer. Each check is a process.
MAX_PENDING_LOGINS = 8
MAX_USER_LENGTH = 100

CheckToken = Callable[[str], TokenCheck]


class TooManyLoginsError(Exception):
    """Too many logins are waiting for the pool's verdict."""


@dataclass(frozen=True, slots=True)
class Session:
    """A browser that presented a token. The token stays in memory, to be checked again."""

    identity: str
    expires_s: float
    checked_s: float
    token: str = field(repr=False)
    rejected: bool = False
    """Whether the pool rejected the token when it was checked last."""


class Sessions:
    """The browsers that are logged in. They are lost when the process ends.

    Args:
        check: Asks the pool about a token.
        clock: Returns the time in seconds since the epoch.
    """

    def __init__(self, check: CheckToken, clock: Callable[[], float] = time.time) -> None:
        self._check = check
        self._clock = clock
        # By the digest of the cookie: who reads this process's memory dump gets no cookie.
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._pending = 0
        self._turn = asyncio.Lock()

    async def log_in(self, token: str) -> tuple[TokenVerdict, str]:
        """Ask the pool about a token. Return the verdict, and a cookie's value if it accepts.

        Raises TooManyLoginsError.
        """
        token = token.strip()
        if not token or len(token) > MAX_TOKEN_LENGTH or not token.isascii():
            return TokenVerdict.REJECTED, ""
        if self._pending >= MAX_PENDING_LOGINS:
            raise TooManyLoginsError
        checked = await self._check_in_turn(token)
        now = self._clock()
        expires_s = min(checked.expires_s or float("inf"), now + SESSION_S)
        accepted = TokenVerdict.ACCEPTED
        verdict = TokenVerdict.REJECTED if expires_s <= now else checked.verdict
        if verdict is not accepted:
            log.info("Login refused", verdict=verdict.value)
            return verdict, ""
        cookie = secrets.token_urlsafe(32)
        self._sessions[_digest(cookie)] = Session(checked.identity, expires_s, now, token)
        while len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
        log.info("Logged in", identity=checked.identity)
        return accepted, cookie

    def find(self, cookie: str | None) -> Session | None:
        """Return the session of a cookie, if it has not ended."""
        if not cookie or len(cookie) > MAX_USER_LENGTH:
            return None
        session = self._sessions.get(_digest(cookie))
        return session if session is not None and session.expires_s > self._clock() else None

    def log_out(self, cookie: str | None) -> None:
        """End the session of a cookie."""
        self._sessions.pop(_digest(cookie or ""), None)

    async def recheck(self) -> None:
        """Drop the sessions that ended, and check the token that was checked longest ago again."""
        now = self._clock()
        for digest in [d for d, session in self._sessions.items() if session.expires_s <= now]:
            del self._sessions[digest]
        oldest = min(self._sessions.values(), key=lambda s: s.checked_s, default=None)
        if oldest is None or now - oldest.checked_s < RECHECK_S:
            return
        checked = await self._check_in_turn(oldest.token)
        is_rejected = checked.verdict is TokenVerdict.REJECTED
        for digest, session in list(self._sessions.items()):
            if session.token != oldest.token:
                continue
            if is_rejected and session.rejected:
                log.info(
                    "Session ended: its token is no longer accepted", identity=session.identity
                )
                del self._sessions[digest]
            elif is_rejected:  # A pool that is restarting may reject what it accepts later.
                self._sessions[digest] = replace(session, rejected=True)
            else:  # A pool that does not answer has not revoked anything.
                self._sessions[digest] = replace(session, checked_s=now, rejected=False)

    async def recheck_forever(self) -> None:
        """Call `recheck` until cancelled."""
        while True:
            await asyncio.sleep(RECHECK_INTERVAL_S)
            await self.recheck()

    async def _check_in_turn(self, token: str) -> TokenCheck:
        self._pending += 1
        try:
            async with self._turn:
                return await asyncio.to_thread(self._check, token)
        finally:
            self._pending -= 1


def _digest(cookie: str) -> str:
    return hashlib.sha256(cookie.encode(errors="replace")).hexdigest()


class TrustedProxies:
    """Reverse proxies that log users in themselves, and name them in a header.

    The header of any other peer is ignored. Raises InvalidInputError for an address that is none,
    and for a header without addresses or addresses without a header.
    """

    def __init__(self, header: str | None = None, addresses: Iterable[str] = ()) -> None:
        self._header = (header or "").lower().encode("ascii", "replace")
        diagnostics: list[Diagnostic] = []
        self._networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        for address in addresses:
            try:
                self._networks.append(ipaddress.ip_network(address))
            except ValueError as error:
                source = f"--trusted-proxy {address}"
                message = f"{error}; write an address such as 192.0.2.7, or a network"
                diagnostics.append(Diagnostic(message, source=source))
        if bool(self._header) != bool(self._networks) and not diagnostics:
            message = "--user-header and --trusted-proxy need each other: give both, or neither"
            diagnostics.append(Diagnostic(message))
        if diagnostics:
            raise InvalidInputError(diagnostics)

    def trusts(self, peer: str) -> bool:
        """Return whether requests from this address are a trusted proxy's."""
        try:
            address = ipaddress.ip_address(peer)
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None) or address
        return any(mapped in network for network in self._networks)

    def user(self, peer: str, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """Return the user that a trusted proxy names; empty if there is none, or several."""
        if not self._header or not self.trusts(peer):
            return ""
        names = [value for name, value in headers if name.lower() == self._header]
        return (
            names[0].decode("utf-8", "replace").strip()[:MAX_USER_LENGTH] if len(names) == 1 else ""
        )
