"""What `swarm-runner doctor` reads of a pool's daemons and of the token for them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swarm_runner.condor.connection import Connection, htcondor
from swarm_runner.condor.tokens import token_claims
from swarm_runner.model.pool import Pool

_PROJECTION = ["MyType", "Name", "CondorVersion", "MyCurrentTime", "LastHeardFrom", "SwarmNode"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Daemon:
    """One daemon that the pool's collector knows.

    Attributes:
        kind: HTCondor's type of its ad, such as Scheduler, Collector, or Machine for a startd.
        version: Its HTCondor version, such as 25.14.1.
        sent_s: The daemon's clock when it sent the ad, in seconds since the epoch.
        received_s: The collector's clock when it received the ad.
    """

    kind: str
    name: str
    version: str = ""
    sent_s: float | None = None
    received_s: float | None = None


def read_daemons(pool: Pool, token_directory: str | None) -> list[Daemon]:
    """Return the daemons of a pool: the central manager's, and one startd of each node.

    Raises UnreachableError if the pool does not answer or rejects the token.
    """
    connection = Connection(pool.address, pool.name, token_directory)
    daemons = one_of_each_node(map(parse_ad, connection.query_collector(_query)))
    # The collector's answer says nothing of the schedd, which may be stopped or reject the token.
    connection.query(lambda schedd: schedd.query("false", ["ClusterId"], limit=1))
    return daemons


def _query(collector: Any) -> list[Any]:
    types = htcondor().AdType
    return [
        ad
        for kind in (types.Schedd, types.Collector, types.Negotiator, types.Startd)
        for ad in collector.query(kind, projection=_PROJECTION)
    ]


def one_of_each_node(daemons: Iterable[Daemon]) -> list[Daemon]:
    """Return the daemons with one slot for each node: the slots of a node have one clock."""
    return list({(daemon.kind, daemon.name): daemon for daemon in daemons}.values())


def parse_ad(ad: Any) -> Daemon:
    """Return the daemon of an ad. The name of a slot is that of its node.

    Its version is in a text: `$CondorVersion: 25.14.1 2026-...$`.
    """
    version = str(ad.get("CondorVersion", "")).split()
    return Daemon(
        kind=str(ad.get("MyType", "")),
        name=str(ad.get("SwarmNode", ad.get("Name", ""))),
        version=version[1] if len(version) > 1 else "",
        sent_s=ad.get("MyCurrentTime"),
        received_s=ad.get("LastHeardFrom"),
    )


@dataclass(frozen=True, slots=True)
class TokenClaims:
    """Which pool issued a token, when, and when it expires; None is unknown, or never."""

    issuer: str | None
    issued_s: float | None
    expires_s: float | None = None


def read_claims(file: Path) -> TokenClaims | None:
    """Return the claims of a token; None if the file cannot be read or is not a token."""
    try:
        claims = token_claims(file)
    except (OSError, ValueError):
        return None
    expires_s = claims.get("exp")
    if not isinstance(expires_s, int | float):
        expires_s = None
    return TokenClaims(claims.get("iss"), claims.get("iat"), expires_s)
