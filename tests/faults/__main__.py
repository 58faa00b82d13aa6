"""`python -m tests.faults engine|hosts|managers|page`: break a pool, and write what it cost."""

from __future__ import annotations

import contextlib
import random
import sys
import time
import traceback
from typing import Annotated

import docker
import typer

from tests.faults import daemons, executors, report, runners, soak_report
from tests.faults import hosts as lab_faults
from tests.faults import managers as manager_faults
from tests.faults import soak as soak_run
from tests.faults.fault import PoolFault, is_permitted, run
from tests.faults.load import Load
from tests.faults.pool import NAME, FaultPool, engine_pool
from tests.lab.pool import STATE_DIRECTORY
from tests.polling import poll_until

START_TIMEOUT_S = 600.0
START_OF_JOB_S = 3.0  # on a busy machine
RELEASE_TIMEOUT_S = 300.0
ENGINE_FAULTS = (*daemons.FAULTS, *runners.FAULTS, *executors.FAULTS)

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__
)
Jobs = Annotated[int, typer.Option(help="how many jobs run all the time")]
Only = Annotated[list[str] | None, typer.Option(help="only faults whose name contains this")]


@app.command()
def engine(jobs: Jobs = 100, only: Only = None) -> None:
    """Faults on one Docker engine."""
    chosen = _choose(ENGINE_FAULTS, only)
    volume = STATE_DIRECTORY / NAME / "volume"
    with executors.mounted_volume(volume), engine_pool() as pool:
        permitted = _run_all(pool, chosen, jobs)
    sys.exit(0 if permitted else 1)


@app.command()
def hosts(jobs: Jobs = 100, only: Only = None) -> None:
    """Faults of hosts, on the three-host lab, which stays up."""
    chosen = _choose(lab_faults.FAULTS, only)
    with lab_faults.hosts_pool() as pool:
        permitted = _run_all(pool, chosen, jobs)
    sys.exit(0 if permitted else 1)


@app.command()
def managers(jobs: Jobs = 300, only: Only = None) -> None:
    """Faults of the node that has the queue of three managers, on the three-host lab."""
    chosen = _choose(manager_faults.FAULTS, only)
    with manager_faults.managers_pool() as pool:
        permitted = _run_all(pool, chosen, jobs)
    sys.exit(0 if permitted else 1)


@app.command()
def soak(
    minutes: Annotated[float, typer.Option(min=30)] = 60,
    seed: Annotated[int | None, typer.Option(help="repeat the faults of this seed")] = None,
    jobs: Jobs = 60,
) -> None:
    """A fault in every minute: exit with 1 if memory, descriptors or threads grew by over 5 %."""
    seed = random.randrange(10**6) if seed is None else seed  # noqa: S311
    harmless = [
        daemons.COLLECTOR_RESTARTED,
        *(fault for fault in ENGINE_FAULTS if fault.short and not (fault.kills or fault.fails)),
    ]
    with (
        engine_pool(soak_run.NAME, soak_run.PORT) as pool,
        contextlib.closing(Load(pool.destination, pool.volume)) as load,
    ):
        load.start_tracking()
        load.start_steady(jobs, START_TIMEOUT_S)
        samples = soak_run.run(pool, load, harmless, minutes, seed)
        load.release(RELEASE_TIMEOUT_S)
        with contextlib.suppress(AssertionError):  # counted below
            poll_until(load.undelivered, lambda keys: not keys, timeout_s=RELEASE_TIMEOUT_S)
    lost = [*load.undelivered(), *load.abandoned]
    result = soak_report.SoakResult(
        date=time.strftime("%Y-%m-%d", time.gmtime()),
        minutes=minutes,
        seed=seed,
        jobs=jobs,
        ended=len(load.deliveries.ended),
        lost=len(lost),
        twice=sum(count > 1 for count in load.deliveries.ended.values()),
        failed=len(load.deliveries.failed),
        growths=soak_run.growths(samples),
    )
    soak_report.keep(result)
    soak_report.print_table(result)
    _report(f"{result.ended} jobs ended; {result.twice} delivered twice")
    _report(f"lost: {lost}; failed: {load.deliveries.failed}")
    sys.exit(1 if result.excessive or result.lost or result.twice else 0)


@app.command()
def page() -> None:
    """Write the page from the rows of earlier runs."""
    faults = (*ENGINE_FAULTS, *lab_faults.FAULTS, *manager_faults.FAULTS)
    report.write_page(faults, docker.from_env())


def _choose(faults: tuple[PoolFault, ...], only: list[str] | None) -> list[PoolFault]:
    return [fault for fault in faults if not only or any(text in fault.name for text in only)]


def _run_all(pool: FaultPool, faults: list[PoolFault], jobs: int) -> bool:
    """Run faults, those with another lease under a load of their own."""
    leases = dict.fromkeys(fault.lease_s for fault in faults)
    groups = [[fault for fault in faults if fault.lease_s == lease_s] for lease_s in leases]
    return all([_run_group(pool, group, jobs) for group in groups])  # noqa: C419 - run all


def _run_group(pool: FaultPool, faults: list[PoolFault], jobs: int) -> bool:
    """Run faults under one load, and then let its jobs end. Return whether all is well."""
    destination = pool.destination
    if faults[0].lease_s is not None:
        destination = destination.model_copy(update={"lease_s": faults[0].lease_s})
    load = Load(destination, pool.volume)
    load.start_tracking()
    permitted = True
    try:
        _report(f"starting {jobs} jobs")
        load.start_steady(jobs, max(START_TIMEOUT_S, START_OF_JOB_S * jobs))
        for fault in faults:
            _report(f"{fault.name}: {fault.done}")
            try:
                row = run(fault, pool, load)
            except Exception:  # noqa: BLE001 - the others are made nevertheless
                traceback.print_exc()
                permitted = False
                continue
            report.keep(row)
            as_it_should = is_permitted(fault, row)
            permitted &= as_it_should
            _report(f"  {'' if as_it_should else 'NOT '}as it should be: {row}")
        load.release(RELEASE_TIMEOUT_S)
        twice = [key for key, count in load.deliveries.ended.items() if count > 1]
        permitted &= not twice
        _report(f"all jobs have ended; delivered twice: {twice}")
    finally:
        load.close()
    return permitted


def _report(message: str) -> None:
    sys.stderr.write(f"faults: {message}\n")


if __name__ == "__main__":
    app()
