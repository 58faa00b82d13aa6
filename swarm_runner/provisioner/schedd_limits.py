"""Limits of the access point that keep jobs idle beside free executors. Pure functions.

HTCondor itself says so in the schedd's log alone. Source: HTCondor 25.14's schedd.cpp
(`shadowsSpawnLimit`, `canSpawnShadow`) and the default of CURB_MATCHMAKING.
"""

from __future__ import annotations

from swarm_runner.model.pool_status import ScheddStatistics

# Of CURB_MATCHMAKING: the schedd asks for no matches above it.
MAX_DUTY_CYCLE = 0.98


def reached_limits(statistics: ScheddStatistics) -> list[str]:
    """Say which limits keep the access point from starting jobs, and what to do."""
    problems = []
    running, maximum = statistics.running_jobs, statistics.max_running_jobs
    if maximum is not None and running >= maximum:
        problems.append(
            f"the access point runs {running:,} jobs, as many as it may (MAX_JOBS_RUNNING); the "
            "others wait until one of them ends"
        )
    waiting, uploads = statistics.waiting_uploads, statistics.max_uploads
    if uploads and waiting > uploads:
        problems.append(
            f"the input files of {waiting:,} jobs wait to be transferred, {uploads:,} at a time "
            "(MAX_CONCURRENT_UPLOADS); no further job is matched until fewer wait. Large files "
            "belong on a volume of the pool"
        )
    if statistics.duty_cycle is not None and statistics.duty_cycle > MAX_DUTY_CYCLE:
        problems.append(
            f"the access point is busy {statistics.duty_cycle:.0%} of the time, and matches no "
            f"job above {MAX_DUTY_CYCLE:.0%}; submit in fewer and larger batches, and query less "
            "often"
        )
    return problems
