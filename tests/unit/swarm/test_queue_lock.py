"""At most one manager has the queue: with true locks, with untrue ones, cut off, hung or killed."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import random
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.unit.swarm.image import load_program

queue_lock: ModuleType = load_program("queue_lock")


class Clock:
    """A time that the test sets."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Managers:
    """Managers with one spool and one clock. Locks are true unless a test says otherwise."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.clock = directory, Clock()
        self.unreached: set[str] = set()

    def manager(self, number: int) -> Any:
        own = {
            "service": f"galaxy_htcondor-manager-{number}",
            "node": f"swarm-{number}",
            "task": f"task{number}",
            "address": f"galaxy-manager-{number}:9618",
        }
        return queue_lock.QueueLock(
            self.directory, own, self.clock, lambda address: address not in self.unreached
        )


@pytest.fixture
def managers(tmp_path: Path) -> Managers:
    return Managers(tmp_path)


@pytest.fixture
def untrue_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every node has a lock of its own, as with NFS's option nolock."""
    monkeypatch.setattr(fcntl, "flock", lambda _file, _operation: None)


def die(lock: Any) -> None:
    """End a manager without a word: the kernel closes its files."""
    os.close(lock._lock_file)


def test_the_first_manager_gets_the_queue_and_others_wait(managers: Managers) -> None:
    first, second = managers.manager(1), managers.manager(2)
    assert first.try_acquire()
    for _ in range(5):
        managers.clock.now_s += queue_lock.HEARTBEAT_S
        assert first.beat() == ""
        assert not second.try_acquire()
    assert first.term == 1


def test_a_released_queue_is_taken_at_once(managers: Managers) -> None:
    first, second = managers.manager(1), managers.manager(2)
    assert first.try_acquire()
    assert not second.try_acquire()
    first.release()
    assert second.try_acquire()
    assert second.term == 2


def test_a_dead_manager_keeps_the_queue_for_its_lease(managers: Managers) -> None:
    first, second = managers.manager(1), managers.manager(2)
    assert first.try_acquire()
    assert not second.try_acquire()
    die(first)
    managers.clock.now_s += queue_lock.LEASE_S - 1
    assert not second.try_acquire()
    managers.clock.now_s += 1
    assert second.try_acquire()


def test_a_hung_manager_keeps_the_queue_while_it_has_the_lock(managers: Managers) -> None:
    """Its processes stopped: nothing is written, and nothing can be said of what it writes next."""
    first, second = managers.manager(1), managers.manager(2)
    assert first.try_acquire()
    for _ in range(10):
        managers.clock.now_s += queue_lock.LEASE_S
        assert not second.try_acquire()
    assert first.beat() == ""


@pytest.mark.usefixtures("untrue_locks")
def test_without_true_locks_only_one_manager_has_a_heartbeat(managers: Managers) -> None:
    first, second = managers.manager(1), managers.manager(2)
    assert first.try_acquire()
    for _ in range(20):
        managers.clock.now_s += queue_lock.HEARTBEAT_S
        first.beat()
        assert not second.try_acquire()
    waiting = queue_lock._read(
        managers.directory / f"{queue_lock.STANDBY_PREFIX}{second._own['service']}"
    )
    assert waiting["locks"] is False  # `pool up` reports it


@pytest.mark.usefixtures("untrue_locks")
def test_a_manager_that_hung_for_longer_than_its_lease_writes_nothing_to_the_queue(
    managers: Managers,
) -> None:
    queue = managers.directory / "job_queue.log"
    queue.write_text("jobs\n")
    first, second = managers.manager(1), managers.manager(2)
    assert first.try_acquire()
    schedd = queue.open("a")  # the first manager's, which goes on after a pause
    assert not second.try_acquire()
    managers.clock.now_s += queue_lock.LEASE_S
    assert second.try_acquire()
    schedd.write("written too late\n")
    schedd.close()
    assert queue.read_text() == "jobs\n"
    ended: list[int] = []
    holder = queue_lock.Holder(first, lambda: True, lambda: None, ended.append)
    holder.watch_once()
    holder.beat_once()
    assert ended == [queue_lock.LOST_EXIT_CODE] * 2
    assert second.beat() == ""


@pytest.mark.usefixtures("untrue_locks")
def test_two_managers_that_find_an_expired_heartbeat_at_once(managers: Managers) -> None:
    for term in range(1, 30):
        candidates = [managers.manager(number) for number in (1, 2, 3)]
        for candidate in candidates:
            candidate.latest()
            candidate._observe(f"{queue_lock.TERM_PREFIX}{term - 1}", candidate.latest()[1])
        managers.clock.now_s += queue_lock.LEASE_S
        barrier = threading.Barrier(3)
        taken: list[bool] = []

        def attempt(candidate: Any, barrier: Any = barrier, taken: Any = taken) -> None:
            barrier.wait()
            taken.append(candidate.try_acquire())

        threads = [threading.Thread(target=attempt, args=(c,)) for c in candidates]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(taken) == 1


def test_a_holder_kills_its_daemons_before_another_may_have_the_queue() -> None:
    longest_delay_s = queue_lock.POLL_S  # of the watch
    assert queue_lock.GIVE_UP_S + longest_delay_s < queue_lock.LEASE_S


def test_a_spool_that_hangs_ends_the_holder(managers: Managers, monkeypatch: Any) -> None:
    lock = managers.manager(1)
    assert lock.try_acquire()
    stopped: list[str] = []
    ended: list[int] = []

    def stop_daemons() -> bool:
        stopped.append("daemons")
        return True

    holder = queue_lock.Holder(lock, stop_daemons, lambda: None, ended.append)

    def fail(*_arguments: object, **_options: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(queue_lock, "_write", fail)
    managers.clock.now_s += queue_lock.GIVE_UP_S
    holder.beat_once()
    holder.watch_once()
    assert (stopped, ended) == ([], [])
    managers.clock.now_s += 1
    holder.watch_once()
    assert (stopped, ended) == (["daemons"], [queue_lock.LOST_EXIT_CODE])


def test_a_holder_that_two_others_do_not_reach_gives_the_queue_up(managers: Managers) -> None:
    holder, *standbys = (managers.manager(number) for number in (1, 2, 3))
    assert holder.try_acquire()
    managers.unreached.add("galaxy-manager-1:9618")
    reasons = []
    for _ in range(12):
        managers.clock.now_s += queue_lock.HEARTBEAT_S
        assert not any(standby.try_acquire() for standby in standbys)
        reasons.append(holder.beat())
    assert reasons[0] == ""
    assert reasons[-1] == "none of the 2 other managers reaches this one"
    assert reasons.index(reasons[-1]) * queue_lock.HEARTBEAT_S >= queue_lock.CUT_OFF_S


@pytest.mark.parametrize("reached_by", [1, 2])
def test_a_holder_that_some_reach_keeps_the_queue(managers: Managers, reached_by: int) -> None:
    """One manager alone cannot say which of two is cut off."""
    holder, *standbys = (managers.manager(number) for number in (1, 2, 3))
    assert holder.try_acquire()
    for _ in range(20):
        managers.clock.now_s += queue_lock.HEARTBEAT_S
        managers.unreached.add("galaxy-manager-1:9618")
        standbys[0].try_acquire()
        if reached_by == 2:
            managers.unreached.clear()
            standbys[1].try_acquire()
        assert holder.beat() == ""


def test_a_stopped_holder_writes_no_further_heartbeat(managers: Managers) -> None:
    first, second = managers.manager(1), managers.manager(2)
    assert first.try_acquire()
    holder = queue_lock.Holder(first, lambda: True, lambda: None, lambda _code: None)
    holder.release()
    holder.beat_once()
    assert second.try_acquire()


def test_daemons_that_do_not_end_keep_the_queue(managers: Managers) -> None:
    first, second = managers.manager(1), managers.manager(2)
    assert first.try_acquire()
    queue_lock.Holder(first, lambda: False, lambda: None, lambda _code: None).release()
    assert not second.try_acquire()


def test_a_manager_that_leaves_is_not_listed(managers: Managers) -> None:
    first, second = managers.manager(1), managers.manager(2)
    assert first.try_acquire()
    stopping = threading.Event()
    stopping.set()
    assert not second.acquire(stopping)
    second.leave()
    assert not list(managers.directory.glob(f"{queue_lock.STANDBY_PREFIX}*"))


@pytest.mark.usefixtures("untrue_locks")
@pytest.mark.parametrize("seed", range(4))
def test_no_two_terms_are_in_use_at_once(managers: Managers, seed: int) -> None:
    """Managers hang, die and come back in any order, on a volume whose locks are not true.

    A manager writes while it is not hung and its watch has not ended it. Each write goes to the
    file that it opened when its term began.
    """
    choice = random.Random(seed)  # noqa: S311
    queue = managers.directory / "job_queue.log"
    queue.touch()
    numbers = itertools.count(1)
    waiting = [managers.manager(next(numbers)) for _ in range(3)]
    active: list[Any] = []  # (lock, the queue as its schedd opened it)
    hung: list[Any] = []
    files = contextlib.ExitStack()
    for step in range(150):
        managers.clock.now_s += choice.choice([0.5, 1, 2, 5, 15])
        for lock in list(waiting):
            if lock.try_acquire():
                waiting.remove(lock)
                active.append((lock, files.enter_context(queue.open("a"))))
        for entry in list(active):
            lock, file = entry
            if lock.overdue_s() > queue_lock.GIVE_UP_S or lock.beat():
                active.remove(entry)
                waiting.append(managers.manager(next(numbers)))
                continue
            file.write(f"{lock.term} {step}\n")
            file.flush()
        if active and choice.random() < 0.1:
            hung.append(active.pop())
        if hung and choice.random() < 0.1:
            entry = hung.pop()
            entry[1].write("a write that hung\n")
            entry[1].flush()
            active.append(entry)
    files.close()
    terms = [int(line.split()[0]) for line in queue.read_text().splitlines() if line[0].isdigit()]
    assert terms == sorted(terms)
    assert len(set(terms)) > 3


def test_status_lists_the_managers_whose_heartbeat_changes(
    managers: Managers, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = (managers.manager(number) for number in (1, 2, 3))
    assert first.try_acquire()
    assert not second.try_acquire()
    assert not third.try_acquire()

    def sleep(_seconds: float) -> None:
        first.beat()
        second.try_acquire()

    monkeypatch.setattr("time.sleep", sleep)
    state = queue_lock.status(managers.directory)
    assert state["holder"]["task"] == "task1"
    assert [record["task"] for record in state["standbys"]] == ["task2"]
    assert state["standbys"][0]["locks"]


def test_a_spool_is_emptied_when_its_managers_have_ended(managers: Managers) -> None:
    (managers.directory / "7").mkdir()
    (managers.directory / "7" / "input").touch()
    (managers.directory / "job_queue.log").touch()
    first, second = managers.manager(1), managers.manager(2)
    assert first.try_acquire()
    assert not second.try_acquire()
    first.release()
    die(second)
    queue_lock.remove(managers.directory, empty_s=0)
    assert not list(managers.directory.iterdir())


def test_managers_that_nobody_stopped_end_when_their_pool_is_taken_down(
    managers: Managers,
) -> None:
    """One has the queue, one waits; both run on a node that Swarm does not reach."""
    first, second = managers.manager(1), managers.manager(2)
    assert first.try_acquire()
    assert not second.try_acquire()
    ended: list[int] = []

    def end(code: int) -> None:
        ended.append(code)

    def run_on() -> None:
        while not ended:
            holder.beat_once()
        with pytest.raises(queue_lock.PoolRemovedError):
            second.acquire(threading.Event())
        die(second)

    holder = queue_lock.Holder(first, lambda: True, lambda: None, end)
    managing = threading.Thread(target=run_on)
    managing.start()
    queue_lock.remove(managers.directory, empty_s=0)
    managing.join()
    assert ended == [queue_lock.LOST_EXIT_CODE]
    assert not list(managers.directory.iterdir())


def test_a_manager_that_hung_does_not_write_to_an_emptied_spool(managers: Managers) -> None:
    first, second = managers.manager(1), managers.manager(2)
    assert first.try_acquire()
    assert not second.try_acquire()
    for path in managers.directory.iterdir():
        path.unlink()
    assert first.beat() == "the pool was taken down"
    first.release()
    with pytest.raises(queue_lock.PoolRemovedError):
        second.try_acquire()
    assert not list(managers.directory.iterdir())


def test_a_manager_that_hung_does_not_take_the_heartbeat_of_a_new_pool(
    managers: Managers,
) -> None:
    first = managers.manager(1)
    assert first.try_acquire()
    for path in managers.directory.iterdir():
        path.unlink()
    second = managers.manager(2)
    assert second.try_acquire()
    assert first.term == second.term
    assert "another manager has term 1" in first.beat()
    assert second.beat() == ""


def test_a_manager_that_opened_the_lock_before_it_was_removed_has_no_lock(
    managers: Managers,
) -> None:
    late = managers.manager(1)
    queue_lock.remove(managers.directory, empty_s=0)
    with pytest.raises(queue_lock.PoolRemovedError):
        late.try_acquire()
    assert not list(managers.directory.iterdir())


def test_a_manager_that_keeps_the_lock_keeps_the_files(managers: Managers) -> None:
    first = managers.manager(1)
    assert first.try_acquire()
    with pytest.raises(TimeoutError, match="swarm-1 by its last word"):
        queue_lock.remove(managers.directory, timeout_s=0.1, empty_s=0)
    assert first.beat() == "the pool was taken down"
    first.release()
    queue_lock.remove(managers.directory, empty_s=0)
    assert not list(managers.directory.iterdir())


def test_what_a_manager_writes_that_starts_late_is_removed_too(
    managers: Managers, monkeypatch: pytest.MonkeyPatch
) -> None:
    (managers.directory / "job_queue.log").touch()
    late: list[Any] = []

    def sleep(_seconds: float) -> None:
        if not late:
            late.append(managers.manager(1))
            assert late[0].try_acquire()
            die(late[0])

    monkeypatch.setattr("time.sleep", sleep)
    queue_lock.remove(managers.directory)
    assert not list(managers.directory.iterdir())
