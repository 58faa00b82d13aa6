"""Finding and reading files: the configuration and the invocations."""

from __future__ import annotations

import sys
from pathlib import Path

from swarm_runner.cli.console import stderr_console
from swarm_runner.config.current import get_current_config
from swarm_runner.config.documents import parse_invocations
from swarm_runner.config.job_conf import JobConf, parse_job_conf
from swarm_runner.errors import Diagnostic, InvalidInputError
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.pool import Destination

STANDARD_INPUT = "-"


def read_text(file: str) -> tuple[str, str]:
    """A file's text and its name in messages; `-` is standard input.

    Raises InvalidInputError when it cannot be read, or is no UTF-8.
    """
    source = "standard input" if file == STANDARD_INPUT else file
    try:
        data = sys.stdin.buffer.read() if file == STANDARD_INPUT else Path(file).read_bytes()
        return data.decode("utf-8-sig"), source
    except OSError as error:
        reason = error.strerror or str(error)
        raise InvalidInputError([Diagnostic(f"cannot be read: {reason}", source=source)]) from error
    except ValueError as error:  # no UTF-8, or a NUL in the name
        raise InvalidInputError(
            [Diagnostic(f"is no text in UTF-8: {error}", source=source)]
        ) from error


def load_job_conf(file: Path | None) -> JobConf:
    """The configuration of a file; without one, of the file that is remembered.

    Without that, the pool that `Destination()` describes.
    """
    if file is None and (file := get_current_config()) is not None:
        stderr_console().print(f"Using {file}, the file of the last `pool up`.", soft_wrap=True)
    if file is None:
        default = Destination()
        return JobConf("the built-in configuration", {default.name: default}, default.name)
    return parse_job_conf(*read_text(str(file)))


def load_destination(file: Path | None, name: str | None) -> Destination:
    """The destination of that name in the configuration, or its default one."""
    return load_job_conf(file).destination(name)


def load_invocations(files: list[str]) -> list[Invocation]:
    """The invocations of all files.

    Raises InvalidInputError with every fault of every file, a key that two share included.
    """
    found: list[Invocation] = []
    faults: list[Diagnostic] = []
    home: dict[str, str] = {}
    for file in files:
        try:
            text, source = read_text(file)
            added = parse_invocations(text, source)
        except InvalidInputError as error:
            faults += error.diagnostics
            continue
        for invocation in added:
            if invocation.key in home:
                other = home[invocation.key]
                message = f"the key {invocation.key!r} is also in {other}; each call needs its own"
                faults.append(Diagnostic(message, source=source))
        home |= {invocation.key: source for invocation in added}
        found += added
    if faults:
        raise InvalidInputError(faults)
    return found
