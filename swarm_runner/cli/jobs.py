"""Commands about jobs: submit, jobs, remove, explain."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from swarm_runner.cli import config_files, factories
from swarm_runner.cli.console import progress, show, show_json, stderr_console
from swarm_runner.cli.exit_codes import ExitCode, interruptible
from swarm_runner.cli.options import AsJson, DestinationName, JobConfPath, JobNames, RunnerName
from swarm_runner.cli.tables import count_by_state, failures, jobs_table, pluralize, submitted_table
from swarm_runner.errors import InvalidInputError, SwarmRunnerError
from swarm_runner.model.job import Job, OutcomeKind

if TYPE_CHECKING:
    from swarm_runner.runner import Runner

DEFAULT_RUNNER = "default"
DEFAULT_ENDED_LIMIT = 20
MAX_KEYS_SHOWN = 4
REMOVE_REASON = "somebody ran `swarm-runner remove`"


def submit(
    files: Annotated[list[str], typer.Argument(metavar="FILE", help="YAML or JSON; - is stdin.")],
    wait: Annotated[bool, typer.Option("--wait", help="Wait until all jobs have ended.")] = False,
    runner: RunnerName = DEFAULT_RUNNER,
    job_conf: JobConfPath = None,
    destination_name: DestinationName = None,
    as_json: AsJson = False,
) -> None:
    """Submit invocations: all of them, or none.

    A file holds one invocation, or a list. A key that was submitted before is not run again: its
    jobs are shown. With --wait the exit code is 1 when a job did not end well.
    """
    place = config_files.load_destination(job_conf, destination_name)
    invocations = config_files.load_invocations(files)
    word = f"What was sent so far is queued: see `swarm-runner jobs{_runner_option(runner)}`."
    with interruptible(lambda: word), factories.runner(place, runner) as session:
        amount = pluralize(sum(invocation.repeat for invocation in invocations), "job")
        with progress(f"submitting {amount} to pool {place.pool.name}"):
            jobs = session.submit(invocations)
        if wait:
            _show_finished(_wait_for_jobs(session, jobs, runner), as_json)
            return
    if as_json:
        show_json(jobs)
        return
    show(submitted_table(jobs))
    of = _runner_option(runner)
    stderr_console().print(
        f"{pluralize(len(jobs), 'job')} at pool {place.pool.name}. `swarm-runner jobs{of}` shows them; "
        f"`swarm-runner jobs{of} --wait` waits for them and brings their outputs.",
        soft_wrap=True,
    )


def jobs(
    ended_limit: Annotated[
        int, typer.Option("--ended", min=0, metavar="N", help="How many ended jobs to show.")
    ] = DEFAULT_ENDED_LIMIT,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait",
            help="Be the runner again: wait for its jobs, and bring outputs that were left behind.",
        ),
    ] = False,
    runner: RunnerName = DEFAULT_RUNNER,
    job_conf: JobConfPath = None,
    destination_name: DestinationName = None,
    as_json: AsJson = False,
) -> None:
    """List the runner's jobs.

    These are the jobs in the queue, and the latest that ended. Looking changes nothing. With
    --wait the exit code is 1 when a job did not end well.
    """
    from swarm_runner.cli import joblist

    place = config_files.load_destination(job_conf, destination_name)
    if wait:
        with factories.runner(place, runner) as session:
            with progress(f"looking for jobs of runner {runner} in pool {place.pool.name}"):
                active = [job for job in session.jobs() if not job.state.ended]
            _show_finished(_wait_for_jobs(session, active, runner), as_json)
        return
    with progress(f"asking the access point of pool {place.pool.name}"):
        found, unfetched = joblist.list_jobs(factories.access_point(place), runner, ended_limit)
    if as_json:
        show_json(found)
        return
    if found:
        show(jobs_table(found), *failures(found))
    stderr_console().print(
        f"runner {runner} in pool {place.pool.name}: {count_by_state(found)}",
        style="dim",
        soft_wrap=True,
    )
    if unfetched:
        stderr_console().print(
            f"The outputs of {pluralize(len(unfetched), 'job')} wait at the access point; "
            f"`swarm-runner jobs{_runner_option(runner)} --wait` brings them.",
            soft_wrap=True,
        )


def remove(
    names: JobNames = None,
    all_jobs: Annotated[
        bool, typer.Option("--all", help="All jobs of the runner that have not ended.")
    ] = False,
    runner: RunnerName = DEFAULT_RUNNER,
    job_conf: JobConfPath = None,
    destination_name: DestinationName = None,
    as_json: AsJson = False,
) -> None:
    """Take jobs out of the queue, running ones too. If one name is unknown, none is removed."""
    from swarm_runner.cli import joblist
    from swarm_runner.runner.outcomes import encode_reason

    if bool(names) == all_jobs:
        raise InvalidInputError("name the jobs to remove, or say --all")
    place = config_files.load_destination(job_conf, destination_name)
    access_point = factories.access_point(place)
    with progress(f"removing jobs from pool {place.pool.name}"):
        if all_jobs:
            found = joblist.list_jobs(access_point, runner, ended_limit=0).jobs
        else:
            found = joblist.find_jobs(access_point, runner, names or [])
        active = [job.id for job in found if not job.state.ended]
        removed = access_point.remove(active, encode_reason(OutcomeKind.REMOVED, REMOVE_REASON))
    if as_json:
        show_json({"removed": removed, "jobs": active})
        return
    before = len(found) - removed
    tail = f"; {before} had ended before" if before else ""
    stderr_console().print(f"{pluralize(removed, 'job')} removed{tail}", soft_wrap=True)


def explain(
    names: Annotated[
        list[str], typer.Argument(metavar="JOB", help="cluster.proc, or an invocation's key.")
    ],
    runner: RunnerName = DEFAULT_RUNNER,
    job_conf: JobConfPath = None,
    destination_name: DestinationName = None,
    as_json: AsJson = False,
) -> None:
    """Say why a job is idle or held.

    Of one that has ended, it says how.
    """
    from swarm_runner.cli import joblist

    place = config_files.load_destination(job_conf, destination_name)
    access_point = factories.access_point(place)
    with progress(f"asking the access point of pool {place.pool.name}"):
        found = joblist.find_jobs(access_point, runner, names)
        explained = joblist.explain_jobs(access_point, found, place.pool)
    if as_json:
        show_json([{"job": job, **asdict(words)} for job, words in explained])
        return
    for job, words in explained:
        show(Text(f"{job.id} ({job.key}), {job.state.value}", style="bold"), str(words))


def _wait_for_jobs(session: Runner, jobs: list[Job], runner: str) -> list[Job]:
    """The jobs when all have ended."""
    from swarm_runner.cli.job_progress import JobProgressView

    follow = JobProgressView(jobs)

    def word() -> str:
        return _interrupted_message(follow.unfinished, runner)

    try:
        with interruptible(word), follow:
            for change in session.watch() if follow.unfinished else ():
                follow.apply(change)
                if not follow.unfinished:
                    break
    except SwarmRunnerError:
        stderr_console().print(word(), soft_wrap=True)
        raise
    return follow.jobs


def _show_finished(jobs: list[Job], as_json: bool) -> None:
    """Show jobs that were waited for; the exit code tells whether all ended well."""
    if as_json:
        show_json(jobs)
    elif jobs:
        show(jobs_table(jobs), *failures(jobs))
    if not all(job.outcome is not None and job.outcome.ok for job in jobs):
        raise typer.Exit(ExitCode.FAILED)


def _interrupted_message(jobs: list[Job], runner: str) -> str:
    """What became of jobs that nobody waits for any more, and what can be done with them."""
    keys = list(dict.fromkeys(job.key for job in jobs))
    named = " ".join(keys) if len(keys) <= MAX_KEYS_SHOWN else "--all"
    of = _runner_option(runner)
    return (
        f"Not ended yet: {pluralize(len(jobs), 'job')}. HTCondor goes on without us. "
        f"`swarm-runner jobs{of}` shows the jobs, `swarm-runner jobs{of} --wait` waits for them "
        f"again, `swarm-runner remove{of} {named}` ends them."
    )


def _runner_option(runner: str) -> str:
    return "" if runner == DEFAULT_RUNNER else f" --runner {runner}"
