"""The token with which a program authenticates itself to a pool: its file, and what it says.

Only the pool can check a token's signature.
"""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import platformdirs


def token_file(pool_name: str, token_directory: str | None = None) -> Path:
    """Return the path of a pool's token: one file for each pool, mode 0600."""
    directory = (
        Path(token_directory)
        if token_directory
        else platformdirs.user_config_path("swarm-runner") / "tokens.d"
    )
    return directory / pool_name


def token_claims(file: Path) -> dict[str, Any]:
    """Return what a token says of itself: `sub` (its identity), `exp`, `jti` and others.

    Raises OSError, or ValueError if it is not a token.
    """
    return claims_from_text(file.read_text(encoding="ascii"))


def claims_from_text(token: str) -> dict[str, Any]:
    """Return what a token says of itself. Raises ValueError if it is not a token."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except IndexError as error:
        raise ValueError("not a token") from error
    if not isinstance(claims, dict):
        raise ValueError("not a token")
    return claims


def token_problem(file: Path, now: float) -> str | None:
    """Return what is wrong with a token and what to do; None if no problem is visible here.

    `now` is in seconds since the epoch.
    """
    try:
        expires = token_claims(file).get("exp")
    except FileNotFoundError:
        return f"there is no token at {file}; run `swarm-runner pool up` to write it"
    except OSError as error:
        return f"the token at {file} cannot be read: {error}"
    except ValueError:
        return f"the file {file} is not a token; run `swarm-runner pool up` to write a new one"
    if isinstance(expires, int | float) and expires <= now:
        expiry = datetime.fromtimestamp(expires, UTC).strftime("%Y-%m-%d %H:%M UTC")
        return f"the token at {file} expired on {expiry}; `swarm-runner pool up` writes a new one"
    return None


def address_for_token(address: str, file: Path) -> str:
    """Return an HTCondor address that differs between two tokens, and leads to the same daemon.

    HTCondor keeps one session for each address. Two programs, or two runners, of one process that
    use different tokens would otherwise share the first one's identity.
    """
    try:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    except OSError:
        return address
    body = address.removesuffix(">")
    return f"{body}{'&' if '?' in body else '?'}token={digest}>"


def token_user(file: Path) -> str | None:
    """Return the identity in a token, which owns what it submits; None if it cannot be read."""
    try:
        user = token_claims(file).get("sub")
    except (OSError, ValueError):
        return None
    return user if isinstance(user, str) else None
