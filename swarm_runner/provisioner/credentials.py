"""The signing key and the tokens of a pool, and how executors and clients get them."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Sequence
from pathlib import Path

from swarm_runner.condor.pool_query import PoolQueryPort
from swarm_runner.condor.tokens import token_claims
from swarm_runner.errors import PreconditionError, UnreachableError
from swarm_runner.model.access_token import (
    DEFAULT_LIFETIME_S,
    EXPIRY_WARNING_S,
    AccessToken,
    Rights,
)
from swarm_runner.model.pool import Pool
from swarm_runner.provisioner.managers import check_manager_is_here, run_in_manager
from swarm_runner.provisioner.preconditions import network_advice
from swarm_runner.provisioner.task_failures import TaskFailures
from swarm_runner.provisioner.waiter import Waiter
from swarm_runner.structured_log import get_logger
from swarm_runner.swarm.ports import Swarm
from swarm_runner.swarm.specs import IDENTITIES_PROGRAM, SIGNING_KEY_PATH, Stack

log = get_logger(__name__)

TOKEN_TIMEOUT_S = 300.0
# HTCondor's authorization levels (HTCondor manual, "Security").
AUTOSCALER_AUTHORIZATIONS = ("READ",)
EXECUTOR_AUTHORIZATIONS = ("ADVERTISE_STARTD", "ADVERTISE_MASTER", "READ")
_FILE_MODE = 0o600
_DIRECTORY_MODE = 0o700


class Tokens:
    """Creates a pool's secrets. HTCondor's condor_token_create signs them, on the manager."""

    def __init__(self, stack: Stack, swarm: Swarm) -> None:
        self._stack = stack
        self._swarm = swarm

    def ensure_signing_key(self) -> None:
        """Create the signing key unless it exists. Swarm never returns it.

        Raises PreconditionError when only the key is missing: the executors' token is invalid
        then.
        """
        existing = self._swarm.secrets(self._stack.pool.name)
        if self._stack.signing_key in existing:
            return
        if self._stack.executor_token in existing:
            raise PreconditionError(
                f"secret {self._stack.signing_key} is missing, and every token of the pool is "
                "invalid without it. Run `pool down --force`, then `pool up`, to create the pool "
                "again"
            )
        self._create_secret(self._stack.signing_key, secrets.token_urlsafe(48).encode())

    def ensure_executor_token(self) -> None:
        """Create the secret with which executors advertise themselves, unless it exists."""
        self._ensure_token(self._stack.executor_token, "executor", EXECUTOR_AUTHORIZATIONS)

    def ensure_autoscaler_token(self) -> None:
        """Create the secret that allows the autoscaler to read, unless it exists."""
        self._ensure_token(self._stack.autoscaler_token, "autoscaler", AUTOSCALER_AUTHORIZATIONS)

    def write_client_token(self, path: Path) -> None:
        """Write a token with which its holder submits as the pool's job user (mode 0600)."""
        pool = self._stack.pool
        _, text = self.create(pool.user.name, "submit", DEFAULT_LIFETIME_S)
        write_token(path, text)
        log.info("Client token written", pool=pool.name, path=str(path))

    def create(self, name: str, rights: Rights, lifetime_s: int) -> tuple[AccessToken, str]:
        """Create a token for an identity; return what the pool records of it, and its text."""
        answer = json.loads(self._manage_identities("create", name, rights, str(lifetime_s)))
        text = answer.pop("token")
        return AccessToken.model_validate(answer), text

    def recorded(self) -> list[AccessToken]:
        """Return the tokens of users and services, without the tokens' texts."""
        return _parse_tokens(self._manage_identities("list"))

    def revoke(self, what: str) -> list[AccessToken]:
        """Revoke a token by its ID, or all of an identity; return the revoked ones."""
        return _parse_tokens(self._manage_identities("revoke", what))

    def _manage_identities(self, *arguments: str) -> bytes:
        return self._run_in_manager(["python3", IDENTITIES_PROGRAM, *arguments])

    def _ensure_token(self, secret: str, user: str, authorizations: Sequence[str]) -> None:
        pool = self._stack.pool.name
        if secret not in self._swarm.secrets(pool):
            self._create_secret(secret, self._sign(f"{user}@{pool}", authorizations))

    def _create_secret(self, name: str, data: bytes) -> None:
        self._swarm.create_secret(name, data, self._stack.labels)
        log.info("Secret created", pool=self._stack.pool.name, name=name)

    def _sign(self, identity: str, authorizations: Sequence[str]) -> bytes:
        # The manager may not have written its configuration yet, and HTCondor rejects a token
        # whose issuer is not the pool's name. It reads these two settings from the environment.
        command = ["env", f"_CONDOR_TRUST_DOMAIN={self._stack.pool.name}"]
        command += [f"_CONDOR_SEC_TOKEN_POOL_SIGNING_KEY_FILE={SIGNING_KEY_PATH}"]
        command += ["condor_token_create", "-identity", identity]
        for authorization in authorizations:
            command += ["-authz", authorization]
        return self._run_in_manager(command)

    def _run_in_manager(self, command: Sequence[str]) -> bytes:
        pool = self._stack.pool
        output = run_in_manager(self._swarm, pool, command)
        if output is None:
            engine_name = self._swarm.docker_engine().name
            tasks = [t for t in self._swarm.tasks(pool.name) if t.service in pool.manager_services]
            check_manager_is_here(tasks, engine_name)
            states = "; ".join(f"{task.state} {task.error}".strip() for task in tasks)
            raise PreconditionError(
                f"service {pool.service()} has no running container on this engine: "
                f"{states or 'Swarm has not created a task for it yet'}"
            )
        return output


class PoolCredentials:
    """Gives executors and this client access to one pool.

    `Provisioner` documents the arguments.
    """

    def __init__(
        self, pool: Pool, swarm: Swarm, pool_query: PoolQueryPort, token_path: Path, waiter: Waiter
    ) -> None:
        self._pool = pool
        self._swarm = swarm
        self._pool_query = pool_query
        self._token_path = token_path
        self._waiter = waiter

    def distribute(self, tokens: Tokens, failures: TaskFailures) -> None:
        """Create the executors' and this client's token as soon as the manager can sign them."""

        def attempt() -> None:
            failures.check(self._swarm.tasks(self._pool.name))
            tokens.ensure_executor_token()

        self._waiter.retry_while_refused(attempt, TOKEN_TIMEOUT_S)
        self.ensure_client_token(tokens, failures)

    def ensure_client_token(self, tokens: Tokens, failures: TaskFailures) -> None:
        """Write a token for this client, unless the pool accepts the one it has."""

        def attempt() -> None:
            failures.check(self._swarm.tasks(self._pool.name))
            if not self._client_token_is_valid():
                tokens.write_client_token(self._token_path)

        self._waiter.retry_while_refused(attempt, TOKEN_TIMEOUT_S)

    def expiry_warnings(self) -> tuple[str, ...]:
        """Return which tokens expire soon, as far as this engine can tell."""
        stack = Stack(pool=self._pool, image="unused", node_id="unused")
        now = time.time()
        try:
            tokens = Tokens(stack, self._swarm).recorded()
        except (PreconditionError, UnreachableError):
            return ()  # the manager runs on another node; this status is of the pool
        # Older ones of the same identity were renewed.
        latest = {
            (token.identity, token.rights): token
            for token in sorted(tokens, key=lambda token: token.expires_at)
            if token.revoked_at is None
        }
        return tuple(
            f"the token of {token.identity} ({token.rights}) expires on {token.expiry}; "
            "`swarm-runner pool token create` creates a new one"
            for token in latest.values()
            if token.state(now) == "expires soon"
        )

    def check_network(self, stack: Stack, timeout_s: float) -> None:
        """Connect to the manager from the overlay network and from this client.

        Only a connection shows whether the kernel supports the pool's network settings. Raises
        PreconditionError with advice when there is none after `timeout_s` seconds.
        """

        def attempt() -> None:
            run_in_manager(self._swarm, self._pool, stack.central_manager_probe())
            self._pool_query.count_unfinished()

        try:
            self._waiter.retry_quietly(attempt, timeout_s)
        except (PreconditionError, UnreachableError) as error:
            raise PreconditionError(f"{error}. {network_advice(self._pool)}") from error

    def _client_token_is_valid(self) -> bool:
        """Return whether the pool accepts the client's token, which may be another pool's.

        A token that expires soon counts as invalid: it is renewed.
        """
        try:
            self._pool_query.count_unfinished()
            expires_at = token_claims(self._token_path).get("exp", 0)
        except (UnreachableError, OSError, ValueError):
            return False
        return bool(expires_at - time.time() > EXPIRY_WARNING_S)


def write_token(path: Path, text: str) -> None:
    """Write a token to a file that only this user may read, from the first byte."""
    path.parent.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _FILE_MODE), "w") as file:
        file.write(text.strip() + "\n")
    draft.replace(path)


def _parse_tokens(answer: bytes) -> list[AccessToken]:
    return [AccessToken.model_validate(token) for token in json.loads(answer or b"[]")]
