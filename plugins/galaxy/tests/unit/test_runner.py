"""Submitting, following, ending, deleting and recovering Galaxy's jobs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from galaxy.job_metrics.instrumenters import cgroup
from sqlalchemy import event
from swarm_runner_galaxy import runner as runner_module
from swarm_runner_galaxy.keys import key
from swarm_runner_galaxy.script import without_braces

from swarm_runner.errors import RefusedError
from unit.conftest import DOCKER, World


def test_a_job_runs_to_its_end(world: World) -> None:
    job = world.job(request_memory="256", request_cpus="1.0")
    world.queue(job)
    which = world.submitted(job)
    ad = world.access_point.queue[which]
    assert ad["DockerImage"] == "debian:trixie"
    assert (ad["RequestMemory"], ad["RequestCpus"]) == (256, 1)
    assert ad["Iwd"] == job.working_directory
    world.access_point.start(which)
    commits: list[object] = []
    note = commits.append
    event.listen(world.app.model.engine, "commit", note)
    world.look()
    event.remove(world.app.model.engine, "commit", note)
    assert job.get_state() == "running"
    assert job.get_job().job_runner_external_id == str(which)
    assert job.told_containers == [DOCKER]
    assert len(commits) == 1
    world.end(job)
    world.look()
    assert [state.job_id for state in world.finished] == [str(which)]
    assert job.failures == []


def test_jobs_that_have_ended_are_not_kept_in_memory(world: World) -> None:
    ended, active = world.job(), world.job()
    world.queue(ended, active)
    which = world.submitted(active)
    for job in (ended, active):
        world.access_point.start(world.submitted(job))
    world.end(ended)
    world.look()
    assert [job.id for job in world.runner._pool.jobs()] == [which]
    assert len(world.finished) == 1


def test_the_pools_number_of_a_job_that_waits_is_told_after_a_while(world: World) -> None:
    job = world.job()
    world.queue(job)
    world.look()
    assert job.get_job().job_runner_external_id is None
    world.look()
    assert job.get_job().job_runner_external_id == str(world.submitted(job))


def test_the_script_runs_in_any_shell_and_knows_what_it_was_given(world: World) -> None:
    job = world.job(request_memory="256")
    world.queue(job)
    script = Path(job.working_directory, f"galaxy_{job.job_id}.sh").read_text()
    assert script.startswith("#!/bin/sh\n")
    assert 'GALAXY_LIB="None"' in script
    assert 'GALAXY_VIRTUAL_ENV="None"' in script
    assert 'GALAXY_MEMORY_MB="256"' in script
    assert "_CONDOR_MACHINE_AD" in script


def test_jobs_of_several_workers_are_one_batch(world: World) -> None:
    jobs = [world.job() for _ in range(20)]
    world.queue(*jobs)
    assert world.access_point.calls["submit"] == 1
    assert len({world.submitted(job) for job in jobs}) == 20


def test_one_bad_job_does_not_keep_the_others(world: World) -> None:
    good, bad = world.job(), world.job(request_memory="64 GB")
    world.queue(good, bad)
    assert world.submitted(good)
    assert "fits no class of pool" in bad.failures[0]
    assert bad.failures[0].startswith("This job could not be started: ")


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"request_memory": "0"}, "swarm: request_memory: is 0 MB"),
        ({"universe": "vanilla"}, "docker_enabled: true"),
        ({"capacity_class": "huge"}, "'huge' is no class"),
    ],
)
def test_bad_parameters_fail_the_job_before_anything_is_prepared(
    world: World, params: dict[str, str], said: str
) -> None:
    job = world.job(**params)
    world.queue(job)
    assert said in job.failures[0]
    assert job.prepared == 0
    assert world.access_point.queue == {}


def test_an_image_that_is_none(world: World) -> None:
    job = world.job()
    job.swarm_container = SimpleNamespace(container_id="No Image", container_type="docker")
    world.queue(job)
    assert "image: 'No Image' is no image reference" in job.failures[0]


def test_no_container_or_one_of_another_kind(world: World) -> None:
    bare, other = world.job(), world.job()
    bare.swarm_container = None
    other.swarm_container = SimpleNamespace(container_id="a.sif", container_type="singularity")
    world.queue(bare, other)
    assert "docker_default_container_id" in bare.failures[0]
    assert "of type singularity" in other.failures[0]


def test_interactive_tools_are_refused(world: World) -> None:
    job = world.job()
    job.guest_ports = [8888]
    world.queue(job)
    assert "interactive tools cannot run in this destination" in job.failures[0]
    assert world.access_point.queue == {}


def test_raw_commands_reach_the_job_ad(world: World) -> None:
    job = world.job(**{"htcondor_+Group": '"a b"', "htcondor_priority": "7"})
    world.queue(job)
    ad = world.access_point.queue[world.submitted(job)]
    assert ad["Group"] == "a b"


def test_memory_and_time_have_galaxys_names(world: World) -> None:
    states = {}
    world.runner._handle_runner_state = lambda _, state: states.update(
        {state.job_wrapper.job_id: state.runner_state}
    )
    memory, time, escalated = world.job(), world.job(), world.job(max_memory="1 GB")
    world.queue(memory, time, escalated)
    for job, code, subcode in ((memory, 34, 102), (time, 47, 0), (escalated, 34, 102)):
        world.access_point.start(world.submitted(job))
        world.look()
        world.access_point.trouble(world.submitted(job), code, subcode, "over its limit")
        world.look()
    assert states == {
        memory.job_id: "memory_limit_reached",
        time.job_id: "walltime_reached",
        # The schedd was to raise it: nobody else tries again.
        escalated.job_id: "memory_limit_reached_after_escalation",
    }
    assert "used more memory" in memory.failures[0]
    assert "ask your Galaxy's administrators" in memory.failures[0]
    assert "ran longer than its time limit" in time.failures[0]


def test_a_held_job_is_queued_and_says_why(world: World) -> None:
    job = world.job()
    world.queue(job)
    which = world.submitted(job)
    world.access_point.start(which)
    world.look()
    world.access_point.hold([which], "maintenance")
    world.look()
    assert job.get_state() == "queued"
    assert "maintenance" in job.infos[-1]
    world.access_point.release([which], "go on")
    world.look()
    world.access_point.start(which)
    world.look()
    assert job.get_state() == "running"


def test_a_job_that_ended_without_its_script(world: World) -> None:
    job = world.job()
    world.queue(job)
    world.access_point.start(world.submitted(job))
    world.access_point.finish(world.submitted(job), 127)
    world.look()
    assert "the program is not in the image" in job.failures[0]
    assert world.finished == []


def test_removed_by_someone_in_the_pool(world: World) -> None:
    job = world.job()
    world.queue(job)
    world.access_point.remove([world.submitted(job)], "an administrator did it")
    world.look()
    assert "an administrator did it" in job.failures[0]


def test_deleted_in_galaxy(world: World) -> None:
    queued, running = world.job(), world.job()
    world.queue(queued, running)
    world.access_point.start(world.submitted(running))
    world.look()
    for job in (queued, running):
        job.change_state("deleted")
        world.runner.stop_job(job)
        world.runner.stop_job(job)
    world.look()
    world.look()
    assert world.access_point.queue == {}
    assert world.access_point.calls["remove"] == 1
    assert (queued.cleaned, running.cleaned) == (True, True)
    assert queued.failures == running.failures == []


def test_deleted_before_it_was_sent(world: World) -> None:
    job = world.job()
    world.runner.queue_job(job)
    world.runner.stop_job(job)
    world.send()
    world.look()
    assert world.access_point.calls["submit"] == 0
    assert job.cleaned


def test_stopped_with_its_outputs_kept(world: World) -> None:
    job = world.job()
    world.queue(job)
    world.access_point.start(world.submitted(job))
    world.look()
    job.change_state("stopped")
    world.runner.stop_job(job)
    world.look()
    world.look()
    assert len(world.finished) == 1


def test_a_job_that_was_being_submitted_at_the_kill_is_adopted(world: World) -> None:
    job = world.job()
    world.runner.queue_job(job)
    sender = world.runner._sender
    # Submitted, and killed before Galaxy had noted its number.
    world.runner._pool.submit([letter.invocation for letter in sender._batch()])
    assert job.get_job().job_runner_external_id is None
    world.start()
    world.runner.queue_job(job)  # parked: what the pool has is not known yet
    world.look()
    assert job.prepared == 1
    assert world.access_point.calls["submit"] == 1
    world.access_point.start(world.submitted(job))
    world.end(job)
    world.look()
    assert len(world.finished) == 1


def test_running_and_finished_jobs_are_found_again(world: World) -> None:
    running, finished = world.job(), world.job()
    world.queue(running, finished)
    for job in (running, finished):
        world.access_point.start(world.submitted(job))
    world.look()
    world.start()
    world.end(finished)
    for job in (running, finished):
        world.runner.recover(job.get_job(), job)
    world.look()
    assert [state.job_wrapper for state in world.finished] == [finished]
    assert running.get_state() == "running"
    world.end(running)
    world.look()
    assert [state.job_wrapper for state in world.finished] == [finished, running]


def test_a_job_that_nobody_knows_any_more(world: World) -> None:
    job = world.job()
    job.set_external_id("77.0")
    world.runner.recover(job.get_job(), job)
    world.look()
    assert "The access point knows this job no longer" in job.failures[0]


def test_each_attempt_has_its_own_key(world: World) -> None:
    job = world.job()
    first = key(job)
    job.change_state("resubmitted")
    assert key(job) != first
    # Another database that counts from one again.
    assert first.startswith(f"{job.job_id}-")
    assert len(first.split("-")) == 3


def test_jobs_of_another_galaxy_are_left_alone(world: World) -> None:
    job = world.job()
    world.queue(job)
    theirs = world.submitted(job)
    world.settings = {**world.settings, "name": "galaxy-of-others"}
    world.start()
    world.look()
    same_number = world.job()
    world.queue(same_number)
    world.access_point.start(theirs)
    world.look()
    assert theirs in world.access_point.queue
    assert same_number.get_state() == "queued"


def test_the_pool_is_down_at_boot_and_comes_later(world: World) -> None:
    world.access_point.reachable = False
    world.start()
    world.look()
    job = world.job()
    world.runner.queue_job(job)
    assert job.prepared == 0
    world.access_point.reachable = True
    world.look()
    world.send()
    assert world.submitted(job)
    assert job.failures == []


def test_the_pool_goes_away_while_jobs_run(world: World) -> None:
    job = world.job()
    world.queue(job)
    world.access_point.reachable = False
    world.runner.stop_job(job)
    world.look()
    assert world.submitted(job) in world.access_point.queue
    world.access_point.reachable = True
    world.look()
    assert world.access_point.queue == {}


def test_a_look_asks_the_database_nothing(world: World) -> None:
    jobs = [world.job() for _ in range(30)]
    world.queue(*jobs)
    world.look()
    sent = [world.submitted(job) for job in jobs]
    files = len(list(Path("/proc/self/fd").iterdir()))
    statements: list[str] = []
    engine = world.app.model.engine
    event.listen(engine, "before_cursor_execute", lambda *a: statements.append(a[2]))
    for which in sent:
        world.access_point.start(which)
    world.clock.now += 5
    world.runner.check_watched_items()
    assert statements == []
    assert len(list(Path("/proc/self/fd").iterdir())) <= files
    world.work()
    assert {job.get_state() for job in jobs} == {"running"}


def test_news_overtake_work(world: World) -> None:
    ended, running = world.job(), world.job()
    world.queue(ended, running)
    world.access_point.start(world.submitted(ended))
    world.end(ended)
    world.access_point.start(world.submitted(running))
    world.clock.now += 5
    world.runner.check_watched_items()
    steps = [world.runner.work_queue.get_nowait()[0].__name__ for _ in range(3)]
    assert steps == ["advance", "advance", "conclude"]


def test_metrics_of_htcondor(world: World) -> None:
    job = world.job()
    world.queue(job)
    world.access_point.start(world.submitted(job))
    world.look()
    world.access_point.trouble(world.submitted(job), 47, 0, "over its limit")
    world.look()
    measured = {metric.metric_name: metric.metric_value for metric in job.get_job().metrics}
    assert float(measured["starts"]) == 1
    title, value = world.app.job_metrics.format("htcondor", "starts", 1)
    assert (title, value) == ("Times Started", "1")


def test_what_htcondor_has_measured(world: World) -> None:
    job = world.job()
    world.queue(job)
    world.access_point.start(world.submitted(job))
    # Without its script's exit code the job has not ended well, and is recorded all the same.
    world.access_point.finish(world.submitted(job), 127)
    world.look()
    measured = {metric.metric_name: metric.metric_value for metric in job.get_job().metrics}
    assert {"cpus_used", "memory_used_mb", "disk_used_mb", "execute_s"} <= set(measured)
    assert float(measured["disk_used_mb"]) == 1


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
    assert names in without_braces(script)
    assert without_braces("for f in /a/{b,c}; do true; done") == "for f in /a/{b,c}; do true; done"


def test_a_job_that_may_not_be_removed_does_not_stop_the_news_of_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise RefusedError("1 jobs are another user's")

    deleted, other = world.job(), world.job()
    world.queue(deleted, other)
    monkeypatch.setattr(world.access_point, "remove", refuse)
    deleted.change_state("deleted")
    world.runner.stop_job(deleted)
    world.access_point.start(world.submitted(other))
    world.look()
    assert other.get_state() == "running"
    assert list(world.runner._following._doomed) == []
    world.end(other)
    world.look()
    assert [state.job_wrapper for state in world.finished] == [other]


def test_one_owner_of_another_try_after_a_restart_too(world: World) -> None:
    states = {}
    recovered, adopted = world.job(max_memory="1 GB"), world.job(max_memory="1 GB")
    world.queue(recovered, adopted)
    sent = [world.submitted(job) for job in (recovered, adopted)]
    recovered.set_external_id(str(sent[0]))
    world.start()
    world.runner._handle_runner_state = lambda _, state: states.update(
        {state.job_wrapper.job_id: state.runner_state}
    )
    world.runner.recover(recovered.get_job(), recovered)
    world.runner.queue_job(adopted)
    world.look()
    for which in sent:
        world.access_point.start(which)
        world.access_point.trouble(which, 34, 102, "over its limit")
    world.look()
    assert set(states.values()) == {"memory_limit_reached_after_escalation"}
    assert len(states) == 2


@pytest.mark.parametrize(("state", "finished"), [("deleting", 0), ("stopped", 1)])
def test_a_job_that_was_deleted_before_it_could_be_adopted(
    world: World, state: str, finished: int
) -> None:
    job = world.job()
    world.queue(job)
    world.start()
    world.runner.queue_job(job)  # parked
    job.change_state(state)
    world.look()
    world.look()
    world.look()
    assert world.access_point.queue == {}
    assert job.failures == []
    assert len(world.finished) == finished
    assert job.cleaned is not bool(finished)


def test_the_exit_code_outlives_a_kill_while_galaxy_finishes_the_job(world: World) -> None:
    job = world.job()
    world.queue(job)
    world.access_point.start(world.submitted(job))
    world.end(job)
    world.look()
    (state,) = world.finished
    state.cleanup()  # as Galaxy does on its way
    assert Path(state.exit_code_file).read_text() == "0"


def test_a_job_that_another_runner_of_this_galaxy_has_sent_is_not_sent_again(
    world: World,
) -> None:
    """A rule may choose otherwise when Galaxy starts again."""
    job = world.job()
    world.queue(job)
    which = world.submitted(job)
    first = world.start()
    first._section.runner_id = "first"
    world.settings = {**world.settings, "name": "galaxy-second"}
    second = world.start()
    for runner in (first, second):
        runner_module._RUNNING.add(runner)
    try:
        second.queue_job(job)
        world.look()  # the second alone: it does not know yet what the first one's pool has
        assert world.access_point.calls["submit"] == 1
        first.check_watched_items()
        world.look()
    finally:
        runner_module._RUNNING.clear()
    assert world.access_point.calls["submit"] == 1
    assert job.get_job().job_runner_name == "first"
    assert job.get_job().job_runner_external_id == str(which)
    assert first._following.find(job.get_id_tag()) is not None
    assert second._following.find(job.get_id_tag()) is None


def test_limits_are_looked_at_now_and_then_and_never_pile_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = world.job()
    job.limited = True
    asked: list[float] = []

    def check_limits(runtime: float) -> None:
        asked.append(runtime)

    monkeypatch.setattr(job, "check_limits", check_limits, raising=False)
    world.queue(job)
    world.access_point.start(world.submitted(job))
    world.look()
    world.clock.now += 20
    # The worker threads are busy elsewhere.
    for _ in range(10):
        world.clock.now += 20
        world.runner.check_watched_items()
    assert world.runner.work_queue.qsize() == 1
    world.work()
    assert len(asked) == 1
    for _ in range(8):
        world.look()
    assert len(asked) == 3
    limit = ("tool_timelimit_reached", "it took too long")
    monkeypatch.setattr(job, "check_limits", lambda **_: limit)
    world.clock.now += 20
    world.look()
    world.look()
    assert job.failures == ["it took too long"]
    assert world.access_point.queue == {}
