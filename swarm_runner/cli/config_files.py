"""Reads the files that a command names: the configuration and the invocations."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from swarm_runner.cli.console import print_note
from swarm_runner.errors import Diagnostic, InvalidInputError
from swarm_runner.structured_log import get_logger

if TYPE_CHECKING:
    from swarm_runner.config.job_conf import JobConf
    from swarm_runner.model.invocation import Invocation
    from swarm_runner.model.pool import Destination

log = get_logger(__name__)
STANDARD_INPUT = "-"


def read_text(file: str) -> tuple[str, str]:
    """Return a file's text and its name for messages; `-` is standard input.

    Raises InvalidInputError if the file cannot be read or is not UTF-8.
    """
    source = "standard input" if file == STANDARD_INPUT else file
    try:
        data = sys.stdin.buffer.read() if file == STANDARD_INPUT else Path(file).read_bytes()
        return data.decode("utf-8-sig"), source
    except OSError as error:
        reason = error.strerror or str(error)
        raise InvalidInputError([Diagnostic(f"cannot be read: {reason}", source=source)]) from error
    except ValueError as error:  # not UTF-8, or a NUL character in the name
        message = f"is not UTF-8 text: {error}. Convert it to UTF-8"
        raise InvalidInputError([Diagnostic(message, source=source)]) from error


def load_job_conf(file: Path | None, *, notify: bool = True) -> JobConf:
    """Return the configuration in a file; without a file, the one of the last `pool up`.

    If there is none either, the configuration has one destination: `Destination()`. With `notify`,
    keys without effect are logged.
    """
    from swarm_runner.config.job_conf import JobConf, parse_job_conf
    from swarm_runner.model.pool import Destination

    file = file or _current_config()
    if file is None:
        default = Destination()
        return JobConf("the built-in configuration", {default.name: default}, default.name)
    configuration = parse_job_conf(*read_text(str(file)))
    if notify:
        for warning in configuration.warnings:
            log.warning("Key without effect", location=warning.location, reason=warning.message)
        for ignored in configuration.ignored:
            log.info("Keys ignored", location=ignored.location, reason=ignored.message)
    return configuration


def _current_config() -> Path | None:
    from swarm_runner.config.current import get_current_config

    file = get_current_config()
    if file is not None:
        print_note(f"Using {file}, the file of the last `pool up`.")
    return file


def load_destination(file: Path | None, name: str | None) -> Destination:
    """Return a destination of the configuration: the named one, or the default."""
    from swarm_runner.model.pool import Destination

    file = file or _current_config()
    if file is None and name is None:
        return Destination()  # without the models of a job_conf, which take a tenth of the time
    return load_job_conf(file).destination(name)


def load_invocations(files: list[str]) -> list[Invocation]:
    """Return the invocations of all files.

    Raises InvalidInputError with every problem of every file, including duplicate keys.
    """
    from swarm_runner.config.documents import parse_invocations

    invocations: list[Invocation] = []
    diagnostics: list[Diagnostic] = []
    source_of_key: dict[str, str] = {}
    for file in files:
        try:
            text, source = read_text(file)
            parsed = parse_invocations(text, source)
        except InvalidInputError as error:
            diagnostics += error.diagnostics
            continue
        diagnostics += [
            Diagnostic(
                f"the key {invocation.key!r} is also in {source_of_key[invocation.key]}; "
                "give each invocation its own key",
                source=source,
            )
            for invocation in parsed
            if invocation.key in source_of_key
        ]
        source_of_key |= {invocation.key: source for invocation in parsed}
        invocations += parsed
    if diagnostics:
        raise InvalidInputError(diagnostics)
    return invocations
