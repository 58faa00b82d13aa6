"""How executors and clients get into a pool: their tokens, and a way to the manager."""

from __future__ import annotations

from pathlib import Path

from swarm_runner.condor.view import PoolView
from swarm_runner.errors import OutOfReachError, RefusedError
from swarm_runner.model.pool import Pool
from swarm_runner.model.stack import Stack
from swarm_runner.provisioner.checks import network_advice
from swarm_runner.provisioner.failures import Failures
from swarm_runner.provisioner.tokens import Tokens
from swarm_runner.provisioner.waiting import Waiting
from swarm_runner.swarm.port import Swarm

SIGNED_LIMIT_S = 300.0


class Entrance:
    """The way into one pool; see `Provisioner` for the arguments."""

    def __init__(
        self, pool: Pool, swarm: Swarm, view: PoolView, token: Path, waiting: Waiting
    ) -> None:
        self._pool = pool
        self._swarm = swarm
        self._view = view
        self._token = token
        self._waiting = waiting

    def give_tokens(self, tokens: Tokens, failures: Failures) -> None:
        """Make what executors and this client enter by, as soon as the manager can sign."""

        def give() -> None:
            failures.check(self._swarm.tasks(self._pool.name))
            tokens.make_executor_token()

        self._waiting.until_allowed(give, SIGNED_LIMIT_S)
        self.let_client_in(tokens, failures)

    def let_client_in(self, tokens: Tokens, failures: Failures) -> None:
        """Write a token for this client, unless the one that it has opens the pool."""

        def give() -> None:
            failures.check(self._swarm.tasks(self._pool.name))
            if not self._let_in():
                tokens.write_client_token(self._token)

        self._waiting.until_allowed(give, SIGNED_LIMIT_S)

    def check_network(self, stack: Stack, limit_s: float) -> None:
        """Try the ways to the manager; what a kernel can do is found out by nothing else."""

        def attempt() -> None:
            self._swarm.run_in(self._pool.service(), stack.name_probe())
            self._view.unfinished()

        try:
            self._waiting.until_answered(attempt, limit_s)
        except (RefusedError, OutOfReachError) as error:
            raise RefusedError(f"{error}. {network_advice(self._pool)}") from error

    def _let_in(self) -> bool:
        """Whether the client's token opens the pool: it may be another pool's, or expired."""
        try:
            self._view.unfinished()
        except OutOfReachError:
            return False
        return True
