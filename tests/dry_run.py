"""Awkward invocations for `condor_submit -disable -dry-run AD SUBMIT`, and a check of its ads."""

from __future__ import annotations

import posixpath
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from swarm_runner.condor.connection import classad
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.pool import Destination
from swarm_runner.model.text import PROCESS_MACRO
from swarm_runner.policy.routing import swarm_runner_route
from swarm_runner.submit.description import SubmitDescription, group_into_batches
from swarm_runner.submit.translation import translate
from tests.strategies import AWKWARD_TEXTS, SPECIAL_CHARACTERS, make_invocations
from tests.unit.htcondor_parser import split_arguments

BATCH_SIZE = 100


@dataclass(frozen=True)
class Case:
    """One submit file: its text, and the invocations that its jobs are, in order."""

    text: str
    invocations: list[Invocation]

    @property
    def directories(self) -> set[str]:
        """What `condor_submit` wants to exist before it reads the file."""
        return {one.working_directory for one in self.invocations if one.working_directory}


def describe(invocation: Invocation, *, log: str = "/var/log/unit.log") -> SubmitDescription:
    """The description that a runner would make on a pool of the default shape."""
    destination = Destination()
    route = swarm_runner_route(invocation, destination, destination.pool)
    return translate(invocation, route, destination.pool, runner="unit", log=log)


def cases(count: int, seed: int = 1) -> Iterator[Case]:
    """Submit files of `count` invocations at least, in batches and alone."""
    choose = random.Random(seed)  # noqa: S311  no secret
    marks = [
        "".join(choose.choices(SPECIAL_CHARACTERS, k=choose.randrange(1, 20))) for _ in range(200)
    ]
    for _ in range(0, count, BATCH_SIZE):
        found = choose.sample([*AWKWARD_TEXTS, *marks], 20)
        invocations = make_invocations(found, choose.randrange(2**32), BATCH_SIZE)
        yield Case(describe(invocations[0]).render(), invocations[:1])
        for batch, members in group_into_batches(
            [describe(invocation) for invocation in invocations]
        ):
            yield Case(batch.render(), [invocations[position] for position in members])


def differences(case: Case, ads: str) -> list[str]:
    """How the job ads that `condor_submit` wrote differ from what was described; none if equal."""
    first: dict[str, Any] = {}
    read: list[dict[str, Any]] = []
    for ad in classad().parseAds(ads, classad().ParserType.Old):
        first = first or dict(ad.items())
        read.append(first | dict(ad.items()))
    if len(read) != len(case.invocations):
        return [f"{len(read)} jobs for {len(case.invocations)} invocations"]
    return [
        f"{invocation.key} {name}: {found!r} for {wanted!r}"
        for job, invocation in zip(read, case.invocations, strict=True)
        for name, wanted, found in _comparisons(job, invocation)
        if wanted != found
    ]


def _comparisons(job: dict[str, Any], invocation: Invocation) -> Iterator[tuple[str, Any, Any]]:
    program, *arguments = invocation.argv
    yield "Cmd", program, job["Cmd"]
    yield "Arguments", arguments, split_arguments(job["Arguments"])
    variables = [f"{name}={value}" for name, value in invocation.environment.items()]
    yield "Environment", variables, split_arguments(job.get("Environment", ""))
    yield "DockerImage", invocation.image, job["DockerImage"]
    streams = {"In": invocation.stdin, "Out": invocation.stdout, "Err": invocation.stderr}
    for name, stream in streams.items():
        yield name, (stream or "/dev/null").replace(PROCESS_MACRO, "0"), job[name]
    for name, files in (
        ("TransferInput", invocation.inputs),
        ("TransferOutput", invocation.outputs),
    ):
        yield name, list(files), [file for file in job.get(name, "").split(",") if file]
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
