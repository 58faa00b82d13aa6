"""The signing key and the tokens of a pool, and how executors and clients get them."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path

from swarm_runner.condor.pool_query import PoolQueryPort
from swarm_runner.errors import PreconditionError, UnreachableError
from swarm_runner.model.pool import Pool
from swarm_runner.provisioner.preconditions import PermanentError, network_advice
from swarm_runner.provisioner.task_failures import TaskFailures
from swarm_runner.provisioner.waiter import Waiter
from swarm_runner.structured_log import get_logger
from swarm_runner.swarm.ports import Swarm
from swarm_runner.swarm.specs import SIGNING_KEY_PATH, Stack

log = get_logger(__name__)

TOKEN_TIMEOUT_S = 300.0
# HTCondor's authorization levels (HTCondor manual, "Security").
CLIENT_AUTHORIZATIONS = ("READ", "WRITE")
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
        token = self._sign(f"{pool.user.name}@{pool.name}", CLIENT_AUTHORIZATIONS)
        path.parent.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
        path.touch(mode=_FILE_MODE)
        path.chmod(_FILE_MODE)
        path.write_bytes(token)
        log.info("Client token written", pool=pool.name, path=str(path))

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
        service = self._stack.pool.service()
        token = self._swarm.exec_in_service(service, command)
        if token is None:
            self._reject_remote_manager(service)
            raise PreconditionError(
                f"service {service} has no running container on this engine: "
                f"{self._task_states(service)}"
            )
        return token

    def _reject_remote_manager(self, service: str) -> None:
        """Raise PermanentError when the manager runs on another node than this engine's."""
        engine_name = self._swarm.docker_engine().name
        for task in self._swarm.tasks(self._stack.pool.name):
            if task.service == service and task.state == "running" and not task.stopping:
                if task.node != engine_name:
                    raise PermanentError(
                        f"service {service} runs on {task.node}, but this command uses the engine "
                        f"of {engine_name}; tokens are signed in the manager's container. Select "
                        f"the engine of {task.node} with DOCKER_HOST or a docker context"
                    )
                return

    def _task_states(self, service: str) -> str:
        tasks = self._swarm.tasks(self._stack.pool.name)
        states = [f"{task.state} {task.error}".strip() for task in tasks if task.service == service]
        return "; ".join(states) or "Swarm has not created a task for it yet"


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

    def check_network(self, stack: Stack, timeout_s: float) -> None:
        """Connect to the manager from the overlay network and from this client.

        Only a connection shows whether the kernel supports the pool's network settings. Raises
        PreconditionError with advice when there is none after `timeout_s` seconds.
        """

        def attempt() -> None:
            self._swarm.exec_in_service(self._pool.service(), stack.central_manager_probe())
            self._pool_query.count_unfinished()

        try:
            self._waiter.retry_quietly(attempt, timeout_s)
        except (PreconditionError, UnreachableError) as error:
            raise PreconditionError(f"{error}. {network_advice(self._pool)}") from error

    def _client_token_is_valid(self) -> bool:
        """Return whether the pool accepts the client's token, which may be another pool's."""
        try:
            self._pool_query.count_unfinished()
        except UnreachableError:
            return False
        return True
