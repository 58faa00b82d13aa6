"""The pool's identities on the central manager: tokens, accounts and revocations.

`identities.py create NAME RIGHTS LIFETIME_S`, `list` or `revoke WHAT`. Prints JSON.

The record of all tokens, without the tokens themselves, is in the spool volume. Every identity has
an account with the uid of the pool's job user: HTCondor asks for one, and the files of all jobs
belong to one user.
"""

import base64
import fcntl
import json
import os
import pwd
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SPOOL_DIRECTORY = Path("/var/lib/swarm-runner/spool")
RECORD_NAME = "swarm-runner-tokens.json"
REVOCATIONS = Path("/etc/condor/config.d/revocations.conf")
RIGHTS = {"submit": ("READ", "WRITE"), "read": ("READ",)}
# A token that expired is listed for this long.
KEEP_EXPIRED_S = 30 * 86_400

Token = dict[str, Any]


def main() -> int:
    """Run one command."""
    command, *arguments = sys.argv[1:]
    with _locked_record() as tokens:
        if command == "create":
            result: Any = create(tokens, *arguments)
        elif command == "revoke":
            result = revoke(tokens, *arguments)
        else:
            result = tokens
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


def create(tokens: list[Token], name: str, rights: str, lifetime_s: str) -> Token:
    """Sign a token, record it and return it with its text."""
    ensure_account(name)
    pool = os.environ["SWARM_RUNNER_POOL"]
    command = ["condor_token_create", "-identity", f"{name}@{pool}", "-lifetime", lifetime_s]
    for right in RIGHTS[rights]:
        command += ["-authz", right]
    # The entry point may not have written the configuration yet; see Tokens in credentials.py.
    settings = {
        "_CONDOR_TRUST_DOMAIN": pool,
        "_CONDOR_SEC_TOKEN_POOL_SIGNING_KEY_FILE": "/etc/condor/passwords.d/POOL",
    }
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=os.environ | settings)
    text = done.stdout.decode("ascii").strip()
    payload = text.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    token = {
        "id": claims["jti"],
        "identity": claims["sub"],
        "rights": rights,
        "created_at": claims["iat"],
        "expires_at": claims["exp"],
        "revoked_at": None,
    }
    tokens.append(token)
    # An identity whose tokens were all revoked was shut out.
    write_revocations(tokens)
    reconfigure()
    return token | {"token": text}


def revoke(tokens: list[Token], what: str) -> list[Token]:
    """Revoke the token of that ID, or all tokens of an identity; return them."""
    pool = os.environ["SWARM_RUNNER_POOL"]
    found = [
        token
        for token in tokens
        if token["revoked_at"] is None
        and (token["id"] == what or token["identity"] in (what, f"{what}@{pool}"))
    ]
    for token in found:
        token["revoked_at"] = int(time.time())
    if found:
        write_revocations(tokens)
        reconfigure()
    return found


def restore() -> None:
    """Create the accounts and the configuration of revocations anew, in a new container."""
    with _locked_record() as tokens:
        for token in tokens:
            ensure_account(token["identity"].partition("@")[0])
        write_revocations(tokens)


def ensure_account(name: str) -> None:
    """Create an account with the uid of the pool's job user, unless there is one of that name."""
    try:
        pwd.getpwnam(name)
    except KeyError:
        uid, gid = (os.environ[f"SWARM_RUNNER_USER_{key}"] for key in ("UID", "GID"))
        command = ["/usr/sbin/useradd", "--non-unique", "--uid", uid, "--gid", gid]
        command += ["--no-create-home", "--home-dir", "/", "--shell", "/usr/sbin/nologin"]
        # Names come from the command line: an option is not a name.
        subprocess.run([*command, "--", name], check=True)


def write_revocations(tokens: list[Token]) -> None:
    """Write which tokens and identities the daemons reject.

    A revoked token starts no session. Sessions that it started before last a minute (manager.conf);
    an identity without any other token is shut out at once.
    """
    revoked = sorted({token["id"] for token in tokens if token["revoked_at"] is not None})
    valid = {token["identity"] for token in tokens if token["revoked_at"] is None}
    out = sorted({token["identity"] for token in tokens} - valid)
    lines = []
    if revoked:
        members = ", ".join(map(json.dumps, revoked))
        lines.append(f"SEC_TOKEN_REVOCATION_EXPR = member(jti, {{{members}}}) =?= true")
    if out:
        lines += [f"DENY_{level} = {', '.join(out)}" for level in ("READ", "WRITE")]
    # Executors advertise themselves. They need not read the queue, which has the environment of
    # every job. A setting of one daemon replaces the one for all.
    lines.append(f"SCHEDD.DENY_READ = {', '.join(['executor@$(TRUST_DOMAIN)', *out])}")
    REVOCATIONS.write_text("\n".join([*lines, ""]))


def reconfigure() -> None:
    """Have the daemons read their configuration again."""
    # It fails while the daemons start, which read the file then, and in a manager without daemons.
    subprocess.run(
        ["/usr/sbin/condor_reconfig"],
        check=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@contextmanager
def _locked_record() -> Iterator[list[Token]]:
    """Yield the record; write it at the end if it has changed."""
    with (SPOOL_DIRECTORY / f"{RECORD_NAME}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        path = SPOOL_DIRECTORY / RECORD_NAME
        text = path.read_text() if path.exists() else "[]"
        oldest = time.time() - KEEP_EXPIRED_S
        tokens = [token for token in json.loads(text) if token["expires_at"] > oldest]
        yield tokens
        if json.dumps(tokens) == text:
            return
        with tempfile.NamedTemporaryFile("w", dir=SPOOL_DIRECTORY, delete=False) as file:
            json.dump(tokens, file)
            file.flush()
            os.fsync(file.fileno())
        Path(file.name).replace(path)


if __name__ == "__main__":
    sys.exit(main())
