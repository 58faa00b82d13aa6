"""Scripts on their way into an image's shell."""

from __future__ import annotations

import subprocess

import pytest
from snakemake_executor_plugin_swarm_runner.ways import INLINE_LENGTH, Script, inline

SAID = "a 'b' \"c\" $d `e` \\n \\0101 %s %b é \u2028 end"


@pytest.mark.parametrize("program", ["sh", "bash"])
def test_a_script_in_the_arguments_is_the_script(program: str) -> None:
    script = Script(program, f"\n# first\ncat <<'END'\n{SAID}\n\tin\x01dented\nEND\necho $FOO\n")
    command = inline(script, 3, "me")
    assert command is not None
    assert not any(ord(character) < 32 for word in command for character in word)
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={"FOO": "x"})
    assert done.stdout == f"{SAID}\n\tin\x01dented\nx\n"


def test_a_script_in_the_arguments_has_the_variables_of_its_job() -> None:
    command = inline(Script("sh", 'echo "$OMP_NUM_THREADS $USER $HOME"\n'), 3, "me")
    assert command is not None
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "3 me /tmp\n"


def test_a_long_script_does_not_travel_in_the_arguments() -> None:
    assert inline(Script("sh", "x" * INLINE_LENGTH), 1, "me") is not None
    assert inline(Script("sh", "x" * (INLINE_LENGTH + 1)), 1, "me") is None
