"""A reader of the documentation, who types what a page shows into one shell."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.doc_blocks import SHELL, Block
from tests.polling import TIMEOUT_S

END = "@@ the command ended with"
SOCKET = Path("/var/run/docker.sock")


class Reader:
    """A reader with one shell in a directory, which is their home.

    Each text of `replaced` is read as another one. Commands that contain a text of `may_fail` may
    fail.
    """

    def __init__(
        self,
        directory: Path,
        replaced: Mapping[str, str],
        *,
        prefix: Sequence[str] = (),
        may_fail: Sequence[str] = (),
    ) -> None:
        self.directory = directory
        self._replaced = replaced
        self._may_fail = may_fail
        environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(directory),
            "XDG_CONFIG_HOME": str(directory / ".config"),
            "XDG_STATE_HOME": str(directory / ".local" / "state"),
            "XDG_CACHE_HOME": str(directory / ".cache"),
        }
        environment.pop("SWARM_RUNNER_JOB_CONF", None)
        self._shell = subprocess.Popen(
            [*prefix, "/bin/bash"],
            cwd=directory,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def close(self) -> None:
        """Leave the shell."""
        self._shell.communicate(timeout=TIMEOUT_S)

    def read(self, text: str) -> str:
        """Return a text of the page as the reader understands it."""
        for old, new in self._replaced.items():
            text = text.replace(old, new)
        return text

    def type(self, command: str) -> str:
        """Type a command; return what it prints. Fails unless the command succeeds."""
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.write(f"{command}\nended=$?; echo; echo {END} $ended\n")
        self._shell.stdin.flush()
        lines: list[str] = []
        for line in self._shell.stdout:
            if line.startswith(END):
                failed = line.split()[-1] != "0"
                allowed = any(text in command for text in self._may_fail)
                assert allowed or not failed, f"{command}\n{''.join(lines)}"
                return "".join(lines)
            lines.append(line)
        raise AssertionError(f"the shell ended in {command}\n{''.join(lines)}")

    def follow(self, block: Block) -> None:
        """Write a block's file, or type its commands and compare what they print."""
        if block.not_tried or block.tried_by:
            return
        if block.language == "python":
            self.type(f"python - <<'END'\n{block.content}END")
        elif block.language == SHELL:
            for command in block.commands:
                self._follow_command(block, command)
        elif block.file_name:
            (self.directory / block.file_name).write_text(self.read(block.content))

    def _follow_command(self, block: Block, command: str) -> None:
        if command.startswith("make "):
            return  # targets of the repository, which tests/unit/test_docs.py knows
        printed = " ".join(self.type(self.read(command)).split())
        for line in block.output_of(command):
            expected = " ".join(self.read(line).split())
            assert expected == "..." or expected in printed, f"{block.location}\n{printed}"


@contextlib.contextmanager
def reader(
    directory: Path,
    replaced: Mapping[str, str],
    *,
    prefix: Sequence[str] = (),
    may_fail: Sequence[str] = (),
) -> Iterator[Reader]:
    """Yield a reader, who leaves the shell at the end."""
    found = Reader(directory, replaced, prefix=prefix, may_fail=may_fail)
    try:
        yield found
    finally:
        found.close()


def as_user(uid: int, gid: int) -> list[str]:
    """Return the begin of a command line that runs a command as a user who may use Docker.

    The user may read all files: only root may be able to read the interpreter and the repository.
    """
    if os.geteuid() == uid:
        return []
    groups = str(SOCKET.stat().st_gid)
    return [
        *("setpriv", f"--reuid={uid}", f"--regid={gid}", f"--groups={groups}"),
        *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search", "--"),
    ]
