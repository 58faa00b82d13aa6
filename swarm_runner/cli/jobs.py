"""The job commands: submit, jobs, remove, explain."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from swarm_runner.cli import config_files, factories
from swarm_runner.cli.console import print_note, progress, show, show_json
from swarm_runner.cli.exit_codes import ExitCode, interruptible
from swarm_runner.cli.options import (
    AsJson,
    DestinationName,
    InvocationFiles,
    JobConfPath,
    JobNames,
    RunnerName,
    default_runner_name,
)
from swarm_runner.cli.wording import pluralize
from swarm_runner.errors import (
    InvalidInputError,
    PreconditionError,
    SwarmRunnerError,
    UnreachableError,
)

if TYPE_CHECKING:
    from swarm_runner.model.job import Job
    from swarm_runner.model.pool import Destination
    from swarm_runner.runner import Runner

DEFAULT_RUNNER = default_runner_name()
DEFAULT_ENDED_LIMIT = 20
MAX_KEYS_SHOWN = 4
REMOVE_REASON = "somebody ran `swarm-runner remove`"


def submit(
    files: InvocationFiles,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until all jobs have ended.")] = False,
    runner: RunnerName = DEFAULT_RUNNER,
    job_conf: JobConfPath = None,
    destination_name: DestinationName = None,
    as_json: AsJson = False,
) -> None:
    """Submit invocations: all of them or none.

    A file holds one invocation or a list. A key that was submitted before is not run again; its
    jobs are shown. With --wait the exit code is 1 if a job failed.
    """
    from swarm_runner.cli.tables import submitted_table

    destination = config_files.load_destination(job_conf, destination_name)
    invocations = config_files.load_invocations(files)
    option = _runner_option(runner)
    message = f"Jobs that were submitted stay in the queue: see `swarm-runner jobs{option}`."
    with interruptible(lambda: message), factories.runner(destination, runner) as session:
        count = pluralize(sum(invocation.repeat for invocation in invocations), "job")
        with progress(f"submitting {count} to pool {destination.pool.name}"):
            jobs = session.submit(invocations)
        if wait:
            _show_finished(_wait_for_jobs(session, jobs, runner), as_json)
            return
    if as_json:
        show_json(jobs)
        return
    show(submitted_table(jobs))
    print_note(
        f"{pluralize(len(jobs), 'job')} in pool {destination.pool.name}. `swarm-runner "
        f"jobs{option}` shows them; `swarm-runner jobs{option} --wait` waits for them and "
        "retrieves their outputs."
    )


def jobs(
    ended_limit: Annotated[
        int, typer.Option("--ended", min=0, metavar="N", help="How many ended jobs to show.")
    ] = DEFAULT_ENDED_LIMIT,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait",
            help="Resume as this runner: wait for its jobs and retrieve their outputs.",
        ),
    ] = False,
    runner: RunnerName = DEFAULT_RUNNER,
    job_conf: JobConfPath = None,
    destination_name: DestinationName = None,
    as_json: AsJson = False,
) -> None:
    """List the runner's jobs.

    These are the jobs in the queue and the most recent ones that ended. Listing changes nothing.
    With --wait the exit code is 1 if a job failed.
    """
    from swarm_runner.cli import job_list
    from swarm_runner.cli.tables import count_by_state, failures, jobs_table

    destination = config_files.load_destination(job_conf, destination_name)
    pool = destination.pool
    if wait:
        with factories.runner(destination, runner) as session:
            with progress(f"looking up the jobs of runner {runner} in pool {pool.name}"):
                active = [job for job in session.jobs() if not job.state.ended]
            _show_finished(_wait_for_jobs(session, active, runner), as_json)
        return
    with progress(f"querying the access point of pool {pool.name}"):
        access_point = factories.access_point(destination)
        found, awaiting_retrieval = job_list.list_jobs(access_point, runner, ended_limit)
    if as_json:
        show_json(found)
        return
    if found:
        show(jobs_table(found), *failures(found))
    print_note(f"runner {runner} in pool {pool.name}: {count_by_state(found)}", style="dim")
    if awaiting_retrieval:
        print_note(
            f"The outputs of {pluralize(len(awaiting_retrieval), 'job')} are still on the access "
            f"point; `swarm-runner jobs{_runner_option(runner)} --wait` retrieves them."
        )


def remove(
    names: JobNames = None,
    all_jobs: Annotated[
        bool, typer.Option("--all", help="Remove all jobs of the runner that have not ended.")
    ] = False,
    runner: RunnerName = DEFAULT_RUNNER,
    job_conf: JobConfPath = None,
    destination_name: DestinationName = None,
    as_json: AsJson = False,
) -> None:
    """Remove jobs from the queue, including running ones.

    If a name is unknown, nothing is removed.
    """
    from swarm_runner.cli import job_list
    from swarm_runner.model.job import OutcomeKind
    from swarm_runner.runner.outcomes import encode_reason

    if bool(names) == all_jobs:
        raise InvalidInputError("name the jobs to remove, or use --all")
    destination = config_files.load_destination(job_conf, destination_name)
    access_point = factories.access_point(destination)
    with progress(f"removing jobs from pool {destination.pool.name}"):
        if all_jobs:
            found = job_list.list_jobs(access_point, runner, ended_limit=0).jobs
        else:
            found = job_list.find_jobs(access_point, runner, names or [])
        active = [job.id for job in found if not job.state.ended]
        removed = access_point.remove(active, encode_reason(OutcomeKind.REMOVED, REMOVE_REASON))
    if as_json:
        show_json({"removed": removed, "jobs": active})
        return
    already_ended = len(found) - removed
    note = f"; {already_ended} had already ended" if already_ended else ""
    print_note(f"{pluralize(removed, 'job')} removed{note}")


def explain(
    names: Annotated[
        list[str],
        typer.Argument(metavar="JOB", help="Job ID (cluster.proc) or an invocation's key."),
    ],
    runner: RunnerName = DEFAULT_RUNNER,
    job_conf: JobConfPath = None,
    destination_name: DestinationName = None,
    as_json: AsJson = False,
) -> None:
    """Explain why a job is idle or held, or how it ended."""
    from rich.text import Text

    from swarm_runner.cli import job_list
    from swarm_runner.model.job import JobState
    from swarm_runner.runner.explanation import explain_jobs

    destination = config_files.load_destination(job_conf, destination_name)
    access_point = factories.access_point(destination)
    with progress(f"querying the access point of pool {destination.pool.name}"):
        found = job_list.find_jobs(access_point, runner, names)
        now = time.time()
        explained = explain_jobs(access_point, found, destination.pool, now)
        explanations = list(zip(found, explained, strict=True))
        problems: tuple[str, ...] = ()
        if any(job.state is JobState.IDLE for job in found):
            problems = _pool_problems(destination)
    if as_json:
        show_json(
            [
                {"job": job, **asdict(explanation), "pool_problems": problems}
                for job, explanation in explanations
            ]
        )
        return
    for job, explanation in explanations:
        show(Text(f"{job.id} ({job.key}), {job.state.value}", style="bold"), str(explanation))
    for problem in problems:
        show(Text(f"pool {destination.pool.name}: {problem}", style="yellow"))


def _pool_problems(destination: Destination) -> tuple[str, ...]:
    """Return what Swarm knows and HTCondor does not: why executors do not start.

    Nothing, where this command cannot reach a Swarm manager.
    """
    try:
        return factories.provisioner(destination, lambda _: None).status().problems
    except (UnreachableError, PreconditionError):
        return ()


def _wait_for_jobs(session: Runner, jobs: list[Job], runner: str) -> list[Job]:
    """Show the jobs' progress, and return them when all have ended."""
    from swarm_runner.cli.job_progress import JobProgressView

    view = JobProgressView(jobs)

    def message() -> str:
        return _interrupted_message(view.unfinished, runner)

    try:
        with interruptible(message), view:
            for change in session.watch() if view.unfinished else ():
                view.apply(change)
                if not view.unfinished:
                    break
    except SwarmRunnerError:
        print_note(message())
        raise
    return view.jobs


def _show_finished(jobs: list[Job], as_json: bool) -> None:
    """Show jobs that have ended; exit with code 1 unless all succeeded."""
    from swarm_runner.cli.tables import failures, jobs_table

    if as_json:
        show_json(jobs)
    elif jobs:
        show(jobs_table(jobs), *failures(jobs))
    if not all(job.outcome is not None and job.outcome.ok for job in jobs):
        raise typer.Exit(ExitCode.FAILED)


def _interrupted_message(jobs: list[Job], runner: str) -> str:
    """Return what happens to jobs that the command no longer waits for."""
    keys = list(dict.fromkeys(job.key for job in jobs))
    names = " ".join(keys) if len(keys) <= MAX_KEYS_SHOWN else "--all"
    option = _runner_option(runner)
    return (
        f"Not ended yet: {pluralize(len(jobs), 'job')}, which HTCondor continues to run. "
        f"`swarm-runner jobs{option}` shows the jobs, `swarm-runner jobs{option} --wait` resumes "
        f"waiting, `swarm-runner remove{option} {names}` removes them."
    )


def _runner_option(runner: str) -> str:
    return "" if runner == DEFAULT_RUNNER else f" --runner {runner}"
