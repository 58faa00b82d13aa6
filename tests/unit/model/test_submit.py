from __future__ import annotations

import time

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from swarm_runner.errors import InvalidInputError
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.pool import Destination
from swarm_runner.model.submit import SubmitDescription, batches, words
from swarm_runner.model.text import PROCESS
from swarm_runner.policy.routing import swarm_runner_route
from swarm_runner.translate import translate
from tests import strategies
from tests.unit.reading import Reading, read, read_submitted, read_text

DESTINATION = Destination()
BATCH = 20
# A batch of twenty is too large to be shrunk in reasonable time.
QUICK = settings(
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def described(invocation: Invocation) -> SubmitDescription:
    pool = DESTINATION.pool
    route = swarm_runner_route(invocation, DESTINATION, pool)
    return translate(invocation, route, pool, runner="unit", log="/var/log/unit.log")


def assert_same(reading: Reading, invocation: Invocation) -> None:
    """HTCondor reads the invocation's values, and nothing more."""
    program, *arguments = invocation.argv
    assert reading["executable"] == program
    assert reading.words("arguments") == arguments
    variables = [f"{name}={value}" for name, value in invocation.environment.items()]
    assert reading.words("environment") == variables
    assert reading["docker_image"] == invocation.image
    assert reading.get("initialdir") == invocation.working_directory
    streams = (invocation.stdin, invocation.stdout, invocation.stderr)
    for name, stream in zip(("input", "output", "error"), streams, strict=True):
        assert reading.get(name) == (stream and stream.replace(PROCESS, "0"))
    assert reading.files("transfer_input_files") == list(invocation.inputs)
    assert reading.files("transfer_output_files") == list(invocation.outputs)
    assert reading["request_memory"] == f"{invocation.resources.memory_mb}M"
    assert reading["submit_event_notes"] == invocation.key
    assert reading.attribute("My.SwarmRunnerKey") == invocation.key
    if invocation.tool_id is not None:
        assert reading.attribute("My.SwarmRunnerTool") == invocation.tool_id
    for name, value in invocation.attributes.items():
        assert reading.attribute(f"My.{name}") == value


SEEN = 0


@settings(QUICK, max_examples=1000)
@given(strategies.batches(BATCH))
def check_round_trip(invocations: list[Invocation]) -> None:
    global SEEN  # noqa: PLW0603  counts over all examples
    SEEN += len(invocations)
    descriptions = [described(invocation) for invocation in invocations]
    for description, invocation in zip(descriptions, invocations, strict=True):
        assert_same(read(description), invocation)
    for batch, members in batches(descriptions):
        for readings in (read_text(batch), read_submitted(batch) if batch.rows else None):
            if readings is None:
                continue
            assert len(readings) == len(members)
            for reading, position in zip(readings, members, strict=True):
                assert_same(reading, invocations[position])


def test_htcondor_reads_back_what_was_written() -> None:
    check_round_trip()
    assert SEEN >= 20_000
