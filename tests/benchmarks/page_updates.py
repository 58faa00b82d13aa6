"""The CPU of an update of the page, while every view has a browser."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from swarm_runner.condor.ports import Ad
from swarm_runner.page.app import PageApp
from swarm_runner.page.login import TrustedProxies
from swarm_runner.page.state import PageState
from swarm_runner.page.views import View
from swarm_runner.provisioner.autoscaler import AutoscalerRound
from tests.benchmarks.measurement import cpu_time_s
from tests.browser.conftest import check_token

VIEWS = ("/", "/jobs?state=idle", "/nodes", "/history")


def update_ms(
    state: PageState,
    source: Any,
    observe: Callable[[], tuple[AutoscalerRound, Sequence[Ad]]],
    rounds: int,
) -> dict[str, float]:
    """Return the CPU of the parts of an update: `round`, `queue` and `views`; medians.

    `observe` returns the last round and the list of jobs; its own cost does not count.
    """
    times: dict[str, list[float]] = {"round": [], "views": [], "queue": []}

    async def run() -> None:
        app = PageApp(state, source, check_token, TrustedProxies())
        views = [View.parse(url) for url in VIEWS]

        async def receive() -> Any:
            await asyncio.Event().wait()

        async def send(_message: Any) -> None:
            await asyncio.sleep(0)

        serving = [
            asyncio.create_task(app.streams.serve(view, receive, send)) for view in views if view
        ]
        await asyncio.sleep(0.1)
        for _ in range(rounds):
            last, ads = observe()
            steps: dict[str, Callable[[], object]] = {
                "round": partial(state.record_round, last),
                "queue": partial(state.record_jobs, ads),
                "views": app.streams.update,
            }
            for name, step in steps.items():
                times[name].append(cpu_time_s(step) * 1000)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    asyncio.run(run())
    return {name: statistics.median(values) for name, values in times.items()}
