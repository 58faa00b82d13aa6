"""How executors and clients get into a pool: their tokens, and a way to the manager."""

from __future__ import annotations

from pathlib import Path

from swarm_runner.condor.view import PoolQueryPort
from swarm_runner.errors import PreconditionError, UnreachableError
from swarm_runner.model.pool import Pool
from swarm_runner.model.stack import Stack
from swarm_runner.provisioner.checks import network_advice
from swarm_runner.provisioner.failures import TaskFailures
from swarm_runner.provisioner.tokens import Tokens
from swarm_runner.provisioner.waiting import Waiter
from swarm_runner.swarm.port import Swarm

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
