"""Awkward invocations for `condor_submit -disable -dry-run AD SUBMIT`, and a check of its ads."""

from __future__ import annotations

import posixpath
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from swarm_runner.condor.connection import classad
from swarm_runner.model.files import source_path
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.pool import Destination
from swarm_runner.model.sources import STAGED_INPUTS
from swarm_runner.model.text import PROCESS_MACRO
from swarm_runner.model.wrapper import output_directories
from swarm_runner.policy.routing import swarm_runner_route
from swarm_runner.submit.description import SubmitDescription, group_into_batches
from swarm_runner.submit.translation import translate
from tests.strategies import AWKWARD_TEXTS, SPECIAL_CHARACTERS, make_invocations
from tests.unit.htcondor_parser import split_arguments

BATCH_SIZE = 100


@dataclass(frozen=True)
class Case:
    """One submit file: its text, and the invocations of its jobs, in order."""

    text: str
    invocations: list[Invocation]

    @property
    def directories(self) -> set[str]:
        """The directories that must exist before `condor_submit` reads the file."""
        directories = (invocation.working_directory for invocation in self.invocations)
        return {directory for directory in directories if directory}


def describe(invocation: Invocation, *, log: str = "/var/log/unit.log") -> SubmitDescription:
    """Return the description that a runner would build on a default pool."""
    destination = Destination()
    route = swarm_runner_route(invocation, destination, destination.pool)
    return translate(invocation, route, destination.pool, runner="unit", log=log)


def transferred_inputs(invocation: Invocation) -> list[str]:
    """Return the list of input files that HTCondor reads, before any staging."""
    if invocation.needs_staging:
        return [STAGED_INPUTS]
    return [source_path(item) for item in invocation.inputs]


def transferred_outputs(invocation: Invocation) -> list[str]:
    """Return the list of output files that HTCondor reads."""
    if invocation.moves_outputs:
        return [f"{name}/" for name in output_directories(invocation.output_names)]
    return list(invocation.output_names)


def cases(count: int, seed: int = 1) -> Iterator[Case]:
    """Yield submit files of at least `count` invocations, in batches and alone."""
    rng = random.Random(seed)  # noqa: S311  not for secrets
    random_texts = [
        "".join(rng.choices(SPECIAL_CHARACTERS, k=rng.randrange(1, 20))) for _ in range(200)
    ]
    for _ in range(0, count, BATCH_SIZE):
        texts = rng.sample([*AWKWARD_TEXTS, *random_texts], 20)
        invocations = make_invocations(texts, rng.randrange(2**32), BATCH_SIZE)
        yield Case(describe(invocations[0]).render(), invocations[:1])
        for batch, members in group_into_batches(
            [describe(invocation) for invocation in invocations]
        ):
            yield Case(batch.render(), [invocations[position] for position in members])


def differences(case: Case, ads: str) -> list[str]:
    """Return how the ads that `condor_submit` wrote differ from the invocations."""
    first: dict[str, Any] = {}
    jobs: list[dict[str, Any]] = []
    for ad in classad().parseAds(ads, classad().ParserType.Old):
        first = first or dict(ad.items())
        jobs.append(first | dict(ad.items()))
    if len(jobs) != len(case.invocations):
        return [f"{len(jobs)} jobs for {len(case.invocations)} invocations"]
    return [
        f"{invocation.key} {name}: {found!r} for {expected!r}"
        for job, invocation in zip(jobs, case.invocations, strict=True)
        for name, expected, found in _comparisons(job, invocation)
        if expected != found
    ]


def _comparisons(job: dict[str, Any], invocation: Invocation) -> Iterator[tuple[str, Any, Any]]:
    program, *arguments = invocation.launch_argv
    yield "Cmd", program, job["Cmd"]
    yield "Arguments", arguments, split_arguments(job["Arguments"])
    variables = [f"{name}={value}" for name, value in invocation.launch_environment.items()]
    yield "Environment", variables, split_arguments(job.get("Environment", ""))
    yield "DockerImage", invocation.image, job["DockerImage"]
    streams = {"In": invocation.stdin, "Out": invocation.stdout, "Err": invocation.stderr}
    for name, stream in streams.items():
        if name == "In" and stream and ".." in stream.split("/"):
            continue  # an absolute path
        yield name, (stream or "/dev/null").replace(PROCESS_MACRO, "0"), job[name]
    for name, files in (
        ("TransferInput", transferred_inputs(invocation)),
        ("TransferOutput", transferred_outputs(invocation)),
    ):
        yield name, files, [file for file in job.get(name, "").split(",") if file]
    if invocation.working_directory is not None:
        yield (
            "Iwd",
            posixpath.normpath(invocation.working_directory),
            posixpath.normpath(job["Iwd"]),
        )
    yield "SwarmRunnerKey", invocation.key, job["SwarmRunnerKey"]
    yield "SwarmRunnerTool", invocation.tool_id, job.get("SwarmRunnerTool")
    for name, value in invocation.attributes.items():
        yield name, value, job[name]
