"""The client's token: where it lies, and what is wrong with it if we are not let in."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from pathlib import Path

import platformdirs


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
