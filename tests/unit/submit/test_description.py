from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from swarm_runner.model.invocation import Invocation
from swarm_runner.model.text import PROCESS_MACRO
from swarm_runner.submit.description import SubmitDescription, group_into_batches
from swarm_runner.submit.language import quote_arguments, quote_environment
from tests import strategies
from tests.dry_run import cases, describe, transferred_inputs, transferred_outputs
from tests.unit.htcondor_parser import ParsedJob, parse_batch, parse_description, parse_submitted

BATCH = 20
seen = 0


def assert_same(reading: ParsedJob, invocation: Invocation) -> None:
    """HTCondor reads the invocation's values, and nothing more."""
    program, *arguments = invocation.launch_argv
    assert reading["executable"] == program
    assert reading.arguments_of("arguments") == arguments
    variables = [f"{name}={value}" for name, value in invocation.launch_environment.items()]
    assert reading.arguments_of("environment") == variables
    assert reading["docker_image"] == invocation.image
    assert reading.get("initialdir") == invocation.working_directory
    streams = (invocation.stdin, invocation.stdout, invocation.stderr)
    for name, stream in zip(("input", "output", "error"), streams, strict=True):
        if name == "input" and stream and ".." in stream.split("/"):
            continue  # an absolute path
        assert reading.get(name) == (stream and stream.replace(PROCESS_MACRO, "0"))
    assert reading.files("transfer_input_files") == transferred_inputs(invocation)
    assert reading.files("transfer_output_files") == transferred_outputs(invocation)
    assert reading["request_memory"] == f"{invocation.resources.memory_mb}M"
    assert reading["submit_event_notes"] == invocation.key
    assert reading.attribute("My.SwarmRunnerKey") == invocation.key
    if invocation.tool_id is not None:
        assert reading.attribute("My.SwarmRunnerTool") == invocation.tool_id
    for name, value in invocation.attributes.items():
        assert reading.attribute(f"My.{name}") == value


# A batch of twenty is too large to be shrunk in reasonable time.
@settings(
    max_examples=1000,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(strategies.invocation_batches(BATCH))
def check_round_trip(invocations: list[Invocation]) -> None:
    global seen  # noqa: PLW0603  counts over all examples
    seen += len(invocations)
    descriptions = [describe(invocation) for invocation in invocations]
    for description, invocation in zip(descriptions, invocations, strict=True):
        assert_same(parse_description(description), invocation)
    gathered = group_into_batches(descriptions)
    assert sorted(position for _, members in gathered for position in members) == list(
        range(len(invocations))
    )
    for batch, members in gathered:
        assert batch.size == len(members)
        for reading, position in zip(parse_submitted(batch), members, strict=True):
            assert_same(reading, invocations[position])


def test_htcondor_reads_back_what_was_written() -> None:
    check_round_trip()
    assert seen >= 20_000


def test_a_batchs_text_is_read_like_what_the_bindings_send() -> None:
    for case in cases(500):
        invocations = iter(case.invocations)
        for batch, members in group_into_batches(
            [describe(invocation) for invocation in case.invocations]
        ):
            assert len(members) == len(case.invocations)
            for reading in parse_batch(batch):
                assert_same(reading, next(invocations))


@pytest.mark.parametrize("text", strategies.AWKWARD_TEXTS)
def test_every_awkward_phrase_is_one_argument_and_one_value(text: str) -> None:
    invocation = Invocation(
        image="debian",
        command=["echo", text, f"{text}{text}", f"a{text}b"],
        environment={"A": text, "B": f"b{text}"},
    )
    assert_same(parse_description(describe(invocation)), invocation)


def test_a_long_argument_is_read_whole() -> None:
    invocation = Invocation(image="debian", command=["echo", "'$(X)\"é " * 12_500])
    assert len(invocation.argv[1]) == 100_000
    assert_same(parse_description(describe(invocation)), invocation)


def test_two_dollars_before_a_parenthesis_survive_the_match() -> None:
    text = quote_arguments(["$$(Machine)", "$$$(X)", "$$ (x)", "a$b"])
    assert text == "\"'$'$'(DOLLARDOLLAR)(Machine)' '$'$'(DOLLARDOLLAR)'$'(X)' '$$ (x)' 'a$b'\""


def test_words_are_quoted_in_the_new_syntax() -> None:
    assert quote_arguments([]) == '""'
    assert quote_arguments(["", "it's", 'say "x"']) == "\"'' 'it''s' 'say \"\"x\"\"'\""
    assert quote_environment({"A": "1 2", "B": ""}) == "\"'A=1 2' 'B='\""


def description(**commands: str) -> SubmitDescription:
    return SubmitDescription(commands=tuple(commands.items()))


def test_alike_descriptions_are_one_batch_without_rows() -> None:
    [(batch, members)] = group_into_batches([description(universe="docker")] * 3)
    assert (batch.rows, batch.count, batch.size, members) == ((), 3, 3, [0, 1, 2])
    assert batch.render() == "universe = docker\nqueue 3\n"


def test_descriptions_of_different_shape_are_different_batches() -> None:
    gathered = group_into_batches(
        [description(a="1"), description(a="1", b="2"), description(a="3")]
    )
    assert [(batch.size, members) for batch, members in gathered] == [(2, [0, 2]), (1, [1])]


def test_one_jobs_variables_never_reach_another() -> None:
    """HTCondor would give each job what the first of its batch sets beside."""
    three = [
        description(executable="/a", environment=quote_environment(variables))
        for variables in (
            {"A": "1 'B=2' \"C=3\"", "SECRET": "$(X) it's"},
            {"A": "1 SECRET=no"},
            {"SECRET": "other", "A": "2"},
        )
    ]
    assert [members for _, members in group_into_batches(three)] == [[0, 2], [1]]


def test_a_repeated_description_is_a_batch_of_its_own() -> None:
    repeated = SubmitDescription(commands=(("a", "1"),), count=10)
    gathered = group_into_batches([description(a="1"), repeated, description(a="2")])
    assert [(batch.size, members) for batch, members in gathered] == [(10, [1]), (2, [0, 2])]


def test_a_row_begins_with_a_value_that_is_no_comment_and_no_end() -> None:
    values = ["#1", ")2", "", "x"]
    [(batch, _)] = group_into_batches([description(a=value, key=f"k{value}") for value in values])
    assert [row.split("\x1f")[0] for row in batch.render().splitlines()[3:-1]] == [
        f"k{value}" for value in values
    ]


def test_without_a_safe_column_each_is_submitted_alone() -> None:
    gathered = group_into_batches([description(a="#1"), description(a=")2")])
    assert [(batch.rows, members) for batch, members in gathered] == [((), [0]), ((), [1])]


def test_amended_commands_replace_and_extend() -> None:
    amended = description(a="1", b="2").with_commands({"b": "3", "c": "4"})
    assert amended.commands == (("a", "1"), ("b", "3"), ("c", "4"))
    assert amended["b"] == "3"


@pytest.mark.parametrize(
    "changes",
    [{"a": "1\nqueue 5"}, {"a\nqueue": "1"}, {"include x": "y"}, {"Queue": "5"}, {"é": "x"}],
)
def test_an_amendment_cannot_add_a_line(changes: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"control character|not a valid submit command"):
        description(a="1").with_commands(changes)
