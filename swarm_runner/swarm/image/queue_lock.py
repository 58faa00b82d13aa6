"""Which of a pool's managers has the job queue: at most one at a time.

A manager has the queue while three things are true, all of them on the spool that the managers
share: it holds the lock file's lock, it created the file of the latest *term*, and it wrote its
heartbeat there less than GIVE_UP_S ago. Another manager takes the queue when it gets the lock and
the heartbeat has not changed for LEASE_S, or when the last holder released it. Each manager
measures these times with its own clock; no two clocks are compared.

- The lock keeps two managers apart as long as the volume's locks are true.
- A manager that cannot write its heartbeat kills its daemons before the lease ends. This keeps two
  managers apart when the file server took the lock from one that was cut off.
- A term's holder gives the queue's files new inodes. What a file system still writes for an
  earlier holder, whose processes hung, goes to a file without a name.

HTCondor's own lock of this kind (HA_LOCK_URL) compares the file's time with the local clock, and
renews a lock file without asking whose it is: two masters can have it.

A pool that is taken down ends with a term that no manager has (`removed`). Managers that still run
then, which can be on nodes that Swarm does not reach, see it and end; the files are removed when
nobody has the lock. A manager creates its files once, and ends when they are gone.

`queue_lock.py status` prints what the managers wrote, as JSON; `queue_lock.py remove DIRECTORY`
empties the spool of a pool that is taken down.
"""

import contextlib
import errno
import fcntl
import json
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

SPOOL_DIRECTORY = Path("/var/lib/swarm-runner/spool")
LOCK_NAME = "swarm-runner-queue.lock"
TERM_PREFIX, STANDBY_PREFIX = "swarm-runner-term-", "swarm-runner-standby-"
POLL_S, HEARTBEAT_S = 1.0, 2.0
REACH_S = 4.0  # a standby tries to connect to the holder this often
# The holder's daemons are dead before another manager may take the queue.
GIVE_UP_S, LEASE_S = 12.0, 20.0
# A standby counts as alive if its heartbeat changed within this time.
STANDBY_TIMEOUT_S = 10.0
# A holder that nobody reaches for this long, by the word of two others at least, is cut off.
CUT_OFF_S, CUT_OFF_WITNESSES = 15.0, 2
CONNECT_TIMEOUT_S = 3.0
# A holder ends within a heartbeat and the time that its daemons need; one that hangs does not.
REMOVE_TIMEOUT_S = 25.0
# The spool stays empty for this time: a manager that starts late writes to it within a second.
EMPTY_S = 3.0
REMOVE_POLL_S = 0.2
LOST_EXIT_CODE = 5
# Files to which daemons append while the queue is theirs.
APPENDED_FILES = ("job_queue.log", "Accountantnew.log")
_RECORD_SIZE = 1024
_REMOVED = "the pool was taken down"

Record = dict[str, Any]


def own_record(environment: Mapping[str, str]) -> Record:
    """Return what a manager writes of itself, from its container's environment."""
    names = ("SERVICE", "NODE", "TASK", "MANAGER", "PORT")
    service, node, task, host, port = (environment[f"SWARM_RUNNER_{name}"] for name in names)
    return {"service": service, "node": node, "task": task, "address": f"{host}:{port}"}


def boot_time_s() -> float:
    """Return a time that goes on while the host is suspended and that nobody sets."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def reaches(address: str) -> bool:
    """Return whether something accepts connections at host:port."""
    host, _, port = address.rpartition(":")
    with contextlib.suppress(OSError, ValueError):
        socket.create_connection((host, int(port)), CONNECT_TIMEOUT_S).close()
        return True
    return False


class PoolRemovedError(Exception):
    """The pool of this spool was taken down: nothing may be written to it any more."""


class QueueLock:
    """One manager's part in the choice of the manager that has the queue.

    Args:
        directory: The spool that the managers share.
        own: What this manager writes of itself (`own_record`).
        clock: Returns a time in seconds, also while the host is suspended.
        reachable: Returns whether a manager's address accepts connections.
    """

    def __init__(
        self,
        directory: Path,
        own: Record,
        clock: Callable[[], float] = boot_time_s,
        reachable: Callable[[str], bool] = reaches,
    ) -> None:
        self._directory = directory
        self._own = own
        self._clock = clock
        self._reachable = reachable
        self._lock_file = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
        self._locked = False
        self._lock_works = True
        self._heartbeat = 0
        self._seen: dict[str, tuple[str, float]] = {}  # what a file had, and since when
        self._cut_off_since: float | None = None
        self._tried_at, self._reaches = 0.0, True
        self._beaten_at = clock()
        self.term = 0

    def acquire(self, stopping: threading.Event) -> bool:
        """Wait until this manager has the queue. Return False if `stopping` was set first.

        Raises PoolRemovedError if the pool was taken down.
        """
        while not self.try_acquire():
            if stopping.wait(POLL_S):
                return False
        return True

    def try_acquire(self) -> bool:
        """Take the queue if nobody has it, and return whether it was taken. Otherwise wait.

        Raises PoolRemovedError if the pool was taken down.
        """
        had_lock = self._locked
        self._locked = self._try_lock()
        term, record = self.latest()
        if record.get("removed", False):
            raise PoolRemovedError
        age_s, changed = self._observe(f"{TERM_PREFIX}{term}", record)
        free = not term or record.get("released", False)
        if had_lock and changed and not free:
            # Its holder is alive, and the lock that it should have is ours.
            self._lock_works = False
        if self._locked and (free or age_s >= LEASE_S) and self._begin_term(term + 1):
            return True
        if self._clock() - self._tried_at >= REACH_S:
            self._tried_at = self._clock()
            self._reaches = self._reachable(record.get("address", ""))
        self._heartbeat += 1
        state = {"reaches": self._reaches, "locks": self._lock_works}
        record = self._own | state | {"heartbeat": self._heartbeat}
        try:
            _write(self._standby_file, record, create=self._heartbeat == 1)
        except FileNotFoundError as error:
            raise PoolRemovedError from error
        return False

    def latest(self) -> tuple[int, Record]:
        """Return the latest term, 0 if there was none, and what its holder wrote."""
        terms = [int(path.name.removeprefix(TERM_PREFIX)) for path in self._files(TERM_PREFIX)]
        term = max(terms, default=0)
        return term, _read(self._directory / f"{TERM_PREFIX}{term}") if term else {}

    def beat(self) -> str:
        """Write the holder's heartbeat. Return why the queue is lost, or nothing.

        Raises OSError when the spool cannot be written.
        """
        if reason := self._lost_reason():
            return reason
        self._heartbeat += 1
        record = self._own | {"heartbeat": self._heartbeat, "released": False}
        try:
            _write(self._term_file, record)
        except FileNotFoundError:
            return self._lost_reason() or _REMOVED
        self._beaten_at = self._clock()
        return self._cut_off_reason()

    def overdue_s(self) -> float:
        """Return for how many seconds no heartbeat was written."""
        return self._clock() - self._beaten_at

    def release(self) -> None:
        """Let another manager take the queue at once. The daemons must have ended."""
        if not self._lost_reason():
            with contextlib.suppress(FileNotFoundError):
                _write(self._term_file, self._own | {"heartbeat": 0, "released": True})
        os.close(self._lock_file)

    def leave(self) -> None:
        """Stop waiting for the queue."""
        self._standby_file.unlink(missing_ok=True)
        os.close(self._lock_file)

    @property
    def _term_file(self) -> Path:
        return self._directory / f"{TERM_PREFIX}{self.term}"

    @property
    def _standby_file(self) -> Path:
        return self._directory / f"{STANDBY_PREFIX}{self._own['service']}"

    def _lost_reason(self) -> str:
        """Return why another one has the queue, or nothing."""
        term, record = self.latest()
        if not term or record.get("removed", False):
            return _REMOVED
        # A new pool in the same directory begins with term 1 again.
        if term != self.term or record.get("task", self._own["task"]) != self._own["task"]:
            return f"another manager has term {term} of the queue, this one had {self.term}"
        return ""

    def _is_lock_file(self) -> bool:
        """Return whether the file that this manager locks is still the one in the spool."""
        try:
            # Opened, because a file server is asked for the name then.
            current = os.open(self._directory / LOCK_NAME, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            return os.path.sameopenfile(current, self._lock_file)
        except OSError as error:
            if error.errno == errno.ESTALE:
                return False
            raise
        finally:
            os.close(current)

    def _try_lock(self) -> bool:
        return self._locked or _locks(self._lock_file)

    def _begin_term(self, term: int) -> bool:
        """Begin a term, unless another manager began it: its file is created once.

        The files of a pool are removed by somebody who has the lock of the file that is there.
        """
        path = self._directory / f"{TERM_PREFIX}{term}"
        if not self._is_lock_file():
            raise PoolRemovedError
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
        except FileExistsError:
            return False
        self.term = term
        _write(path, self._own | {"heartbeat": 0, "released": False})
        self._beaten_at = self._clock()
        for name in APPENDED_FILES:
            _renew_inode(self._directory / name)
        self._standby_file.unlink(missing_ok=True)
        for earlier in self._files(TERM_PREFIX):
            if earlier != path:
                earlier.unlink(missing_ok=True)
        return True

    def _cut_off_reason(self) -> str:
        """Return why this holder should give the queue up, or nothing.

        A minority of the managers can be cut off from the others while both write to the volume.
        """
        witnesses = [
            record
            for path in self._files(STANDBY_PREFIX)
            if self._observe(path.name, record := _read(path))[0] < STANDBY_TIMEOUT_S
        ]
        cut_off = len(witnesses) >= CUT_OFF_WITNESSES and not any(
            record.get("reaches", True) for record in witnesses
        )
        now = self._clock()
        self._cut_off_since = (self._cut_off_since or now) if cut_off else None
        if self._cut_off_since is None or now - self._cut_off_since < CUT_OFF_S:
            return ""
        return f"none of the {len(witnesses)} other managers reaches this one"

    def _observe(self, name: str, record: Record) -> tuple[float, bool]:
        """Return for how long a file has had this content, and whether it is a change."""
        text, now = json.dumps(record), self._clock()
        before = self._seen.get(name)
        if before is None or before[0] != text:
            self._seen[name] = (text, now)
            return 0.0, before is not None
        return now - before[1], False

    def _files(self, prefix: str) -> list[Path]:
        return sorted(self._directory.glob(f"{prefix}*"))


class Holder:
    """Writes the heartbeat of the manager that has the queue, and stops it when that fails.

    Args:
        lock: The lock, which this manager has.
        stop_daemons: Kills the daemons, and returns whether all of them have ended.
        each_heartbeat: Called after each heartbeat.
        end: Ends this process at once.
    """

    def __init__(
        self,
        lock: QueueLock,
        stop_daemons: Callable[[], bool],
        each_heartbeat: Callable[[], None],
        end: Callable[[int], None] = os._exit,
    ) -> None:
        self._lock = lock
        self._stop_daemons = stop_daemons
        self._each_heartbeat = each_heartbeat
        self._end = end
        self._writing = threading.Lock()
        self._released = False

    def start(self) -> None:
        """Start the heartbeat, and apart from it what watches over it: a write may hang."""
        threading.Thread(target=self._beat, daemon=True).start()
        threading.Thread(target=self._watch, daemon=True).start()

    def release(self) -> None:
        """Stop the daemons and let another manager take the queue."""
        with self._writing:
            self._released = self._stop_daemons()
            if self._released:
                self._lock.release()

    def _beat(self) -> None:
        while True:
            self.beat_once()
            time.sleep(HEARTBEAT_S)

    def beat_once(self) -> None:
        """Write one heartbeat; end this process if the queue is lost."""
        with self._writing:
            if self._released:
                return
            try:
                reason = self._lock.beat()
            except OSError as error:
                sys.stderr.write(f"swarm-runner: no heartbeat: {error}\n")
                return
            if reason:
                self._give_up(reason, release=True)
        self._each_heartbeat()

    def _watch(self) -> None:
        while True:
            self.watch_once()
            time.sleep(POLL_S)

    def watch_once(self) -> None:
        """End this process if no heartbeat was written for too long."""
        if self._lock.overdue_s() > GIVE_UP_S:
            # Nothing that touches the volume: it may hang.
            self._give_up(f"no heartbeat could be written for {GIVE_UP_S:g} s", release=False)

    def _give_up(self, reason: str, *, release: bool) -> None:
        stopped = self._stop_daemons()
        sys.stderr.write(f"swarm-runner: this manager gives the queue up: {reason}\n")
        if release and stopped:
            self._lock.release()
        self._end(LOST_EXIT_CODE)


def status(directory: Path = SPOOL_DIRECTORY) -> Record:
    """Return the holder's record and those of the managers whose heartbeat changes."""
    first = _records(directory)
    time.sleep(2 * HEARTBEAT_S + POLL_S)
    second = _records(directory)
    alive = {name: record for name, record in second.items() if first.get(name) != record}
    term = max((name for name in alive if name.startswith(TERM_PREFIX)), default="", key=_number)
    return {
        "holder": alive.get(term),
        "standbys": [record for name, record in alive.items() if name.startswith(STANDBY_PREFIX)],
    }


def remove(directory: Path, timeout_s: float = REMOVE_TIMEOUT_S, empty_s: float = EMPTY_S) -> None:
    """Empty the spool of a pool that is taken down, after every manager that uses it has ended.

    Raises TimeoutError, with the node, if a manager keeps its lock for `timeout_s` seconds.
    """
    deadline = time.monotonic() + timeout_s
    while any(directory.iterdir()):
        _remove_files(directory, deadline)
        time.sleep(empty_s)


def _remove_files(directory: Path, deadline: float) -> None:
    lock_path = directory / LOCK_NAME
    lock_file = os.open(lock_path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        records = {n: r for n, r in _records(directory).items() if n.startswith(TERM_PREFIX)}
        last = max(records, default=f"{TERM_PREFIX}0", key=_number)
        holder = records.get(last, {})
        if not holder.get("removed", False):
            ended = directory / f"{TERM_PREFIX}{_number(last) + 1}"
            _write(ended, {"removed": True, "node": holder.get("node", "")}, create=True)
        while not _locks(lock_file):
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"a manager, {holder.get('node') or 'on an unknown node'} by its last word, "
                    "still has the lock of the queue"
                )
            time.sleep(REMOVE_POLL_S)
        # What the managers look at goes last, and a manager that starts now waits for the lock.
        names = (TERM_PREFIX, LOCK_NAME)
        for path in sorted(directory.iterdir(), key=lambda path: path.name.startswith(names)):
            if path != lock_path:
                _remove_path(path)
        lock_path.unlink()
    finally:
        os.close(lock_file)


def _remove_path(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _locks(file: int) -> bool:
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _write(path: Path, record: Record, *, create: bool = False) -> None:
    """Write a record. Raises FileNotFoundError if the file is gone, unless it is to be created."""
    # In place, and always the same length: NFS shows another client the new content of a file
    # that it opens, while it may know a renamed file by its old name for a minute.
    data = json.dumps(record).encode().ljust(_RECORD_SIZE)
    file = os.open(path, os.O_WRONLY | (os.O_CREAT if create else 0), 0o644)
    try:
        os.pwrite(file, data, 0)
        os.fsync(file)
    finally:
        os.close(file)


def _number(term: str) -> int:
    return int(term.removeprefix(TERM_PREFIX))


def _records(directory: Path) -> dict[str, Record]:
    paths = [*directory.glob(f"{TERM_PREFIX}*"), *directory.glob(f"{STANDBY_PREFIX}*")]
    return {path.name: _read(path) for path in paths}


def _read(path: Path) -> Record:
    """Return a record. One that is being written counts as another content."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return {}
    try:
        record: Record = json.loads(text)
    except ValueError:
        return {"text": text}
    return record


def _renew_inode(path: Path) -> None:
    """Give a file a new inode with the same content, owner and mode."""
    if not path.exists():
        return
    copy = path.with_name(f"swarm-runner-copy-of-{path.name}")
    shutil.copy2(path, copy)
    owner = path.stat()
    os.chown(copy, owner.st_uid, owner.st_gid)
    with copy.open("rb") as file:
        os.fsync(file.fileno())
    copy.replace(path)


def main() -> int:
    """Run the command that the arguments name."""
    if sys.argv[1:2] != ["remove"]:
        sys.stdout.write(json.dumps(status()) + "\n")
        return 0
    try:
        remove(Path(sys.argv[2]))
    except (TimeoutError, OSError) as error:
        sys.stdout.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
