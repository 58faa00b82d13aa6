"""Jobs of one length through one runner, and what they cost."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path

from end_to_end.client import Client
from end_to_end.server import MASTER_KEY, Galaxy

from bench import cases
from bench.condor_commands import Commands
from bench.figures import Figures, Seen
from bench.processor import ENDED, open_files, used_ms
from bench.schedd import note_times
from bench.spending import Look, note_spending, note_sql
from swarm_runner.condor.access_point import AccessPoint
from tests.lab.pool import LabPool

SETTLE_S = 5
IDLE_S = 20
# Jobs that have not ended by then are given up, and count as such.
LIMIT_S = 7200
UNENDED = ("new", "queued", "running")


class User(Client):
    """A user who begins a new history where he likes."""

    def begin(self, name: str) -> None:
        """All that follows is in this history."""
        self.history = self._made("histories", {"name": name}, self._headers)["id"]


class Bench:
    """A server with all the runners."""

    def __init__(self, galaxy: Galaxy, pool: LabPool, probe: Path, commands: Commands) -> None:
        self._galaxy = galaxy
        self._probe = probe
        self._commands = commands
        self._client = User(galaxy.url, MASTER_KEY, "admin")
        destination = pool.destination
        self._access_point = AccessPoint.connect(destination.pool, destination.token_directory)

    def measure(self, runner: str, seconds: int, jobs: int) -> Figures:
        """The jobs of one runner, started by one request, after a time in which none are there."""
        client = self._client
        client.begin(f"{runner}, {seconds} s")
        # What is made once is made now: connections, and the server that sets metadata.
        client.wait([client.start(f"{runner}_shell", text="true")])
        collection = client.collection([f"member {n}" for n in range(jobs)])
        batch = {"batch": True, "values": [{"src": "hdca", "id": collection}]}
        time.sleep(SETTLE_S)
        resting = self._look(runner)
        time.sleep(IDLE_S)
        before = self._look(runner)
        figures, files = Figures(runner, seconds, jobs), open_files(self._galaxy.pid)
        since_s = time.time()
        started = client.run(f"{runner}_shell", text=f"sleep {seconds}", first=batch)["jobs"]
        states, kept = self._await([str(job["id"]) for job in started])
        time.sleep(3)  # the probe writes once a second
        run = self._look(runner) - before
        figures.ok = sum(state == "ok" for state in states.values())
        note_spending(figures, before - resting, run)
        note_sql(figures, run)
        self._note_files(figures, kept - files)
        note_times(figures, self._access_point, since_s)
        return figures

    def seen(self, runner: str) -> Seen:
        """What its users see when something is wrong."""
        self._client.begin(f"{runner}, what its users see")
        return cases.seen(self._client, self._access_point, runner)

    def _await(self, jobs: list[str]) -> tuple[dict[str, str], Counter[str]]:
        """The states in which the jobs ended, and the most files that stayed from look to look."""
        client, until = self._client, time.monotonic() + LIMIT_S
        states = dict.fromkeys(jobs, "new")
        most = last = Counter[str]()
        while any(state in UNENDED for state in states.values()):
            if time.monotonic() > until:
                for job in (job for job, state in states.items() if state in UNENDED):
                    client.delete(job)
                break
            time.sleep(2)
            now = open_files(self._galaxy.pid)
            most, last = most | (now & last), now
            # Beside those of the run, a history has the upload's and the first one.
            for seen in client.get("jobs", history_id=client.history, limit=len(jobs) + 50):
                if seen["id"] in states:
                    states[seen["id"]] = seen["state"]
        return states, most

    def _note_files(self, figures: Figures, kept: Counter[str]) -> None:
        below = str(self._galaxy.directory / "data/jobs")
        figures.files = sum(count for name, count in kept.items() if name.startswith(below))
        figures.other_files = {
            Path(name).name: count for name, count in kept.items() if not name.startswith(below)
        }

    def _look(self, runner: str) -> Look:
        processes = used_ms(self._galaxy.pid) + Counter({"condor_*": self._commands.used_ms})
        if runner == "condor":
            del processes[ENDED]  # the programs' stand-ins
        counts = json.loads(self._probe.read_text())
        return Look(
            time.monotonic(),
            processes,
            Counter(counts["used_ms"]),
            Counter(counts["statements"]),
            Counter(counts["cycles"]),
        )
