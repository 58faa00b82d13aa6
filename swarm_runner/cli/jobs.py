"""Commands about jobs: submit, jobs, remove, explain."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from swarm_runner.cli import conf, connect
from swarm_runner.cli.console import progress, show, show_json, side
from swarm_runner.cli.exits import ExitCode, interruptible
from swarm_runner.cli.options import AsJson, DestinationName, JobConfPath, JobNames, RunnerName
from swarm_runner.cli.tables import count, failures, jobs_table, submitted_table, tally
from swarm_runner.errors import InvalidInputError, SwarmRunnerError
from swarm_runner.model.job import Job, OutcomeKind

if TYPE_CHECKING:
    from swarm_runner.runner import Runner

DEFAULT_RUNNER = "default"
RECENT = 20
NAMED = 4
REASON = "somebody ran `swarm-runner remove`"


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
    place = conf.destination(job_conf, destination_name)
    invocations = conf.invocations(files)
    word = f"What was sent so far is queued: see `swarm-runner jobs{_of(runner)}`."
    with interruptible(lambda: word), connect.runner(place, runner) as session:
        amount = count(sum(invocation.repeat for invocation in invocations), "job")
        with progress(f"submitting {amount} to pool {place.pool.name}"):
            jobs = session.submit(invocations)
        if wait:
            _end(_follow(session, jobs, runner), as_json)
            return
    if as_json:
        show_json(jobs)
        return
    show(submitted_table(jobs))
    of = _of(runner)
    side().print(
        f"{count(len(jobs), 'job')} at pool {place.pool.name}. `swarm-runner jobs{of}` shows them; "
        f"`swarm-runner jobs{of} --wait` waits for them and brings their outputs.",
        soft_wrap=True,
    )


def jobs(
    ended: Annotated[
        int, typer.Option("--ended", min=0, metavar="N", help="How many ended jobs to show.")
    ] = RECENT,
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

    place = conf.destination(job_conf, destination_name)
    if wait:
        with connect.runner(place, runner) as session:
            with progress(f"looking for jobs of runner {runner} in pool {place.pool.name}"):
                active = [job for job in session.jobs() if not job.state.ended]
            _end(_follow(session, active, runner), as_json)
        return
    with progress(f"asking the access point of pool {place.pool.name}"):
        found, unfetched = joblist.jobs(connect.access_point(place), runner, ended)
    if as_json:
        show_json(found)
        return
    if found:
        show(jobs_table(found), *failures(found))
    side().print(
        f"runner {runner} in pool {place.pool.name}: {tally(found)}", style="dim", soft_wrap=True
    )
    if unfetched:
        side().print(
            f"The outputs of {count(len(unfetched), 'job')} wait at the access point; "
            f"`swarm-runner jobs{_of(runner)} --wait` brings them.",
            soft_wrap=True,
        )


def remove(
    names: JobNames = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All jobs of the runner that have not ended.")
    ] = False,
    runner: RunnerName = DEFAULT_RUNNER,
    job_conf: JobConfPath = None,
    destination_name: DestinationName = None,
    as_json: AsJson = False,
) -> None:
    """Take jobs out of the queue, running ones too. If one name is unknown, none is removed."""
    from swarm_runner.cli import joblist
    from swarm_runner.runner.outcomes import tagged

    if bool(names) == everything:
        raise InvalidInputError("name the jobs to remove, or say --all")
    place = conf.destination(job_conf, destination_name)
    access_point = connect.access_point(place)
    with progress(f"removing jobs from pool {place.pool.name}"):
        if everything:
            found = joblist.jobs(access_point, runner, ended=0).jobs
        else:
            found = joblist.find(access_point, runner, names or [])
        active = [job.id for job in found if not job.state.ended]
        removed = access_point.remove(active, tagged(OutcomeKind.REMOVED, REASON))
    if as_json:
        show_json({"removed": removed, "jobs": active})
        return
    before = len(found) - removed
    tail = f"; {before} had ended before" if before else ""
    side().print(f"{count(removed, 'job')} removed{tail}", soft_wrap=True)


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

    place = conf.destination(job_conf, destination_name)
    access_point = connect.access_point(place)
    with progress(f"asking the access point of pool {place.pool.name}"):
        found = joblist.find(access_point, runner, names)
        explained = joblist.explain(access_point, found, place.pool)
    if as_json:
        show_json([{"job": job, **asdict(words)} for job, words in explained])
        return
    for job, words in explained:
        show(Text(f"{job.id} ({job.key}), {job.state.value}", style="bold"), str(words))


def _follow(session: Runner, jobs: list[Job], runner: str) -> list[Job]:
    """The jobs when all have ended."""
    from swarm_runner.cli.follow import Follow

    follow = Follow(jobs)

    def word() -> str:
        return _going_on(follow.open, runner)

    try:
        with interruptible(word), follow:
            for change in session.watch() if follow.open else ():
                follow.change(change)
                if not follow.open:
                    break
    except SwarmRunnerError:
        side().print(word(), soft_wrap=True)
        raise
    return follow.jobs


def _end(jobs: list[Job], as_json: bool) -> None:
    """Show jobs that were waited for; the exit code tells whether all ended well."""
    if as_json:
        show_json(jobs)
    elif jobs:
        show(jobs_table(jobs), *failures(jobs))
    if not all(job.outcome is not None and job.outcome.ok for job in jobs):
        raise typer.Exit(ExitCode.FAILED)


def _going_on(jobs: list[Job], runner: str) -> str:
    """What became of jobs that nobody waits for any more, and what can be done with them."""
    keys = list(dict.fromkeys(job.key for job in jobs))
    named = " ".join(keys) if len(keys) <= NAMED else "--all"
    of = _of(runner)
    return (
        f"Not ended yet: {count(len(jobs), 'job')}. HTCondor goes on without us. "
        f"`swarm-runner jobs{of}` shows the jobs, `swarm-runner jobs{of} --wait` waits for them "
        f"again, `swarm-runner remove{of} {named}` ends them."
    )


def _of(runner: str) -> str:
    return "" if runner == DEFAULT_RUNNER else f" --runner {runner}"
