"""`python -m tests.benchmarks.negotiation`: the negotiator's cycle in a large pool.

The pool has one real executor, whose slot ad is advertised again under thousands of names, of a
class of their own. The copies are offline slots: the negotiator matches jobs to them, and claims
nothing. The cycles are those that the negotiator itself reports.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
import uuid
from pathlib import Path

import docker
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from swarm_runner.condor.connection import classad, htcondor
from swarm_runner.model.invocation import Invocation
from swarm_runner.runner import Runner
from swarm_runner.swarm.execution import execute
from tests.benchmarks.measurement import Measurement
from tests.benchmarks.table import show
from tests.integration.conftest import service_container, write_executors_token
from tests.lab.pool import LabPool, lab_pool
from tests.polling import poll_until

NAME, PORT = "swarm-runner-negotiation", 9749
CLASSES = {
    "normal": {"cpus": 1, "memory_mb": 512, "replicas": 1},
    "copied": {"cpus": 1, "memory_mb": 1024, "replicas": 0},
}
# image/manager.conf
INTERVAL_S = 2.0
REQUESTS = 20
ADS_PER_UPDATE = 500
CYCLES = 6
TIMEOUT_S = 600.0


def main() -> int:
    """Measure and print. Return 1 if the target is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.negotiation")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--slots", type=int, default=5_000)
    parser.add_argument("--jobs", type=int, default=100_000)
    options = parser.parse_args()
    with lab_pool(NAME, PORT, {"classes": CLASSES}) as lab:
        results = [measure(lab, options.slots, options.jobs)]
    return 0 if show(results, as_json=options.json) else 1


def measure(lab: LabPool, slots: int, jobs: int) -> Measurement:
    """Return the longest of some cycles, with that many slots and idle jobs."""
    name = f"negotiation-{uuid.uuid4().hex[:8]}"
    with Runner(lab.destination, name=name) as runner:
        runner.submit(_invocation(lab, number, jobs // REQUESTS) for number in range(REQUESTS))
        _report_every_cycle(lab)
        with tempfile.TemporaryDirectory() as directory:
            _use_executors_token(lab, Path(directory))
            _advertise_copies(lab, slots)
            cycles = _cycles(lab)
        runner.remove_all("measured")
    longest_s = max(cycles)
    return Measurement(
        "v",
        f"{slots:,} slots, {jobs:,} idle jobs of {REQUESTS} sizes: longest of {CYCLES} cycles",
        f"negotiator: {longest_s:.1f} s",
        f"its interval: {INTERVAL_S:.0f} s",
        longest_s / INTERVAL_S,
        "x",
        "at most",
        1.0,
    )


def _invocation(lab: LabPool, number: int, jobs: int) -> Invocation:
    return Invocation.model_validate(
        {
            "image": "debian:trixie",
            "command": ["/bin/true"],
            "working_directory": str(lab.volume),
            "capacity_class": "copied",
            "repeat": jobs,
            "resources": {"memory_mb": 128 + number, "disk_mb": 50},
        }
    )


def _use_executors_token(lab: LabPool, directory: Path) -> None:
    """Let this process advertise slots, which the client's own token does not permit."""
    write_executors_token(lab.destination.pool, directory)
    settings = htcondor().param
    settings["SEC_TOKEN_DIRECTORY"] = str(directory)


def _report_every_cycle(lab: LabPool) -> None:
    """Let the negotiator advertise each cycle, not the last ones every five minutes."""
    with contextlib.closing(docker.from_env()) as client:
        container = service_container(client, lab.destination.pool.service())
        script = (
            "echo NEGOTIATOR_UPDATE_AFTER_CYCLE = True > /etc/condor/config.d/bench.conf && "
            "condor_reconfig -daemon negotiator"
        )
        done = execute(container, ["sh", "-ec", script])
    if done.exit_code:
        raise RuntimeError(f"the negotiator was not reconfigured: {done.errors!r}")


def _advertise_copies(lab: LabPool, slots: int) -> None:
    bindings = htcondor()
    collector = bindings.Collector(lab.destination.pool.address)
    (original, *_) = collector.query(bindings.AdType.Startd, "PartitionableSlot")
    ads = []
    for number in range(slots):
        ad = classad().ClassAd(str(original))
        host = f"copy-{number}"
        ad["Name"], ad["Machine"], ad["CapacityClass"] = f"slot1@{host}", host, "copied"
        ad["MyAddress"] = f"<127.0.0.1:{10_000 + number}>"
        ad["Memory"] = ad["TotalSlotMemory"] = 1024
        ad["Offline"], ad["ClassAdLifetime"] = True, int(TIMEOUT_S) * 2
        ads.append(ad)
    for first in range(0, slots, ADS_PER_UPDATE):
        collector.advertise(ads[first : first + ADS_PER_UPDATE], "UPDATE_STARTD_AD")
    # The collector reads them after they were sent.
    poll_until(
        lambda: len(collector.query(bindings.AdType.Startd, 'CapacityClass == "copied"', ["Name"])),
        lambda found: found == slots,
    )


def _cycles(lab: LabPool) -> list[float]:
    """Return the seconds of the next cycles that consider the jobs."""
    bindings = htcondor()
    collector = bindings.Collector(lab.destination.pool.address)
    seen: dict[int, float] = {}
    began = time.time()

    def poll() -> bool:
        for ad in collector.query(bindings.AdType.Negotiator):
            ended = ad.get("LastNegotiationCycleEnd0", 0)
            # The copies are there and the jobs were considered.
            if ended > began and ad.get("LastNegotiationCycleNumJobsConsidered0", 0):
                seen[ended] = float(ad["LastNegotiationCycleDuration0"])
        return len(seen) >= CYCLES

    Retrying(
        retry=retry_if_result(lambda done: not done),
        stop=stop_after_delay(TIMEOUT_S),
        wait=wait_fixed(1),
    )(poll)
    return list(seen.values())


if __name__ == "__main__":
    sys.exit(main())
