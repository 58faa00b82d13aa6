"""The ten shortest faults of `make faults`, under a smaller load (`make test-faults`)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults import daemons, executors, runners
from tests.faults.fault import PoolFault, is_permitted, run
from tests.faults.load import Load
from tests.faults.pool import FaultPool, engine_pool
from tests.polling import TIMEOUT_S

pytestmark = pytest.mark.faults
# HTCondor counts each with 128 MB: beside a third of them, an executor has room for the job that
# outgrows its memory and then requests 1100 MB.
JOBS, SLOTS_OF_EXECUTOR = 15, 15
# Jobs that run or wait when a fault begins, by their seconds.
PROBES_S = (1, 2, 5)
SHORT = [fault for fault in (*daemons.FAULTS, *runners.FAULTS, *executors.FAULTS) if fault.short]


@pytest.fixture(scope="module")
def pool() -> Iterator[FaultPool]:
    # Other tests' pools are beside it on the engine.
    with engine_pool(slots_of_executor=SLOTS_OF_EXECUTOR) as pool:
        yield pool


@pytest.fixture(scope="module")
def load(pool: FaultPool) -> Iterator[Load]:
    load = Load(pool.destination, pool.volume)
    load.start_tracking()
    load.start_steady(JOBS, TIMEOUT_S)
    yield load
    load.release(TIMEOUT_S)
    load.close()
    assert set(load.deliveries.ended.values()) == {1}


@pytest.mark.parametrize("fault", SHORT, ids=lambda fault: fault.name)
def test_a_fault_costs_no_job(pool: FaultPool, load: Load, fault: PoolFault) -> None:
    row = run(fault, pool, load, PROBES_S)
    assert is_permitted(fault, row), row
