"""`python -m tests.benchmarks.page`: what the page of a large pool costs. Exit code 1 if it misses.

The pool is made: 1,000 executors and 10,000 jobs, whose ads are HTCondor's ClassAds.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import json
import os
import resource
import selectors
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterator, Sequence
from typing import Any

from playwright.sync_api import sync_playwright

from swarm_runner.condor.ads import to_python
from swarm_runner.condor.connection import classad
from swarm_runner.condor.pool_query import QUEUE_PROJECTION
from swarm_runner.condor.pool_query_process import PoolQueryProcess
from swarm_runner.condor.ports import Ad
from swarm_runner.condor.slot_ads import SLOT_PROJECTION, slot_from_ad
from swarm_runner.hooks.manager import Hooks
from swarm_runner.metrics.exposition import MetricsServer
from swarm_runner.metrics.pool_metrics import PoolMetrics
from swarm_runner.model.pool_status import Slot
from swarm_runner.page.app import PageApp
from swarm_runner.page.login import COOKIE, TrustedProxies
from swarm_runner.page.queue_reader import QueueReader
from swarm_runner.page.server import PageServer
from swarm_runner.page.state import PageState
from swarm_runner.provisioner import Autoscaler
from swarm_runner.provisioner.autoscaler import AutoscalerRound
from tests.benchmarks import page_updates
from tests.benchmarks.measurement import Measurement
from tests.benchmarks.table import show
from tests.browser.conftest import DESKTOP, TOKEN, check_token, log_in, open_page, serve_pool
from tests.unit.page.made_pool import POOL, MadePool

EXECUTORS, JOBS, BROWSERS = 1000, 10_000, 1000
ROUNDS = 7
# How long a daemon's CPU is measured, after it has settled.
WARM_UP_S, MEASURED_S = 10.0, 60.0
INTERVAL_S = 2.0
PAINT = """() => new Promise(resolve => new PerformanceObserver((list) => {
  const entry = list.getEntriesByName("first-contentful-paint")[0];
  if (entry) resolve(entry.startTime);
}).observe({type: "paint", buffered: true}))"""


def first_paint_ms(path: str) -> float:
    """Return the time from the navigation to the first paint, in a new browser profile."""
    times = []
    with serve_pool(MadePool(EXECUTORS, JOBS)) as site, sync_playwright() as playwright:
        program = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for _ in range(ROUNDS):
            context = open_page(browser, DESKTOP)
            page = context.new_page()
            log_in(page, f"{site.url}/nodes")
            page.goto("about:blank")
            site.observe()
            page.goto(site.url + path)
            times.append(float(page.evaluate(PAINT)))
            context.close()
        browser.close()
    return statistics.median(times)


def update_ms() -> dict[str, float]:
    """Return the CPU of the parts of an update of the made pool."""
    pool = MadePool(EXECUTORS, JOBS)
    state = PageState(POOL, pool.clock)
    run_round = pool.rounds()
    state.record_round(run_round())
    state.record_jobs(pool.queued_jobs(20_000))
    numbers = itertools.count()

    def observe() -> tuple[AutoscalerRound, list[Ad]]:
        number = next(numbers)
        pool.clock.now_s += 16
        pool.ads[-number - 1]["SwarmRunnerTool"] = f"tool-{number}"
        return run_round(), pool.queued_jobs(20_000)

    return page_updates.update_ms(state, pool, observe, ROUNDS)


def thousand_browsers() -> tuple[int, float, float]:
    """Open streams. Return how many, the CPU of an update for all, and until the last has it (s).

    The client's part of the CPU, in the same process, is included.
    """
    with serve_pool(MadePool(EXECUTORS, JOBS)) as site:
        host, port = site.server.address.split(":")
        cookie = _log_in(host, int(port))
        selector = selectors.DefaultSelector()
        for _ in range(BROWSERS):
            stream = socket.create_connection((host, int(port)))
            stream.sendall(
                f"GET /events?view=/ HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\n\r\n".encode()
            )
            selector.register(stream, selectors.EVENT_READ, data=bytearray())
        _read_all(selector, b"event: main")
        for key in list(selector.get_map().values()):
            key.data.clear()
        site.pool.ads[-1]["JobStatus"] = 5
        cpu_s, began_s = time.process_time(), time.monotonic()
        site.observe(30)
        reached = _read_all(selector, b"event: pieces")
        result = reached, time.process_time() - cpu_s, time.monotonic() - began_s
        for key in list(selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        selector.close()
    return result


def _log_in(host: str, port: int) -> str:
    body = urllib.parse.urlencode({"token": TOKEN})
    with socket.create_connection((host, port)) as connection:
        connection.sendall(
            f"POST /login HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        answer = connection.makefile("rb").read().decode()
    value = answer.split(f"{COOKIE}=")[1].split(";")[0]
    return f"{COOKIE}={value}"


def _read_all(selector: selectors.BaseSelector, event: bytes, timeout_s: float = 120) -> int:
    """Read until every stream has an event; return how many have it."""
    deadline = time.monotonic() + timeout_s
    missing = {key.fd for key in selector.get_map().values()}
    count = len(missing)
    while missing and time.monotonic() < deadline:
        for key, _ in selector.select(1):
            stream: Any = key.fileobj
            key.data.extend(stream.recv(1 << 20))
            if event in key.data:
                missing.discard(key.fd)
                del key.data[:]
    return count - len(missing)


class AdPool(MadePool):
    """A made pool whose slots and jobs are ClassAds, which cost what HTCondor's cost to read."""

    def __init__(self) -> None:
        super().__init__(EXECUTORS, JOBS)
        self._slot_classads = [_slot_classad(slot) for slot in self.slot_list]
        self._job_classads = [_classad(ad) for ad in self.ads]

    def slot_ads(self) -> list[Ad]:
        """Return the slots as PoolQuery reads them."""
        return [to_python(ad, SLOT_PROJECTION) for ad in self._slot_classads]

    def slots(self) -> list[Slot]:
        """Return the slots."""
        return list(map(slot_from_ad, self.slot_ads()))

    def queued_jobs(self, limit: int) -> list[Ad]:
        """Return the jobs as PoolQuery reads them."""
        return [to_python(ad, QUEUE_PROJECTION) for ad in self._job_classads[:limit]]


def _classad(values: dict[str, Any]) -> Any:
    ad = classad().ClassAd()
    for name, value in values.items():
        ad[name] = value if isinstance(value, str | bool) else int(value)
    return ad


def _slot_classad(slot: Slot) -> Any:
    values = {
        "Name": slot.name,
        "SwarmTaskId": slot.task,
        "CapacityClass": slot.capacity_class,
        "State": slot.state,
        "Activity": slot.activity,
        "Cpus": slot.cpus,
        "Memory": slot.memory_mb,
        "TotalSlotMemory": slot.total_memory_mb,
        "TotalSlotCpus": slot.total_cpus,
        "GPUs": slot.gpus,
        "TotalSlotGPUs": slot.total_gpus,
        "PartitionableSlot": slot.partitionable,
        "HasDocker": True,
        "CondorVersion": "$CondorVersion: 25.14.1 2026-10-16 $",
    }
    if slot.job is not None:
        values |= {"JobId": slot.job, "JobStart": int(slot.job_began_s or 0)}
    return _classad(values)


def run_daemon(browsers: int | None) -> tuple[float, int]:
    """Run an autoscaler; return its CPU seconds while measured, children included, and its rounds.

    `browsers` None is the autoscaler alone. Otherwise metrics and the page are served, and this
    many browsers watch.
    """
    swarm: Any = AdPool()
    rounds = 0
    with contextlib.ExitStack() as stack:
        query: Any = swarm
        observers: list[Any] = []
        if browsers is not None:
            query, observers = stack.enter_context(_everything(swarm, browsers))

        def record(last: AutoscalerRound) -> None:
            nonlocal rounds
            rounds += 1
            for observe in observers:
                observe(last)

        autoscaler = Autoscaler(
            POOL,
            swarm,
            query,
            Hooks(installed=False),
            dry_run=True,
            on_round=record,
        )
        stop = threading.Event()
        loop = threading.Thread(
            target=autoscaler.run, args=(lambda _record: None, stop, INTERVAL_S)
        )
        loop.start()
        time.sleep(WARM_UP_S)
        began_s, before = _cpu_s(), rounds
        time.sleep(MEASURED_S)
        used_s, measured_rounds = _cpu_s() - began_s, rounds - before
        stop.set()
        loop.join()
    return used_s, measured_rounds


def _cpu_s() -> float:
    """Return the CPU of this process and of its children that run."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    total = own.ru_utime + own.ru_stime
    listed = subprocess.run(
        ["ps", "--ppid", str(os.getpid()), "-o", "pid="],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    for pid in listed.stdout.split():
        with contextlib.suppress(OSError), open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            fields = file.read().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / 100
    return total


@contextlib.contextmanager
def _everything(swarm: AdPool, browsers: int) -> Iterator[tuple[Any, list[Any]]]:
    """Serve metrics and the page, as the daemon does, with browsers that read."""
    state = PageState(POOL)
    # Not this module's name while it is the main program: the child imports it.
    factory: Any = importlib.import_module("tests.benchmarks.page").AdPool
    observer, source = (PoolQueryProcess(factory, timeout_s=60) for _ in range(2))
    # Making the pool takes seconds, after which the autoscaler would pause for as long.
    observer.idle_jobs()
    source.idle_jobs()
    metrics = PoolMetrics(POOL, swarm.schedd_statistics)
    with (
        contextlib.closing(observer),
        contextlib.closing(source),
        QueueReader(state, source) as reader,
        MetricsServer("galaxy", [metrics.store]),
    ):
        app = PageApp(state, source, check_token, TrustedProxies(), watch=reader.watch)
        with PageServer(app, "127.0.0.1", 0) as server, _readers(server.address, browsers):
            yield observer, [metrics.record_round, state.record_round]


_READER = """
import socket, sys, threading
host, port, cookie, count = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
def read():
    stream = socket.create_connection((host, port))
    request = "GET /events?view=/ HTTP/1.1\\r\\nHost: h\\r\\nCookie: " + cookie + "\\r\\n\\r\\n"
    stream.sendall(request.encode())
    while stream.recv(65536):
        pass
for _ in range(count):
    threading.Thread(target=read, daemon=True).start()
sys.stdin.read()
"""


@contextlib.contextmanager
def _readers(address: str, browsers: int) -> Iterator[None]:
    """Start browsers in a process that is a grandchild: its CPU is not the daemon's."""
    if not browsers:
        yield
        return
    host, port = address.split(":")
    cookie = _log_in(host, int(port))
    command = ["setsid", "--fork", sys.executable, "-c", _READER]
    readers = subprocess.Popen([*command, host, port, cookie, str(browsers)], stdin=subprocess.PIPE)
    try:
        yield
    finally:
        assert readers.stdin is not None
        readers.stdin.close()
        readers.wait()


def daemon_cpu_s(browsers: int | None) -> tuple[float, int]:
    """Run a daemon in a process of its own; return its CPU and its rounds."""
    command = [sys.executable, "-m", "tests.benchmarks.page", "--daemon", json.dumps(browsers)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    used_s, rounds = json.loads(done.stdout)
    return float(used_s), int(rounds)


def measurements() -> list[Measurement]:
    """Measure everything."""
    size = f"{EXECUTORS:,} executors, {JOBS:,} jobs"
    paints = {path: first_paint_ms(path) for path in ("/", "/jobs")}
    parts = update_ms()
    reached, cpu_s, until_s = thousand_browsers()
    alone_s, alone_rounds = daemon_cpu_s(None)
    unwatched, watched = daemon_cpu_s(0), daemon_cpu_s(10)
    update = parts["round"] + parts["views"]
    rows: list[tuple[str, str, str, float, str, float | None]] = [
        (f"first paint of {path}: {size}", f"{ms:.0f} ms", "", ms, "ms", 1000)
        for path, ms in paints.items()
    ]
    rows += [
        (
            "CPU of an update of four views, for all browsers together",
            f"{update:.1f} ms",
            f"recording the round {parts['round']:.1f} ms, rendering {parts['views']:.1f} ms",
            update,
            "ms",
            50,
        ),
        ("CPU of a new list of the jobs", f"{parts['queue']:.1f} ms", "", parts["queue"], "ms", 50),
        (
            f"browsers of {BROWSERS:,} that an update reaches",
            str(reached),
            f"CPU {cpu_s * 1000:.0f} ms with the clients', {until_s:.1f} s until the last has it",
            reached,
            "",
            None,
        ),
        *(
            (
                f"daemon's CPU with metrics and page, {what}, relative to the autoscaler alone",
                f"{used_s:.1f} s in {MEASURED_S:.0f} s, {rounds} rounds",
                f"alone: {alone_s:.1f} s, {alone_rounds} rounds",
                (used_s / rounds) / (alone_s / alone_rounds),
                "x",
                target,
            )
            for what, (used_s, rounds), target in (
                ("nobody watching", unwatched, 1.2),
                ("ten browsers watching", watched, None),
            )
        ),
    ]
    return [
        Measurement("page", what, measured, reference, value, unit, "at most", target)
        if target is not None
        else Measurement("page", what, measured, reference, value, unit, "is")
        for what, measured, reference, value, unit, target in rows
    ]


def main(arguments: Sequence[str]) -> int:
    """Measure and print, or run one daemon."""
    if arguments[:1] == ["--daemon"]:
        sys.stdout.write(json.dumps(run_daemon(json.loads(arguments[1]))))
        return 0
    return 0 if show(measurements(), as_json="--json" in arguments) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
