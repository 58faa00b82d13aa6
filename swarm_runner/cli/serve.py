"""`swarm-runner pool serve`, and the page of `pool autoscale` and `pool watch`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from swarm_runner.cli import autoscale as autoscaling
from swarm_runner.cli import factories
from swarm_runner.cli.config_files import load_destination
from swarm_runner.cli.console import print_note
from swarm_runner.cli.options import AsJson, DestinationName, JobConfPath
from swarm_runner.errors import PreconditionError

if TYPE_CHECKING:
    from swarm_runner.condor.pool_query import PoolQueryPort
    from swarm_runner.condor.ports import AccessPointPort
    from swarm_runner.model.job import JobId
    from swarm_runner.model.pool import Destination, Pool
    from swarm_runner.provisioner.autoscaler import AutoscalerRound

DEFAULT_PAGE_ADDRESS = "127.0.0.1:9781"
# How long a query of the pool may take. A round makes two after one another; a page says after a
# minute that nothing was observed.
QUERY_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class PageSettings:
    """Where the page is served, and which reverse proxies log users in."""

    address: str
    user_header: str | None = None
    trusted_proxies: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class ServedPage:
    """What the daemon needs of a page: who gets each round, and what its autoscaler queries."""

    record_round: Callable[[AutoscalerRound], None]
    pool_query: PoolQueryPort


class JobOutputs:
    """The output of the jobs of this daemon's own identity, where it is on a volume."""

    def __init__(self, access_point: AccessPointPort, pool: Pool) -> None:
        self._access_point = access_point
        self._pool = pool

    def follow(self, job_id: JobId, stream: str) -> Iterator[bytes]:
        """See OutputSource.follow."""
        from swarm_runner.runner.job_output import JobOutput, OutputStream

        return JobOutput(self._access_point, self._pool, job_id, OutputStream(stream)).watch()


def serve(
    listen: Annotated[
        str,
        typer.Option(
            "--listen",
            metavar="HOST:PORT",
            help="Serve the page there. 127.0.0.1 serves this host only.",
        ),
    ] = DEFAULT_PAGE_ADDRESS,
    user_header: autoscaling.UserHeader = None,
    trusted_proxy: autoscaling.TrustedProxy = None,
    poll_interval_s: autoscaling.PollInterval = autoscaling.POLL_INTERVAL_S,
    job_conf: JobConfPath = None,
    destination_name: DestinationName = None,
    as_json: AsJson = False,
) -> None:
    """Observe the pool and serve a page about it, until it is stopped. It changes nothing.

    Who opens the page logs in with a token of the pool; one with the right to read is enough.
    `pool autoscale --page` and `pool watch --page` serve the same page.
    """
    destination = load_destination(job_conf, destination_name)
    autoscaling.run_daemon(
        destination,
        autoscaling.reporter(as_json=as_json),
        dry_run=True,
        poll_interval_s=poll_interval_s,
        page=PageSettings(listen, user_header, trusted_proxy or ()),
    )


@contextlib.contextmanager
def served_page(destination: Destination, settings: PageSettings) -> Iterator[ServedPage]:
    """Serve a page about a pool until the context ends.

    Raises InvalidInputError for a wrong address or setting, and PreconditionError if the address
    cannot be used or a package is missing.
    """
    from swarm_runner.model.listen_address import parse_listen_address

    host, port = parse_listen_address(settings.address, DEFAULT_PAGE_ADDRESS, "")
    try:
        from swarm_runner.page.login import TrustedProxies
        from swarm_runner.page.server import PageServer
    except ImportError as error:
        raise PreconditionError(
            f"the page needs the package {error.name}; run `pip install 'swarm-runner[page]'`"
        ) from error
    from swarm_runner.page.queue_reader import QueueReader
    from swarm_runner.page.state import PageState

    proxies = TrustedProxies(settings.user_header, settings.trusted_proxies)
    state = PageState(destination.pool)
    # Two processes: a long answer about all jobs does not delay the autoscaler.
    observer, job_source = (
        factories.pool_query_process(destination, QUERY_TIMEOUT_S) for _ in range(2)
    )
    with (
        contextlib.closing(observer),
        contextlib.closing(job_source),
        QueueReader(state, job_source) as reader,
    ):
        from swarm_runner.page.app import PageApp

        check_token = factories.token_check(destination)
        outputs = JobOutputs(job_source, destination.pool)
        page = PageApp(
            state, job_source, check_token, proxies, watch=reader.watch, output_source=outputs
        )
        with PageServer(page, host, port) as server:
            print_note(f"The page is served at http://{server.address}/.")
            yield ServedPage(state.record_round, observer)
