"""The field table, on fakes and HTCondor's own parser. The integration test runs it on a pool."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from swarm_runner.errors import InvalidInputError
from swarm_runner.hooks.manager import Hooks
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.text import PROCESS_MACRO
from swarm_runner.runner.submission import SubmissionBuilder
from tests.field_table import PAGE, Cell, cells, page, prepare
from tests.unit.htcondor_parser import parse_description
from tests.unit.runner.conftest import RunnerHarness

CELLS = list(cells())


def _directory(harness: RunnerHarness, cell: Cell) -> Path:
    directory = (harness.home if cell.mode == "spooled" else harness.volume) / "cell" / "work"
    directory.mkdir(parents=True)
    return directory


@pytest.mark.parametrize(
    "cell", [cell for cell in CELLS if cell.refused is not None], ids=lambda cell: cell.name[:80]
)
def test_a_value_is_refused_by_its_field(poll_harness: RunnerHarness, cell: Cell) -> None:
    assert cell.refused is not None
    fields = prepare(cell, _directory(poll_harness, cell))
    name = cell.field.partition(" ")[0]
    try:
        invocation = Invocation.model_validate(fields)
    except ValidationError as error:
        found = [(str(each["loc"][0]), each["msg"]) for each in error.errors()]
    else:
        with poll_harness.runner() as runner, pytest.raises(InvalidInputError) as refusal:
            runner.submit([invocation])
        found = [(each.path, each.message) for each in refusal.value.diagnostics]
    assert any(field == name and cell.refused in message for field, message in found), found


@pytest.mark.parametrize(
    "cell", [cell for cell in CELLS if cell.refused is None], ids=lambda cell: cell.name[:80]
)
def test_htcondor_reads_what_arrives(poll_harness: RunnerHarness, cell: Cell) -> None:
    invocation = Invocation.model_validate(prepare(cell, _directory(poll_harness, cell)))
    builder = SubmissionBuilder(poll_harness.destination, Hooks(), "tests")
    (job,) = builder.prepare([invocation], None)
    parsed = parse_description(job.description)
    program, *arguments = invocation.launch_argv
    assert parsed["executable"] == program
    assert parsed.arguments_of("arguments") == arguments
    own = [item for item in parsed.arguments_of("environment") if "SWARM_RUNNER_" not in item]
    assert own == [f"{name}={value}" for name, value in invocation.launch_environment.items()]
    streams = {"input": invocation.stdin, "output": invocation.stdout, "error": invocation.stderr}
    for name, stream in streams.items():
        if stream is not None and ".." not in stream:
            assert parsed[name] == stream.replace(PROCESS_MACRO, "0")
    for name, value in cell.plan.attributes.items():
        assert parsed.attribute(f"My.{name}") == value
    assert job.spool == (cell.mode == "spooled" or job.needs_staging)


@pytest.mark.parametrize(
    ("program", "mode", "message"),
    [
        ("test.sh", 0o755, "'test.sh' names a program of the image, and one of the inputs; write "),
        ("./test.sh", 0o644, "test.sh is not executable; run `chmod +x` on it"),
        ("./test.sh", 0o755, ""),
        ("/bin/test.sh", 0o644, ""),
        ("other", 0o644, ""),
    ],
)
def test_a_command_that_names_an_input(
    poll_harness: RunnerHarness, program: str, mode: int, message: str
) -> None:
    script = poll_harness.volume / "test.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(mode)
    found = _problems(poll_harness, command=[program], inputs=["test.sh"])
    assert [path for path, _ in found] == ["command"] * bool(message)
    assert all(message in text for _, text in found)


def test_a_command_with_the_name_of_a_directory(poll_harness: RunnerHarness) -> None:
    (poll_harness.volume / "samtools").mkdir()
    assert _problems(poll_harness, command=["samtools"], inputs=["samtools"]) == []


def test_a_pattern_in_inputs(poll_harness: RunnerHarness) -> None:
    ((path, message),) = _problems(poll_harness, command=["cat"], inputs=["*.bam"])
    assert (path, message.partition("*.bam ")[2]) == (
        "inputs",
        "does not exist; no pattern is expanded here: name the files, or their directory",
    )
    (poll_harness.volume / "*.bam").write_text("1")
    assert _problems(poll_harness, command=["cat"], inputs=["*.bam"]) == []


def _problems(harness: RunnerHarness, **fields: object) -> list[tuple[str, str]]:
    """The problems of an invocation whose files are on the pool's volume."""
    fields |= {"image": "debian", "working_directory": str(harness.volume)}
    builder = SubmissionBuilder(harness.destination, Hooks(), "tests")
    try:
        builder.prepare([Invocation.model_validate(fields)], None)
    except InvalidInputError as error:
        return [(each.path, each.message) for each in error.diagnostics]
    return []


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == page(), "run `python -m tests.field_table`"
