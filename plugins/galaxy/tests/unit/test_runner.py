"""Submitting, tracking, finishing, deleting and recovering Galaxy's jobs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from galaxy.job_metrics.instrumenters import cgroup
from sqlalchemy import event
from swarm_runner_galaxy import runner as runner_module
from swarm_runner_galaxy.invocation import expand_cgroup_braces
from swarm_runner_galaxy.keys import build_job_key
from swarm_runner_galaxy.work_queue import StateUpdatesFirst, WorkItem

from swarm_runner import PreconditionError
from unit.conftest import DOCKER, RunnerHarness


def test_a_job_runs_to_its_end(harness: RunnerHarness) -> None:
    job = harness.job(request_memory="256", request_cpus="1.0")
    harness.queue_jobs(job)
    job_id = harness.job_id(job)
    ad = harness.access_point.queue[job_id]
    assert ad["DockerImage"] == "debian:trixie"
    assert (ad["RequestMemory"], ad["RequestCpus"]) == (256, 1)
    assert ad["Iwd"] == job.working_directory
    harness.access_point.start(job_id)
    commits: list[object] = []
    record = commits.append
    event.listen(harness.app.model.engine, "commit", record)
    harness.poll()
    event.remove(harness.app.model.engine, "commit", record)
    assert job.get_state() == "running"
    assert job.get_job().job_runner_external_id == str(job_id)
    assert job.published_containers == [DOCKER]
    assert len(commits) == 1
    harness.end_job(job)
    harness.poll()
    assert [state.job_id for state in harness.finished] == [str(job_id)]
    assert job.failures == []


def test_ended_jobs_are_forgotten(harness: RunnerHarness) -> None:
    ended, active = harness.job(), harness.job()
    harness.queue_jobs(ended, active)
    job_id = harness.job_id(active)
    for job in (ended, active):
        harness.access_point.start(harness.job_id(job))
    harness.end_job(ended)
    harness.poll()
    assert [job.id for job in harness.runner._runner.jobs()] == [job_id]
    assert len(harness.finished) == 1


def test_the_id_of_an_idle_job_is_published_after_a_while(harness: RunnerHarness) -> None:
    job = harness.job()
    harness.queue_jobs(job)
    harness.poll()
    assert job.get_job().job_runner_external_id is None
    harness.poll()
    assert job.get_job().job_runner_external_id == str(harness.job_id(job))


def test_the_script_runs_in_any_shell_and_knows_its_resources(harness: RunnerHarness) -> None:
    job = harness.job(request_memory="256")
    harness.queue_jobs(job)
    script = Path(job.working_directory, f"galaxy_{job.job_id}.sh").read_text()
    assert script.startswith("#!/bin/sh\n")
    assert 'GALAXY_LIB="None"' in script
    assert 'GALAXY_VIRTUAL_ENV="None"' in script
    assert 'GALAXY_MEMORY_MB="256"' in script
    assert "_CONDOR_MACHINE_AD" in script


def test_variables_of_the_container_are_set_in_the_script(harness: RunnerHarness) -> None:
    job = harness.job(docker_env_OMP="2", docker_env_PATH="/opt:$PATH", **{"docker_env_A-B": "1"})
    harness.queue_jobs(job)
    script = Path(job.working_directory, f"galaxy_{job.job_id}.sh").read_text()
    assert 'OMP="2"; export OMP\n' in script
    assert 'PATH="/opt:$PATH"; export PATH\n' in script
    assert "A-B" not in script


def test_jobs_of_several_workers_are_one_batch(harness: RunnerHarness) -> None:
    jobs = [harness.job() for _ in range(20)]
    harness.queue_jobs(*jobs)
    assert harness.access_point.calls["submit"] == 1
    assert len({harness.job_id(job) for job in jobs}) == 20


def test_an_invalid_job_does_not_block_the_others(harness: RunnerHarness) -> None:
    valid, invalid = harness.job(), harness.job(request_memory="64 GB")
    harness.queue_jobs(valid, invalid)
    assert harness.job_id(valid)
    assert "fits no class of pool" in invalid.failures[0]
    assert invalid.failures[0].startswith("This job could not be started: ")


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"request_memory": "0"}, "swarm: request_memory: is 0 MB"),
        ({"request_cpus": "many"}, "swarm: request_cpus: needs a number of CPUs"),
        ({"capacity_class": "huge"}, "'huge' is not a class"),
    ],
)
def test_invalid_parameters_fail_the_job_before_anything_is_prepared(
    harness: RunnerHarness, params: dict[str, str], expected: str
) -> None:
    job = harness.job(**params)
    harness.queue_jobs(job)
    assert expected in job.failures[0]
    assert job.prepared == 0
    assert harness.access_point.queue == {}


def test_keys_without_effect_fail_no_job_and_are_logged_once(
    harness: RunnerHarness, caplog: pytest.LogCaptureFixture
) -> None:
    params = {"submit_request_gpus": "1", "description": "x", "request_memroy": "1G"}
    jobs = [harness.job(**params), harness.job(**params)]
    with caplog.at_level("INFO"):
        harness.queue_jobs(*jobs)
    assert [job.failures for job in jobs] == [[], []]
    logged = [record for record in caplog.records if record.name.startswith("swarm_runner_galaxy")]
    texts = [(record.levelname, record.getMessage()) for record in logged]
    foreign = [text for level, text in texts if level == "INFO" and "other programs" in text]
    assert len(foreign) == 1
    slips = [text for level, text in texts if level == "WARNING" and "without effect" in text]
    assert len(slips) == 1


def test_an_invalid_image_reference(harness: RunnerHarness) -> None:
    job = harness.job()
    job.swarm_container = SimpleNamespace(container_id="No Image", container_type="docker")
    harness.queue_jobs(job)
    assert "image: 'No Image' is not a valid image reference" in job.failures[0]


def test_no_container_or_one_of_another_type(harness: RunnerHarness) -> None:
    missing, other = harness.job(), harness.job()
    missing.swarm_container = None
    other.swarm_container = SimpleNamespace(container_id="a.sif", container_type="singularity")
    harness.queue_jobs(missing, other)
    assert "docker_default_container_id" in missing.failures[0]
    assert "of type singularity" in other.failures[0]


def test_raw_commands_reach_the_job_ad(harness: RunnerHarness) -> None:
    job = harness.job(**{"htcondor_+Group": '"a b"', "htcondor_priority": "7"})
    harness.queue_jobs(job)
    ad = harness.access_point.queue[harness.job_id(job)]
    assert ad["Group"] == "a b"


def test_memory_and_time_have_galaxys_names(harness: RunnerHarness) -> None:
    states = {}
    harness.runner._handle_runner_state = lambda _, state: states.update(
        {state.job_wrapper.job_id: state.runner_state}
    )
    memory, time, escalated = harness.job(), harness.job(), harness.job(max_memory="1 GB")
    harness.queue_jobs(memory, time, escalated)
    for job, code, subcode in ((memory, 34, 102), (time, 47, 0), (escalated, 34, 102)):
        harness.access_point.start(harness.job_id(job))
        harness.poll()
        harness.access_point.hold_by_htcondor(harness.job_id(job), code, subcode, "over its limit")
        harness.poll()
    assert states == {
        memory.job_id: "memory_limit_reached",
        time.job_id: "walltime_reached",
        # The schedd owns the retry: Galaxy must not retry as well.
        escalated.job_id: "memory_limit_reached_after_escalation",
    }
    assert "used more memory" in memory.failures[0]
    assert "ask your Galaxy's administrators" in memory.failures[0]
    assert "ran longer than its time limit" in time.failures[0]


def test_a_held_job_is_queued_with_the_reason(harness: RunnerHarness) -> None:
    job = harness.job()
    harness.queue_jobs(job)
    job_id = harness.job_id(job)
    harness.access_point.start(job_id)
    harness.poll()
    harness.access_point.hold([job_id], "maintenance")
    harness.poll()
    assert job.get_state() == "queued"
    assert "The pool holds this job: maintenance" in str(job.get_output_info())
    harness.access_point.release([job_id], "continue")
    harness.poll()
    harness.access_point.start(job_id)
    harness.poll()
    assert job.get_state() == "running"


def test_a_job_that_is_held_before_it_starts_shows_the_reason(harness: RunnerHarness) -> None:
    """Galaxy copies a job's info to its outputs only when the state changes; here it does not."""
    job = harness.job()
    harness.queue_jobs(job)
    harness.poll()
    assert job.get_state() == "queued"
    harness.access_point.hold([harness.job_id(job)], "maintenance")
    harness.poll()
    assert "The pool holds this job: maintenance" in str(job.get_output_info())
    harness.access_point.release([harness.job_id(job)], "continue")
    harness.poll()
    assert job.get_output_info() == "The pool has released this job"


def test_a_job_that_ended_without_its_script(harness: RunnerHarness) -> None:
    job = harness.job()
    harness.queue_jobs(job)
    harness.access_point.start(harness.job_id(job))
    harness.access_point.finish(harness.job_id(job), 127)
    harness.poll()
    assert "the program is not in the image" in job.failures[0]
    assert harness.finished == []


def test_removed_in_the_pool(harness: RunnerHarness) -> None:
    job = harness.job()
    harness.queue_jobs(job)
    harness.access_point.remove([harness.job_id(job)], "by an administrator")
    harness.poll()
    assert "by an administrator" in job.failures[0]


def test_deleted_in_galaxy(harness: RunnerHarness) -> None:
    queued, running = harness.job(), harness.job()
    harness.queue_jobs(queued, running)
    harness.access_point.start(harness.job_id(running))
    harness.poll()
    for job in (queued, running):
        job.change_state("deleted")
        harness.runner.stop_job(job)
        harness.runner.stop_job(job)
    harness.poll()
    harness.poll()
    assert harness.access_point.queue == {}
    assert harness.access_point.calls["remove"] == 1
    assert (queued.cleaned, running.cleaned) == (True, True)
    assert queued.failures == running.failures == []


def test_deleted_before_its_submission(harness: RunnerHarness) -> None:
    job = harness.job()
    harness.runner.queue_job(job)
    harness.runner.stop_job(job)
    harness.run_submitter()
    harness.poll()
    assert harness.access_point.calls["submit"] == 0
    assert job.cleaned


def test_stopped_with_its_outputs_kept(harness: RunnerHarness) -> None:
    job = harness.job()
    harness.queue_jobs(job)
    harness.access_point.start(harness.job_id(job))
    harness.poll()
    job.change_state("stopped")
    harness.runner.stop_job(job)
    harness.poll()
    harness.poll()
    assert len(harness.finished) == 1


def test_a_job_whose_submission_was_interrupted_by_a_kill_is_adopted(
    harness: RunnerHarness,
) -> None:
    job = harness.job()
    harness.runner.queue_job(job)
    batch = harness.runner._submitter._next_batch()
    # Galaxy is killed after the submission, before it has recorded the job's ID.
    harness.runner._runner.submit([pending.invocation for pending in batch])
    assert job.get_job().job_runner_external_id is None
    harness.start()
    harness.runner.queue_job(job)  # parked: the pool's jobs are not known yet
    harness.poll()
    assert job.prepared == 1
    assert harness.access_point.calls["submit"] == 1
    harness.access_point.start(harness.job_id(job))
    harness.end_job(job)
    harness.poll()
    assert len(harness.finished) == 1


def test_running_and_finished_jobs_are_recovered(harness: RunnerHarness) -> None:
    running, finished = harness.job(), harness.job()
    harness.queue_jobs(running, finished)
    for job in (running, finished):
        harness.access_point.start(harness.job_id(job))
    harness.poll()
    harness.start()
    harness.end_job(finished)
    for job in (running, finished):
        harness.runner.recover(job.get_job(), job)
    harness.poll()
    assert [state.job_wrapper for state in harness.finished] == [finished]
    assert running.get_state() == "running"
    harness.end_job(running)
    harness.poll()
    assert [state.job_wrapper for state in harness.finished] == [finished, running]


def test_a_job_that_the_pool_does_not_know(harness: RunnerHarness) -> None:
    job = harness.job()
    job.set_external_id("77.0")
    harness.runner.recover(job.get_job(), job)
    harness.poll()
    assert "The access point does not know this job" in job.failures[0]


def test_each_attempt_has_its_own_key(harness: RunnerHarness) -> None:
    job = harness.job()
    first = build_job_key(job)
    job.change_state("resubmitted")
    assert build_job_key(job) != first
    # The creation time distinguishes jobs of another database.
    assert first.startswith(f"{job.job_id}-")
    assert len(first.split("-")) == 3


def test_jobs_of_another_galaxy_are_left_alone(harness: RunnerHarness) -> None:
    job = harness.job()
    harness.queue_jobs(job)
    foreign_id = harness.job_id(job)
    harness.settings = {**harness.settings, "name": "another-galaxy"}
    harness.start()
    harness.poll()
    same_number = harness.job()
    harness.queue_jobs(same_number)
    harness.access_point.start(foreign_id)
    harness.poll()
    assert foreign_id in harness.access_point.queue
    assert same_number.get_state() == "queued"


def test_the_pool_is_unreachable_at_boot(harness: RunnerHarness) -> None:
    harness.access_point.reachable = False
    harness.start()
    harness.poll()
    job = harness.job()
    harness.runner.queue_job(job)
    assert job.prepared == 0
    harness.access_point.reachable = True
    harness.poll()
    harness.run_submitter()
    assert harness.job_id(job)
    assert job.failures == []


def test_the_pool_becomes_unreachable_while_jobs_run(harness: RunnerHarness) -> None:
    job = harness.job()
    harness.queue_jobs(job)
    harness.access_point.reachable = False
    harness.runner.stop_job(job)
    harness.poll()
    assert harness.job_id(job) in harness.access_point.queue
    harness.access_point.reachable = True
    harness.poll()
    assert harness.access_point.queue == {}


def test_a_poll_does_not_query_the_database(harness: RunnerHarness) -> None:
    jobs = [harness.job() for _ in range(30)]
    harness.queue_jobs(*jobs)
    harness.poll()
    job_ids = [harness.job_id(job) for job in jobs]
    files = len(list(Path("/proc/self/fd").iterdir()))
    statements: list[str] = []
    database = harness.app.model.engine
    event.listen(database, "before_cursor_execute", lambda *args: statements.append(args[2]))
    for job_id in job_ids:
        harness.access_point.start(job_id)
    harness.clock.now += 5
    harness.runner.check_watched_items()
    assert statements == []
    assert len(list(Path("/proc/self/fd").iterdir())) <= files
    harness.run_workers()
    assert {job.get_state() for job in jobs} == {"running"}


def test_state_updates_precede_other_steps(harness: RunnerHarness) -> None:
    ended, running = harness.job(), harness.job()
    harness.queue_jobs(ended, running)
    harness.access_point.start(harness.job_id(ended))
    harness.end_job(ended)
    harness.access_point.start(harness.job_id(running))
    harness.clock.now += 5
    harness.runner.check_watched_items()
    steps = [step.__name__ for step, _ in _drain(harness.runner.work_queue)]
    assert steps == ["publish_state", "complete"]


def _drain(queue: StateUpdatesFirst) -> Iterator[WorkItem]:
    while not queue.empty():
        yield queue.get_nowait()


def test_a_job_that_ends_before_the_next_update_is_finished_at_once(harness: RunnerHarness) -> None:
    job = harness.job()
    harness.queue_jobs(job)
    harness.poll()
    harness.access_point.start(harness.job_id(job))
    harness.poll(after_s=0.2)
    assert job.get_state() == "queued"
    harness.end_job(job)
    harness.poll(after_s=0.2)
    assert len(harness.finished) == 1
    assert job.infos == []  # it was never "running"
    assert job.get_job().job_runner_external_id is not None


def test_states_are_published_with_the_next_update(harness: RunnerHarness) -> None:
    job = harness.job()
    harness.queue_jobs(job)
    harness.poll()
    harness.access_point.start(harness.job_id(job))
    for _ in range(4):
        harness.poll(after_s=0.2)
        assert job.get_state() == "queued"
    harness.poll(after_s=0.2)
    assert job.get_state() == "running"


def test_deleted_jobs_are_removed_with_the_next_update(harness: RunnerHarness) -> None:
    jobs = [harness.job() for _ in range(3)]
    harness.queue_jobs(*jobs)
    harness.poll()
    for job in jobs:
        harness.runner.stop_job(job)
        harness.poll(after_s=0.2)
    assert len(harness.access_point.queue) == 3
    harness.poll(after_s=0.6)
    assert harness.access_point.queue == {}


def test_polls_are_rare_until_the_pool_answers(harness: RunnerHarness) -> None:
    assert harness.runner.monitor_sleep_time == 0.2
    harness.access_point.reachable = False
    runner = harness.start()
    harness.poll()
    assert runner.monitor_sleep_time == 1.0
    harness.access_point.reachable = True
    harness.poll()
    assert runner.monitor_sleep_time == 0.2


def test_polls_are_as_frequent_as_galaxy_says(
    harness: RunnerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness.app.config, "job_runner_monitor_sleep", 0.05)
    runner = harness.start()
    assert runner.monitor_sleep_time == 0.05


def test_metrics_of_htcondor(harness: RunnerHarness) -> None:
    job = harness.job()
    harness.queue_jobs(job)
    harness.access_point.start(harness.job_id(job))
    harness.poll()
    harness.access_point.hold_by_htcondor(harness.job_id(job), 47, 0, "over its limit")
    harness.poll()
    metrics = {metric.metric_name: metric.metric_value for metric in job.get_job().metrics}
    assert float(metrics["starts"]) == 1
    title, value = harness.app.job_metrics.format("htcondor", "starts", 1)
    assert (title, value) == ("Times Started", "1")


def test_usage_that_htcondor_has_measured(harness: RunnerHarness) -> None:
    job = harness.job()
    harness.queue_jobs(job)
    harness.access_point.start(harness.job_id(job))
    # Without its script's exit code the job fails. Its usage is recorded nevertheless.
    harness.access_point.finish(harness.job_id(job), 127)
    harness.poll()
    metrics = {metric.metric_name: metric.metric_value for metric in job.get_job().metrics}
    assert {"cpus_used", "memory_used_mb", "disk_used_mb", "execute_s"} <= set(metrics)
    assert float(metrics["disk_used_mb"]) == 1


@pytest.mark.parametrize(
    ("template", "names"),
    [
        (
            cgroup.CGROUPSV1_TEMPLATE,
            r"/cpu\,cpuacct$cgroup_path/cpu.* /sys/fs/cgroup/cpu\,cpuacct$cgroup_path/cpuacct.* ",
        ),
        (
            cgroup.CGROUPSV2_TEMPLATE,
            "in /sys/fs/cgroup/${cgroup_path}/cpu.* /sys/fs/cgroup/${cgroup_path}/memory.*; do",
        ),
    ],
)
def test_galaxys_cgroup_metrics_work_in_any_shell(template: str, names: str) -> None:
    script = template.format(metrics="file", cgroup_mount="/sys/fs/cgroup")
    assert names in expand_cgroup_braces(script)
    assert (
        expand_cgroup_braces("for f in /a/{b,c}; do true; done")
        == "for f in /a/{b,c}; do true; done"
    )


def test_a_job_that_cannot_be_removed_does_not_block_changes_of_others(
    harness: RunnerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise PreconditionError("1 job belongs to another user")

    deleted, other = harness.job(), harness.job()
    harness.queue_jobs(deleted, other)
    monkeypatch.setattr(harness.access_point, "remove", fail)
    deleted.change_state("deleted")
    harness.runner.stop_job(deleted)
    harness.access_point.start(harness.job_id(other))
    harness.poll()
    assert other.get_state() == "running"
    assert list(harness.runner._job_monitor._removals) == []
    harness.end_job(other)
    harness.poll()
    assert [state.job_wrapper for state in harness.finished] == [other]


def test_retries_have_one_owner_after_a_restart(harness: RunnerHarness) -> None:
    states = {}
    recovered_job, adopted_job = harness.job(max_memory="1 GB"), harness.job(max_memory="1 GB")
    harness.queue_jobs(recovered_job, adopted_job)
    job_ids = [harness.job_id(job) for job in (recovered_job, adopted_job)]
    recovered_job.set_external_id(str(job_ids[0]))
    harness.start()
    harness.runner._handle_runner_state = lambda _, state: states.update(
        {state.job_wrapper.job_id: state.runner_state}
    )
    harness.runner.recover(recovered_job.get_job(), recovered_job)
    harness.runner.queue_job(adopted_job)
    harness.poll()
    for job_id in job_ids:
        harness.access_point.start(job_id)
        harness.access_point.hold_by_htcondor(job_id, 34, 102, "over its limit")
    harness.poll()
    assert set(states.values()) == {"memory_limit_reached_after_escalation"}
    assert len(states) == 2


@pytest.mark.parametrize(("state", "finished"), [("deleting", 0), ("stopped", 1)])
def test_a_job_that_was_deleted_before_it_could_be_adopted(
    harness: RunnerHarness, state: str, finished: int
) -> None:
    job = harness.job()
    harness.queue_jobs(job)
    harness.start()
    harness.runner.queue_job(job)  # parked
    job.change_state(state)
    harness.poll()
    harness.poll()
    harness.poll()
    assert harness.access_point.queue == {}
    assert job.failures == []
    assert len(harness.finished) == finished
    assert job.cleaned is not bool(finished)


def test_the_exit_code_outlives_a_kill_while_galaxy_finishes_the_job(
    harness: RunnerHarness,
) -> None:
    job = harness.job()
    harness.queue_jobs(job)
    harness.access_point.start(harness.job_id(job))
    harness.end_job(job)
    harness.poll()
    (state,) = harness.finished
    state.cleanup()  # as Galaxy does on its way
    assert Path(state.exit_code_file).read_text() == "0"


def test_a_job_of_another_runner_of_this_galaxy_is_not_submitted_again(
    harness: RunnerHarness,
) -> None:
    """A dynamic rule may choose another runner after a restart."""
    job = harness.job()
    harness.queue_jobs(job)
    job_id = harness.job_id(job)
    first = harness.start()
    first._config.runner_id = "first"
    harness.settings = {**harness.settings, "name": "galaxy-second"}
    second = harness.start()
    for runner in (first, second):
        runner_module._ACTIVE_RUNNERS.add(runner)
    try:
        second.queue_job(job)
        harness.poll()  # only the second: it does not know the jobs in the first one's pool yet
        assert harness.access_point.calls["submit"] == 1
        first.check_watched_items()
        harness.poll()
    finally:
        runner_module._ACTIVE_RUNNERS.clear()
    assert harness.access_point.calls["submit"] == 1
    assert job.get_job().job_runner_name == "first"
    assert job.get_job().job_runner_external_id == str(job_id)
    assert first._job_monitor.find(job.get_id_tag()) is not None
    assert second._job_monitor.find(job.get_id_tag()) is None


def test_limits_are_checked_periodically_and_never_pile_up(
    harness: RunnerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = harness.job()
    job.limited = True
    checks: list[float] = []

    def check_limits(runtime: float) -> None:
        checks.append(runtime)

    monkeypatch.setattr(job, "check_limits", check_limits, raising=False)
    harness.queue_jobs(job)
    harness.access_point.start(harness.job_id(job))
    harness.poll()
    harness.clock.now += 20
    # The worker threads are busy.
    for _ in range(10):
        harness.clock.now += 20
        harness.runner.check_watched_items()
    assert harness.runner.work_queue.qsize() == 1
    harness.run_workers()
    assert len(checks) == 1
    for _ in range(8):
        harness.poll()
    assert len(checks) == 3
    limit = ("tool_timelimit_reached", "it took too long")
    monkeypatch.setattr(job, "check_limits", lambda **_: limit)
    harness.clock.now += 20
    harness.poll()
    harness.poll()
    assert job.failures == ["it took too long"]
    assert harness.access_point.queue == {}
