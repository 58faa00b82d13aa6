"""How executors and clients get into a pool: their tokens, and a way to the manager."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path

from swarm_runner.condor.ports import PoolQueryPort
from swarm_runner.errors import PreconditionError, UnreachableError
from swarm_runner.model.pool import Pool
from swarm_runner.provisioner.preconditions import network_advice
from swarm_runner.provisioner.task_failures import TaskFailures
from swarm_runner.provisioner.waiter import PermanentError, Waiter
from swarm_runner.swarm.ports import Swarm
from swarm_runner.swarm.specs import SIGNING_KEY_PATH, Stack

_FILE_MODE = 0o600
_DIRECTORY_MODE = 0o700
CLIENT_AUTHORIZATIONS = ("READ", "WRITE")
AUTOSCALER_AUTHORIZATIONS = ("READ",)
EXECUTOR_AUTHORIZATIONS = ("ADVERTISE_STARTD", "ADVERTISE_MASTER", "READ")


class Tokens:
    """Makes a pool's secrets. HTCondor's own condor_token_create signs, on the manager."""

    def __init__(self, stack: Stack, swarm: Swarm) -> None:
        self._stack = stack
        self._swarm = swarm

    def ensure_signing_key(self) -> None:
        """Make the key, unless there is one. Nobody can read it back.

        Raises RefusedError when only the key is gone: the executors' token is then worthless.
        """
        present = self._swarm.secrets(self._stack.pool.name)
        if self._stack.signing_key in present:
            return
        if self._stack.executor_token in present:
            raise PreconditionError(
                f"secret {self._stack.signing_key} was removed, and nothing signed with it is "
                "valid any more; `pool down --force` and `pool up` make the pool anew"
            )
        key = secrets.token_urlsafe(48).encode()
        self._swarm.create_secret(self._stack.signing_key, key, self._stack.labels)

    def ensure_executor_token(self) -> None:
        """Make the secret that lets executors advertise themselves, unless there is one."""
        pool = self._stack.pool.name
        if self._stack.executor_token not in self._swarm.secrets(pool):
            token = self._sign(f"executor@{pool}", EXECUTOR_AUTHORIZATIONS)
            self._swarm.create_secret(self._stack.executor_token, token, self._stack.labels)

    def ensure_autoscaler_token(self) -> None:
        """Make the secret that lets the autoscaler look and no more, unless there is one."""
        pool = self._stack.pool.name
        if self._stack.autoscaler_token not in self._swarm.secrets(pool):
            token = self._sign(f"autoscaler@{pool}", AUTOSCALER_AUTHORIZATIONS)
            self._swarm.create_secret(self._stack.autoscaler_token, token, self._stack.labels)

    def write_client_token(self, path: Path) -> None:
        """Write a token that lets its holder submit as the pool's job user (mode 0600)."""
        token = self._sign(
            f"{self._stack.pool.user.name}@{self._stack.pool.name}", CLIENT_AUTHORIZATIONS
        )
        path.parent.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
        path.touch(mode=_FILE_MODE)
        path.chmod(_FILE_MODE)
        path.write_bytes(token)

    def _sign(self, identity: str, authorizations: Sequence[str]) -> bytes:
        # The manager may not have written its configuration yet, and a token by another name than
        # the pool's opens nothing: HTCondor takes these two from the environment.
        command = ["env", f"_CONDOR_TRUST_DOMAIN={self._stack.pool.name}"]
        command += [f"_CONDOR_SEC_TOKEN_POOL_SIGNING_KEY_FILE={SIGNING_KEY_PATH}"]
        command += ["condor_token_create", "-identity", identity]
        for right in authorizations:
            command += ["-authz", right]
        service = self._stack.pool.service()
        token = self._swarm.exec_in_service(service, command)
        if token is None:
            self._reject_remote_manager(service)
            raise PreconditionError(
                f"{service} does not run on this engine: {self._task_errors(service)}"
            )
        return token

    def _reject_remote_manager(self, service: str) -> None:
        """Raise HopelessError when the manager runs, but on a node whose engine was not asked."""
        here = self._swarm.docker_engine().name
        for task in self._swarm.tasks(self._stack.pool.name):
            if task.service == service and task.state == "running" and not task.stopping:
                if task.node != here:
                    raise PermanentError(
                        f"{service} runs on {task.node}, and tokens are made in its container, but "
                        f"the engine that was asked is that of {here}: name that of {task.node} "
                        "with DOCKER_HOST, or a docker context"
                    )
                return

    def _task_errors(self, service: str) -> str:
        tasks = self._swarm.tasks(self._stack.pool.name)
        said = [f"{t.state} {t.error}".strip() for t in tasks if t.service == service]
        return "; ".join(said) or "Swarm has no task for it yet"


TOKEN_TIMEOUT_S = 300.0


class PoolCredentials:
    """The way into one pool; see `Provisioner` for the arguments."""

    def __init__(
        self, pool: Pool, swarm: Swarm, pool_query: PoolQueryPort, token_path: Path, waiter: Waiter
    ) -> None:
        self._pool = pool
        self._swarm = swarm
        self._pool_query = pool_query
        self._token_path = token_path
        self._waiter = waiter

    def distribute(self, tokens: Tokens, failures: TaskFailures) -> None:
        """Make what executors and this client enter by, as soon as the manager can sign."""

        def give() -> None:
            failures.check(self._swarm.tasks(self._pool.name))
            tokens.ensure_executor_token()

        self._waiter.retry_while_refused(give, TOKEN_TIMEOUT_S)
        self.ensure_client_token(tokens, failures)

    def ensure_client_token(self, tokens: Tokens, failures: TaskFailures) -> None:
        """Write a token for this client, unless the one that it has opens the pool."""

        def give() -> None:
            failures.check(self._swarm.tasks(self._pool.name))
            if not self._client_token_is_valid():
                tokens.write_client_token(self._token_path)

        self._waiter.retry_while_refused(give, TOKEN_TIMEOUT_S)

    def check_network(self, stack: Stack, timeout_s: float) -> None:
        """Try the ways to the manager; what a kernel can do is found out by nothing else."""

        def attempt() -> None:
            self._swarm.exec_in_service(self._pool.service(), stack.central_manager_probe())
            self._pool_query.count_unfinished()

        try:
            self._waiter.retry_quietly(attempt, timeout_s)
        except (PreconditionError, UnreachableError) as error:
            raise PreconditionError(f"{error}. {network_advice(self._pool)}") from error

    def _client_token_is_valid(self) -> bool:
        """Whether the client's token opens the pool: it may be another pool's, or expired."""
        try:
            self._pool_query.count_unfinished()
        except UnreachableError:
            return False
        return True
