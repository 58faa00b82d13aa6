"""The shell wrapper, run by the shells of this machine as a job's image would run it."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from swarm_runner.model.wrapper import has_control_characters, output_directories, wrap

SHELLS = [path for name in ("dash", "bash", "busybox") if (path := shutil.which(name))]


def command(shell: str, argv: tuple[str, ...]) -> list[str]:
    """Return the command line with another shell in the place of /bin/sh."""
    assert argv[0] == "/bin/sh"
    assert not any(map(has_control_characters, argv))
    return [shell, *(["sh"] if shell.endswith("busybox") else []), *argv[1:]]


def test_what_htcondor_can_start_is_not_wrapped() -> None:
    argv = ("/bin/echo", "a b", "$(X)", "", "é", "'")
    assert wrap(argv, environment={}) == argv


@pytest.mark.parametrize("shell", SHELLS)
def test_arguments_and_variables_arrive(shell: str, tmp_path: Path) -> None:
    values = ["a\nb\n\n", "plain", "\t\x01\x7f\x85", "c\\n\\\n", "'\n\"$x`", "-n\n", "%s\n", ""]
    argv = ("/usr/bin/printf", "[%s]", *values)
    done = subprocess.run(
        command(shell, wrap(argv, environment={})), capture_output=True, check=True, cwd=tmp_path
    )
    assert done.stdout.decode() == "".join(f"[{value}]" for value in values)
    variables = {"A": "1\n2\n", "B": "it's"}
    script = command(shell, wrap(("/usr/bin/env", "-0"), environment=variables))
    found = subprocess.run(script, capture_output=True, check=True, env={}).stdout.decode()
    assert {f"{name}={value}" for name, value in variables.items()} <= set(found.split("\0"))
    assert "_sr_" not in found


@pytest.mark.parametrize("shell", SHELLS)
def test_outputs_are_moved_and_the_exit_code_stays(shell: str, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("input")
    script = "cat; mkdir -p r; printf 1 > a.txt; printf 2 > 'r/b c.txt'; printf 3 > l,m; exit 4"
    outputs = ["*.txt", "r/*.txt", "l,m", "a*", "no*"]
    argv = wrap(("/bin/sh", "-c", script), environment={}, outputs=outputs, inputs=["in.txt"])
    done = subprocess.run(
        command(shell, argv), input=b"stdin", capture_output=True, check=False, cwd=tmp_path
    )
    assert (done.returncode, done.stdout, done.stderr) == (4, b"stdin", b"")
    moved = {
        str(file.relative_to(tmp_path / directory)): file.read_text()
        for directory in output_directories(outputs)
        for file in (tmp_path / directory).rglob("*")
        if file.is_file()
    }
    assert moved == {"a.txt": "1", "r/b c.txt": "2", "l,m": "3"}
    # HTCondor reports a directory that does not exist as a missing output.
    missing = [name for name in output_directories(outputs) if not (tmp_path / name).exists()]
    assert missing == [".swarm-runner-outputs/4:no*"]


@pytest.mark.parametrize("shell", SHELLS)
def test_sigterm_reaches_the_command(shell: str, tmp_path: Path) -> None:
    script = "trap 'printf got > t; exit 9' TERM; : > ready; while :; do sleep 0.05; done"
    argv = wrap(("/bin/sh", "-c", script), environment={}, outputs=["t*"])
    with subprocess.Popen(command(shell, argv), cwd=tmp_path) as process:
        deadline = time.monotonic() + 10
        while not (tmp_path / "ready").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 9
    assert (tmp_path / ".swarm-runner-outputs" / "0:t*" / "t").read_text() == "got"


@pytest.mark.parametrize("shell", SHELLS)
def test_a_sigterm_while_the_command_starts(shell: str, tmp_path: Path) -> None:
    # The command signals the wrapper, which may not know the command's process yet.
    script = "trap 'exit 9' TERM; kill -s TERM $PPID; while :; do sleep 0.05; done"
    argv = wrap(("/bin/sh", "-c", script), environment={}, outputs=["t*"])
    for _ in range(5):
        with subprocess.Popen(command(shell, argv), cwd=tmp_path) as process:
            assert process.wait(10) == 9
