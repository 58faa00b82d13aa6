"""The state machine of jobs: the table TRANSITIONS, and the job table that applies it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from swarm_runner.model.job import (
    TRANSITIONS,
    Hold,
    Job,
    JobEvent,
    JobId,
    JobState,
    Outcome,
    OutcomeKind,
)
from swarm_runner.runner.job_table import JobTable, Location
from swarm_runner.runner.outcomes import WITHDRAWN_KIND, encode_reason

FINAL = {state for state in JobState if state.ended}


def next_states(state: JobState | None) -> set[JobState]:
    return {
        target
        for transition in TRANSITIONS.values()
        if state in transition.from_states
        for target in transition.to_states
    }


def reachable_states(state: JobState | None) -> set[JobState]:
    found: set[JobState] = set()
    pending = next_states(state)
    while pending:
        found |= pending
        pending = {target for source in found for target in next_states(source)} - found
    return found


def test_every_event_has_a_transition() -> None:
    assert set(TRANSITIONS) == set(JobEvent)


@pytest.mark.parametrize("event", JobEvent)
def test_every_event_is_accepted_somewhere_and_leads_somewhere(event: JobEvent) -> None:
    assert TRANSITIONS[event].from_states
    assert TRANSITIONS[event].to_states


def test_every_state_is_reachable() -> None:
    assert reachable_states(None) == set(JobState)


@pytest.mark.parametrize("state", [state for state in JobState if not state.ended])
def test_every_state_that_is_not_final_can_reach_each_end(state: JobState) -> None:
    assert reachable_states(state) >= FINAL


@pytest.mark.parametrize("state", sorted(FINAL))
def test_no_event_is_accepted_in_a_final_state(state: JobState) -> None:
    assert next_states(state) == set()


def test_a_job_ends_by_the_event_ended_alone_and_that_event_ends_it() -> None:
    for event, transition in TRANSITIONS.items():
        assert (set(transition.to_states) <= FINAL) is (event is JobEvent.ENDED)
        assert set(transition.to_states).isdisjoint(FINAL) is (event is not JobEvent.ENDED)


def test_only_an_unknown_job_is_submitted() -> None:
    accepted = [event for event in JobEvent if None in TRANSITIONS[event].from_states]
    assert accepted == [JobEvent.SUBMITTED]


ids = st.builds(JobId, st.integers(1, 3), st.integers(0, 1))
timestamps = st.floats(0, 100)
outcomes = st.builds(Outcome, st.sampled_from(OutcomeKind), st.just("a reason"))


class JobTableMachine(RuleBasedStateMachine):
    """Random operations on a job table, in any state of their job."""

    def __init__(self) -> None:
        super().__init__()
        self.table = JobTable()
        self.ended: dict[JobId, Job] = {}
        # The state of each job after the last change that was checked.
        self.states: dict[JobId, JobState] = {}

    def job(self, data: st.DataObject) -> Job:
        return self.table.jobs[data.draw(st.sampled_from(sorted(self.table.jobs)))]

    def drop(self, job_id: JobId) -> None:
        self.states.pop(job_id, None)
        self.ended.pop(job_id, None)

    @rule(job_id=ids, key=st.sampled_from("ab"), timestamp=timestamps)
    def add(self, job_id: JobId, key: str, timestamp: float) -> None:
        self.drop(job_id)
        self.table.add(Job(job_id, key, JobState.IDLE), timestamp)

    @precondition(lambda self: self.table.jobs)
    @rule(data=st.data(), timestamp=timestamps, starts=st.integers(0, 3))
    def start(self, data: st.DataObject, timestamp: float, starts: int) -> None:
        location = Location("normal", "task", "node")
        self.table.start(self.job(data), timestamp, starts, location)

    @precondition(lambda self: self.table.jobs)
    @rule(data=st.data(), starts=st.none() | st.integers(0, 3))
    def evict(self, data: st.DataObject, starts: int | None) -> None:
        self.table.evict(self.job(data), "a reason", starts)

    @precondition(lambda self: self.table.jobs)
    @rule(data=st.data(), code=st.integers(1, 50))
    def hold(self, data: st.DataObject, code: int) -> None:
        job, hold = self.job(data), Hold(code, 0, "a reason")
        self.table.hold(job, hold)
        if not job.state.ended:
            assert self.table.pending_holds[job.id] is hold

    @precondition(lambda self: self.table.jobs)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        self.table.release(self.job(data), "a reason")

    @precondition(lambda self: self.table.jobs)
    @rule(data=st.data(), reason=st.sampled_from(["by a user", encode_reason("lost", "?"), ""]))
    def remove(self, data: st.DataObject, reason: str) -> None:
        self.table.remove(self.job(data), reason, 1.0)

    @precondition(lambda self: self.table.jobs)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        job = self.job(data)
        self.table.remove(job, encode_reason(WITHDRAWN_KIND, ""), 1.0)
        assert job.id not in self.table.jobs
        self.drop(job.id)

    @precondition(lambda self: self.table.jobs)
    @rule(data=st.data(), state=st.sampled_from(sorted(FINAL)), outcome=outcomes)
    def finish(self, data: st.DataObject, state: JobState, outcome: Outcome) -> None:
        job = self.job(data)
        self.table.finish(job, state, outcome, 1.0)
        assert self.table.jobs[job.id].state.ended

    @precondition(lambda self: self.table.jobs)
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        job_id = self.job(data).id
        self.table.forget(job_id)
        self.drop(job_id)

    @precondition(lambda self: self.table.active)
    @rule(data=st.data(), timestamp=timestamps)
    def advance_watermark(self, data: st.DataObject, timestamp: float) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.table.active)))
        before = self.table.watermark(job_id)
        self.table.set_watermark(job_id, timestamp)
        assert self.table.watermark(job_id) == max(before, timestamp)

    @precondition(lambda self: self.table.jobs)
    @rule(data=st.data())
    def load_history(self, data: st.DataObject) -> None:
        """Apply an event without recording it: the state changes all the same."""
        job = self.job(data)
        recorded = len(self.table._changes)
        with self.table.without_changes():
            self.table.evict(job, "")
        assert len(self.table._changes) == recorded
        self.states[job.id] = self.table.jobs[job.id].state

    @invariant()
    def changes_follow_the_transitions(self) -> None:
        for job, event, _ in self.table.drain_changes():
            transition = TRANSITIONS[event]
            assert self.states.get(job.id) in transition.from_states
            assert job.state in transition.to_states
            self.states[job.id] = job.state
            if job.state.ended:
                self.ended[job.id] = job
        # And nothing changed a state without a change.
        assert self.states == {job.id: job.state for job in self.table.jobs.values()}

    @invariant()
    def an_ended_job_does_not_change(self) -> None:
        for job_id, job in self.ended.items():
            assert self.table.jobs[job_id] is job

    @invariant()
    def pending_holds_and_active_are_consistent(self) -> None:
        jobs = self.table.jobs
        assert set(self.table.active) == {i for i in jobs if not jobs[i].state.ended}
        assert all(jobs[job_id].state is JobState.HELD for job_id in self.table.pending_holds)
        assert self.table.unknown_jobs.isdisjoint(jobs)

    @invariant()
    def jobs_are_found_by_key(self) -> None:
        for key in "ab":
            assert all(job.key == key for job in self.table.find(key))


JobTableMachine.TestCase.settings = settings(
    max_examples=150,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],  # the machine may be busy
)
TestJobTable: Any = JobTableMachine.TestCase
