"""A pool under steady load with a fault every minute: what grows? (`make soak MINUTES=60`)"""

from __future__ import annotations

import contextlib
import json
import random
import statistics
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from docker.models.containers import Container

from tests.faults.fault import PoolFault
from tests.faults.load import Load
from tests.faults.pool import FaultPool
from tests.polling import poll_until

NAME, PORT = "swarm-runner-soak", 9748
SAMPLES = Path(__file__).parents[2] / ".state" / "soak-samples.jsonl"
SAMPLE_INTERVAL_S = 20.0
FAULT_INTERVAL_S = 60.0
# For jobs of the last fault; the next one waits for them.
DELIVERY_TIMEOUT_S = 240.0
# The first sample that counts: until then caches fill and pools of threads start.
BASELINE_S = 600.0
# Samples of as many seconds are compared: each fault comes once in them.
WINDOW_S = 600.0
MAX_GROWTH = 0.05
# Of memory in KB, and of descriptors and threads: a daemon may have one more at some moments.
SLACK = {"memory": 1024.0, "descriptors": 2.0, "threads": 1.0}
_COUNTS = ("descriptors", "threads")
# Prints the sizes of directories.
_SIZES = """
import json, os, sys
def size(top):
    found = 0
    for directory, _, names in os.walk(top):
        for name in names:
            try: found += os.lstat(os.path.join(directory, name)).st_size
            except OSError: pass
    return found
print(json.dumps({top: size(top) for top in sys.argv[1:]}))
"""
# Directories and the most that they may have, in MB: rotation limits the logs, and what the spool
# keeps of a job that has ended (MAX_HISTORY_LOG).
_DIRECTORIES: Mapping[str, dict[str, int]] = {
    "manager": {"/var/log/condor": 200, "/var/lib/swarm-runner/spool": 600},
    "executor": {"/dev/shm/condor": 40},  # noqa: S108 - LOG in executor.conf
}


@dataclass(frozen=True, slots=True)
class Sample:
    """Values at one moment, by who has them and which they are."""

    time_s: float
    values: dict[tuple[str, str], float]


def run(
    pool: FaultPool, load: Load, faults: list[PoolFault], minutes: float, seed: int
) -> list[Sample]:
    """Inject a fault every minute beside the load, and sample all the time.

    Each fault comes once before any comes again: after ten of them, each has had the memory that
    it takes for a moment, and that a daemon keeps.
    """
    chooser = random.Random(seed)  # noqa: S311
    due: list[PoolFault] = []
    samples: list[Sample] = []
    stop = threading.Event()
    began = time.monotonic()
    SAMPLES.parent.mkdir(exist_ok=True)
    SAMPLES.write_text("")

    def sample() -> None:
        while not stop.wait(SAMPLE_INTERVAL_S):
            try:
                samples.append(Sample(time.monotonic() - began, dict(_observe(pool, load))))
                _keep(samples[-1])
            except Exception as error:  # noqa: BLE001 - a container is not there just now
                _report(f"no sample: {error}")

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    with load.feeding():
        while (now := time.monotonic() - began) < minutes * 60:
            due = due or chooser.sample(faults, len(faults))
            fault = due.pop()
            _report(f"minute {now / 60:.0f}: {fault.name}")
            try:
                with contextlib.suppress(AssertionError):  # they are counted as lost
                    poll_until(
                        lambda: [key for other in load.others for key in other.undelivered()],
                        lambda keys: not keys,
                        timeout_s=DELIVERY_TIMEOUT_S,
                    )
                load.close_others()
                fault.inject(pool, load)
            except Exception as error:  # noqa: BLE001 - the next fault comes all the same
                _report(f"{fault.name}: {error}")
            time.sleep(max(0.0, FAULT_INTERVAL_S - (time.monotonic() - began - now)))
    stop.set()
    sampler.join()
    return samples


def _keep(sample: Sample) -> None:
    """Add a sample to a file: when did what grew begin to grow?"""
    values = {" ".join(key): value for key, value in sample.values.items()}
    with SAMPLES.open("a") as file:
        file.write(json.dumps({"time_s": sample.time_s} | values) + "\n")


def _observe(pool: FaultPool, load: Load) -> Iterator[tuple[tuple[str, str], float]]:
    roles = {"manager": pool.container(), "executor": pool.container("normal")}
    for role, container in roles.items():
        yield from _per_process(role, list(_processes(container)))
        command = ("python3", "-c", _SIZES, *_DIRECTORIES[role])
        sizes = json.loads(pool.exec_in(container, *command))
        for directory, size in sizes.items():
            yield (f"{role} {directory}", "MB"), size / 2**20
    own = Path("/proc/self")
    yield ("runner", "descriptors"), len(list((own / "fd").iterdir()))
    yield ("runner", "threads"), threading.active_count()
    yield ("runner", "memory"), float(_fields(own / "status")["VmRSS"].split()[0])
    log = load.runner.event_log
    if log is not None and log.exists():
        yield ("runner's event log", "MB"), log.stat().st_size / 2**20


def _processes(container: Container) -> Iterator[tuple[str, float, float, float]]:
    """Yield name, memory (KB), descriptors and threads of a container's processes.

    From outside: in the container, nobody may look at daemons that change their user.
    Needs root.
    """
    for (pid,) in container.top(ps_args="-o pid")["Processes"]:
        process = Path("/proc", pid)
        with contextlib.suppress(OSError):  # it has ended
            status = _fields(process / "status")
            memory = _fields(process / "smaps_rollup").get("Pss")
            descriptors = len(list((process / "fd").iterdir()))
            if memory is not None:
                yield status["Name"], float(memory.split()[0]), descriptors, int(status["Threads"])


def _fields(file: Path) -> dict[str, str]:
    pairs = (line.partition(":") for line in file.read_text().splitlines())
    return {name: value.strip() for name, _, value in pairs}


def _per_process(
    role: str, processes: list[tuple[str, float, float, float]]
) -> Iterator[tuple[tuple[str, str], float]]:
    """Yield the means over the processes of each name: there is a shadow for each job."""
    by_name: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for name, *values in processes:
        by_name[name].append((values[0], values[1], values[2]))
    for name, found in by_name.items():
        for position, what in enumerate(("memory", "descriptors", "threads")):
            yield (f"{role} {name}", what), statistics.fmean(each[position] for each in found)


@dataclass(frozen=True, slots=True)
class Growth:
    """One value in the second ten minutes, and in the last ten."""

    owner: str
    what: str
    before: float
    after: float

    @property
    def excessive(self) -> bool:
        """Whether it grew more than it may."""
        if self.what == "MB":
            return any(
                self.owner.endswith(directory) and self.after > limit
                for limits in _DIRECTORIES.values()
                for directory, limit in limits.items()
            )
        growth = self.after - self.before
        return growth > self.before * MAX_GROWTH and growth > SLACK[self.what]


def growths(samples: list[Sample], baseline_s: float = BASELINE_S) -> list[Growth]:
    """Compare the ten minutes after `baseline_s` with the last ten."""
    end_s = samples[-1].time_s
    before = _typical(s for s in samples if 0 <= s.time_s - baseline_s <= WINDOW_S)
    after = _typical(s for s in samples if s.time_s >= end_s - WINDOW_S)
    return [Growth(*key, before[key], after[key]) for key in sorted(before.keys() & after.keys())]


def _typical(samples: Iterator[Sample]) -> dict[tuple[str, str], float]:
    """Return the medians of memory and files, and the lowest numbers of what is open.

    A fault opens something of its own while it lasts, which may be half of the time.
    """
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    for sample in samples:
        for key, value in sample.values.items():
            values[key].append(value)
    # A process that was there for a moment tells nothing.
    return {
        (owner, what): min(found) if what in _COUNTS else statistics.median(found)
        for (owner, what), found in values.items()
        if len(found) > 2
    }


def _report(message: str) -> None:
    sys.stderr.write(f"soak: {message}\n")
