"""Lending: free executors of a class run short jobs of smaller ones (`lend_max_s`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from swarm_runner.model.pool import Pool


def borrowers(pool: Pool, lender: str) -> list[str]:
    """Return the classes whose short jobs the executors of a class can run.

    These are the smaller ones whose jobs find there what their own class promises them: its nodes,
    its GPUs and its isolation.
    """
    if lender not in (names := pool.classes_for(vm=False)):
        return []
    return [name for name in names[: names.index(lender)] if _has_all_of(pool, lender, name)]


def longest_loan_s(pool: Pool) -> int:
    """Return the longest time limit of a job for which any class of the pool lends; else 0."""
    return max((c.lend_max_s or 0 for c in pool.classes.values()), default=0)


def lending_delay_s(pool: Pool) -> int:
    """Return for how long an executor must be free before it is lent: two negotiation cycles.

    A cycle begins 2 s after the last one (NEGOTIATOR_INTERVAL in image/manager.conf), and in a pool
    with limits 10 s (LIMITS_DELAY_S in image/fair_shares.py). In a large pool it takes a second
    itself.
    """
    shares = pool.shares
    return 25 if shares.jobs_per_user or shares.jobs_per_tool or shares.limits else 6


def lending_diagnostics(pool: Pool) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield the place and the fault of each `lend_max_s` of which no job would gain."""
    for number, name in enumerate(pool.classes_for(vm=False)):
        if pool.classes[name].lend_max_s is None or borrowers(pool, name):
            continue
        message = (
            "has no class to lend to: each smaller one has other constraints, another gpu_model, "
            "GPUs of more memory or another isolation"
            if number
            else f"is for a class that has a smaller one, and {name} is the smallest"
        )
        yield ("classes", name, "lend_max_s"), f"{message}; remove the line"


def _has_all_of(pool: Pool, lender: str, borrower: str) -> bool:
    has, needs = pool.classes[lender], pool.classes[borrower]
    return (
        set(needs.constraints) <= set(has.constraints)
        and needs.gpu_model in (None, has.gpu_model)
        and (needs.gpu_memory_mb or 0) <= (has.gpu_memory_mb or 0)
        and pool.isolation_of(borrower) == pool.isolation_of(lender)
    )
