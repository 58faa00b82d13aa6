"""The command lines that run a job's script in an image."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from snakemake_executor_plugin_swarm_runner.job_command import (
    MAX_INLINE_LENGTH,
    TEMP_DIRECTORY,
    Script,
    code_image,
    direct_script,
    inline_argv,
    user_environment,
)

TEXT = "a 'b' \"c\" $d `e` \\n \\0101 %s %b é \u2028 end"


@pytest.mark.parametrize("program", ["sh", "bash"])
def test_an_inline_script_is_passed_unchanged(program: str) -> None:
    script = Script(program, f"\n# first\ncat <<'END'\n{TEXT}\n\tin\x01dented\nEND\necho $FOO\n")
    command = inline_argv(script)
    assert command is not None
    assert not any(ord(character) < 32 for word in command for character in word)
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={"FOO": "x"})
    assert done.stdout == f"{TEXT}\n\tin\x01dented\nx\n"


def test_an_inline_script_has_the_variables_of_its_job() -> None:
    command = inline_argv(Script("sh", 'echo "$OMP_NUM_THREADS $USER $HOME $TMPDIR"\n'))
    assert command is not None
    # HTCondor sets TMPDIR after the job ad's environment.
    variables = user_environment("me", 3) | {"TMPDIR": "/scratch", "HOME": "/"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=variables)
    assert done.stdout == f"3 me {TEMP_DIRECTORY} {TEMP_DIRECTORY}\n"


def test_a_long_script_is_not_inline() -> None:
    assert inline_argv(Script("sh", "x" * MAX_INLINE_LENGTH)) is not None
    assert inline_argv(Script("sh", "x" * (MAX_INLINE_LENGTH + 1))) is None


class FlaggedFile(str):
    """A file of a job, with its flags."""

    flags: dict[str, bool]

    def __new__(cls, name: str, *flags: str) -> FlaggedFile:
        file = super().__new__(cls, name)
        file.flags = dict.fromkeys(flags, True)
        return file


def _job(*output: FlaggedFile, log: tuple[FlaggedFile, ...] = ()) -> Any:
    return SimpleNamespace(output=list(output), log=list(log), resources={"shell_exec": "sh"})


def _run_twice(job: Any, command: str, directory: Path) -> None:
    """Run the command twice, as HTCondor does after an eviction."""
    argv = inline_argv(direct_script(job, command))
    assert argv is not None
    for _ in range(2):
        subprocess.run(argv, cwd=directory, check=True)


def test_a_second_run_finds_no_files_of_the_first(tmp_path: Path) -> None:
    output, log = FlaggedFile("it's $HOME.txt"), FlaggedFile("-f.log")
    command = 'echo once >> "it\'s \\$HOME.txt"; mkdir parts; echo logged >> ./-f.log'
    _run_twice(_job(output, FlaggedFile("parts", "directory"), log=(log,)), command, tmp_path)
    assert (tmp_path / output).read_text() == "once\n"
    assert (tmp_path / log).read_text() == "logged\n"


def test_outputs_marked_update_are_not_removed(tmp_path: Path) -> None:
    _run_twice(_job(FlaggedFile("all.txt", "update")), "echo more >> all.txt", tmp_path)
    assert (tmp_path / "all.txt").read_text() == "more\nmore\n"


def test_a_job_without_outputs_removes_nothing() -> None:
    assert "rm" not in direct_script(_job(log=(FlaggedFile("/dev/null"),)), "true").text


class Group(list[Any]):
    """A group of jobs."""

    def is_group(self) -> bool:
        return True


def _member(image: str | None, *, shell: bool) -> Any:
    return SimpleNamespace(container_img_url=image, is_shell=shell, is_group=lambda: False)


def test_code_runs_in_the_image_of_its_rule() -> None:
    script, shell = _member("docker://code", shell=False), _member("docker://tool", shell=True)
    assert code_image(script) == "code"
    assert code_image(shell) is None
    assert code_image(Group([shell, shell])) is None
    assert code_image(Group([shell, script])) == "code"
    assert code_image(Group([script, _member(None, shell=False)])) is None
