"""The runner's one thread of thought: open, send, look. Everything here holds the lock."""

from __future__ import annotations

import logging
import shutil
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence

from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from swarm_runner.condor.access_point import AccessPoint
from swarm_runner.condor.port import AccessPointPort, Selection
from swarm_runner.errors import SwarmRunnerError, UnknownSubmitError
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.job import Job, JobChange, JobId, JobState
from swarm_runner.model.pool import Destination
from swarm_runner.plugin_manager import plugin_manager
from swarm_runner.runner.accounts import Accounts
from swarm_runner.runner.ads import job_id, observe
from swarm_runner.runner.follower import Follower
from swarm_runner.runner.judge import Judge
from swarm_runner.runner.preparation import Preparation, Prepared
from swarm_runner.runner.sending import Sender
from swarm_runner.runner.state import State

log = logging.getLogger(__name__)
HALF_SEEN_S = 5.0


class Core:
    """What `Runner` is made of; see there for the arguments."""

    def __init__(
        self,
        destination: Destination,
        name: str,
        access_point: AccessPointPort | None,
        plugins: Iterable[object],
        clock: Callable[[], float],
        patience_s: float,
    ) -> None:
        self.lock = threading.RLock()
        self.access_point = access_point or AccessPoint.connect(
            destination.pool, destination.token_directory
        )
        self.accounts = Accounts()
        # Changes that nobody has taken yet.
        self.outbox: deque[JobChange] = deque()
        self.opened = False
        self._name = name
        self._hook = plugin_manager(plugins).hook
        self._listened = bool(self._hook.swarm_runner_job_changed.get_hookimpls())
        self._clock = clock
        self._state = State.of(destination, name)
        self.follower = Follower(
            self.access_point,
            self.accounts,
            name,
            self._state,
            destination.pool.user,
            clock,
        )
        self._judge = Judge(self.access_point, self.accounts, self._hook, clock)
        self._sender = Sender(self.access_point, name, patience_s)
        self._preparation = Preparation(destination, self._hook, name)
        # Changes that were found, but whose look was broken off.
        self._found: list[JobChange] = []
        self._doubtful: set[str] = set()
        # Hashes of the keys of jobs that were let go: far smaller than the jobs.
        self._forgotten: set[int] = set()
        # The latest job of the history whose predecessors are all known.
        self._latest: JobId | None = None

    def open(self) -> None:
        """Learn what there is of this runner, once."""
        with self.lock:
            if self.opened:
                return
            with self._state.alone():
                ads = self.follower.open()
                for orphan in self._sender.drop_unspooled(ads):
                    self.accounts.forget(orphan)
            self.opened = True

    def submit(self, invocations: Sequence[Invocation]) -> list[Job]:
        """See Runner.submit."""
        with self.lock:
            self.open()
            with self._state.alone():
                self.follower.turn()
                prepared = self._preparation.prepare(invocations, self.follower.event_log)
                self._catch_up(invocations)
                self._send([p for p in prepared if not self.accounts.find(p.invocation.key)])
            return [job for one in invocations for job in self.accounts.find(one.key)]

    def queued(self) -> list[JobId]:
        """What the access point has of this runner, whatever we know: a submit may have broken off.

        Jobs that are news are followed from now on.
        """
        with self.lock:
            self.open()
            ads = self.access_point.jobs(Selection(runner=self._name))
            strangers = [ad for ad in ads if job_id(ad) not in self.accounts.jobs]
            for ad in strangers:
                self._found += observe(self.accounts, ad, left=False)
            self.follower.sent(map(job_id, strangers), logged=False)
            return [job_id(ad) for ad in ads]

    def forget(self, ids: Iterable[JobId]) -> None:
        """Let go of the jobs among these that have ended."""
        with self.lock:
            for which in ids:
                job = self.accounts.jobs.get(which)
                if job is not None and job.state.ended:
                    self.accounts.forget(which)
                    self._forgotten.add(hash(job.key))

    def discard(self) -> None:
        """Remove what the runner keeps on disk."""
        with self.lock:
            self.follower.close()
            shutil.rmtree(self._state.directory, ignore_errors=True)

    def look(self) -> None:
        """Fill the outbox with what has changed, and act on holds."""
        with self.lock:
            self.open()
            self.follower.look(self._found)
            if not self._judge.idle:
                self._judge.act(self._found)
            # Jobs that were withdrawn have never been.
            known = self.accounts.jobs
            changes = [change for change in self._found if change.job.id in known]
            self._found = []
            self.outbox.extend(changes)
            if self._listened:
                for change in changes:
                    self._tell(change)

    def take(self) -> list[JobChange]:
        """Empty the outbox."""
        with self.lock:
            changes = list(self.outbox)
            self.outbox.clear()
            return changes

    def next_change(self) -> JobChange | None:
        """Take the oldest change out of the outbox, if there is one."""
        with self.lock:
            return self.outbox.popleft() if self.outbox else None

    def _tell(self, change: JobChange) -> None:
        try:
            self._hook.swarm_runner_job_changed(change=change)
        except Exception:  # a listener's fault is no news for those who wait for the jobs
            log.exception("A plugin failed when it was told of job %s", change.job.id)

    def _catch_up(self, invocations: Sequence[Invocation]) -> None:
        """Learn of the keys that other programs of this name have sent, or we, in doubt."""
        self.follower.look(self._found)
        unknown = {
            one.key
            for one in invocations
            # Some of a key's jobs may be on their way from the queue to the history.
            if len(self.accounts.find(one.key)) != one.repeat
            and (
                self._questionable(one.key)
                # A key that was just made up is nobody else's.
                or ("key" in one.model_fields_set and not self.follower.complete)
            )
        }
        if not unknown:
            return
        wanted = {one.key: one.repeat for one in invocations}

        def look() -> bool:
            """Whether every key has all of its jobs, or none."""
            self._take_up(unknown)
            found = {key: len(self.accounts.find(key)) for key in unknown}
            return all(found[key] in (0, wanted[key]) for key in unknown)

        # A job on its way from the queue to the history may be seen in neither.
        Retrying(
            retry=retry_if_result(lambda whole: not whole),
            stop=stop_after_delay(HALF_SEEN_S),
            wait=wait_fixed(HALF_SEEN_S / 10),
            retry_error_callback=lambda state: state.outcome and state.outcome.result(),
        )(look)
        self._doubtful.difference_update(unknown)

    def _questionable(self, key: str) -> bool:
        """Whether the access point may have jobs of it, sent by us, of which we know nothing."""
        return key in self._doubtful or hash(key) in self._forgotten

    def _take_up(self, keys: Collection[str]) -> None:
        latest = self._latest
        if any(map(self._questionable, keys)):
            queued, gone = self._sender.look_up(list(keys))
        else:
            # All keys at once: the history is long, and this is not the last batch.
            queued, gone = self._sender.look_around(list(keys), latest)
            latest = job_id(gone[0]) if gone else latest
        orphans = self._sender.drop_unspooled(queued)
        for ads, left in ((queued, False), (gone, True)):
            for ad in ads:
                news = job_id(ad) in self.accounts.jobs or ad.get("SwarmRunnerKey") in keys
                changes = observe(self.accounts, ad, left=left)
                self._found += changes if news else []
        for orphan in orphans:
            self.accounts.forget(orphan)
        self._latest = latest
        self.follower.sent(map(job_id, queued), logged=False)

    def _send(self, prepared: Sequence[Prepared]) -> None:
        try:
            sent = self._sender.send(prepared)
        except Exception as error:
            # Also what nobody has foreseen: the jobs may be there.
            if isinstance(error, UnknownSubmitError) or not isinstance(error, SwarmRunnerError):
                self._doubtful.update(one.invocation.key for one in prepared)
            raise
        now = self._clock()
        ids: dict[bool, list[JobId]] = {False: [], True: []}
        for which, one in sent:
            invocation = one.invocation
            job = Job(
                which,
                invocation.key,
                JobState.IDLE,
                tool_id=invocation.tool_id,
                memory_mb=(invocation.vm or invocation.resources).memory_mb,
                submitted_at=now,
            )
            # The access point's clock is the one that counts, and this is ours.
            self._found.append(self.accounts.add(job, 0.0))
            ids[one.logged].append(which)
        self.follower.sent(ids[False], logged=False)
        if ids[True]:
            self.follower.sent(ids[True], logged=self.follower.event_log is not None)
