"""The command `init`: writes a first job_conf.yml from four answers."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from swarm_runner.cli.console import print_note
from swarm_runner.errors import Diagnostic, InvalidInputError

Answer = TypeVar("Answer", str, int)
DEFAULT_FILE = Path("job_conf.yml")
DEFAULT_NAME, DEFAULT_HOST, DEFAULT_VOLUME, DEFAULT_MEMORY_GB = "galaxy", "127.0.0.1", "", 4
MAX_MEMORY_GB = 65_536
SOURCE = "the answers"
TEMPLATE = """\
# The pool and who may use it. Galaxy reads the same file.
# `swarm-runner validate` checks it. The reference of every key is docs/reference/job_conf.md.
runners:
  swarm:
    load: swarm_runner_galaxy.runner:SwarmJobRunner   # read by Galaxy; ignored elsewhere
    workers: 4
    pool:
      # The prefix of the names of the pool's Swarm services.
      name: {name}
      # The address at which this host and others reach the central manager.
      host: {host}
{volumes}
      # One Swarm service per class, whose executors all have this size. A job runs in the smallest
      # class that fits. One that exceeds its memory moves to a bigger class.
      classes:
        normal: {{cpus: 1, memory_mb: {normal_mb}, replicas: 2, max_replicas: 20}}
        big: {{cpus: 1, memory_mb: {big_mb}, replicas: 1, max_replicas: 4}}
execution:
  default: swarm
  environments:
    # What a job gets that requests nothing.
    swarm: {{runner: swarm, docker_enabled: true, request_memory: 512}}
"""
VOLUME = """\
      # Directories that exist at this path on every node. Jobs see them at the same path.
      volumes: [{path}]"""
NO_VOLUME = """\
      # Directories that exist at the same path on every node, such as a file server's. Without one,
      # the files of each job are transferred.
      # volumes: [/data]"""


def init(
    file: Annotated[Path, typer.Argument(metavar="FILE")] = DEFAULT_FILE,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Name of the pool.")
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            "--host", metavar="ADDRESS", help="Address at which clients reach the central manager."
        ),
    ] = None,
    volume: Annotated[
        str | None,
        typer.Option(
            "--volume",
            metavar="PATH",
            help="Directory that every node has at this path. Empty: none; files are transferred.",
        ),
    ] = None,
    memory_gb: Annotated[
        int | None,
        typer.Option("--memory-gb", metavar="GB", help="Memory of the largest job, in GB."),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask: use the defaults of what is not given.")
    ] = False,
) -> None:
    """Ask four questions, and write a job_conf file with comments.

    Needs neither Docker nor a network. Never overwrites a file.
    """
    _check_target(file)
    answers = _Answers(interactive=not yes)
    answers.name = answers.get("Name of the pool", name, DEFAULT_NAME, "name")
    answers.host = answers.get(
        "Address of this Swarm manager, as the pool's clients reach it", host, DEFAULT_HOST, "host"
    )
    answers.volume = answers.get(
        "Directory that every node has at the same path (empty: none)",
        volume,
        DEFAULT_VOLUME,
        "volume",
    )
    answers.memory_gb = answers.get(
        "Memory of the largest job, in GB", memory_gb, DEFAULT_MEMORY_GB, "memory_gb"
    )
    _write(file, answers.render())
    print_note(f"wrote {file}", style="green")
    print_note(
        "Next: `swarm-runner doctor` checks this host, and `swarm-runner pool up --init` creates "
        f"the pool; both with --job-conf {file}"
    )


class _Answers:
    """The answers so far; the others have their defaults."""

    def __init__(self, *, interactive: bool) -> None:
        self._interactive = interactive
        self.name, self.host, self.volume = DEFAULT_NAME, DEFAULT_HOST, DEFAULT_VOLUME
        self.memory_gb = DEFAULT_MEMORY_GB

    def get(self, question: str, given: Answer | None, default: Answer, attribute: str) -> Answer:
        """Return an option's value, the default, or a valid answer to a question."""
        if given is not None or not self._interactive:
            answer = default if given is None else given
            self._check(attribute, answer)
            return answer
        while True:
            answer = _prompt(question, default)
            try:
                self._check(attribute, answer)
            except InvalidInputError as error:
                for diagnostic in error.diagnostics:
                    print_note(f"Not accepted: {diagnostic.message}.", style="yellow")
            else:
                return answer

    def _check(self, attribute: str, answer: str | int) -> None:
        """Read the file that this answer would give. Raises InvalidInputError."""
        from swarm_runner.config.job_conf import parse_job_conf

        if attribute == "memory_gb" and answer not in range(1, MAX_MEMORY_GB + 1):
            message = f"must be 1 to {MAX_MEMORY_GB}, not {answer}"
            raise InvalidInputError([Diagnostic(message, source=attribute)])
        previous = getattr(self, attribute)
        setattr(self, attribute, answer)
        try:
            parse_job_conf(self.render(), SOURCE)
        except InvalidInputError as error:
            # Lines and keys are those of a file that the user has not seen.
            problems = [
                Diagnostic(problem.message, source=attribute) for problem in error.diagnostics
            ]
            raise InvalidInputError(problems[:1]) from error
        finally:
            setattr(self, attribute, previous)

    def render(self) -> str:
        """Return the file. Answers are quoted, so that none of them is read as YAML."""
        big_mb = self.memory_gb * 1024
        return TEMPLATE.format(
            name=json.dumps(self.name),
            host=json.dumps(self.host),
            volumes=VOLUME.format(path=json.dumps(self.volume)) if self.volume else NO_VOLUME,
            normal_mb=max(big_mb // 4, 512),
            big_mb=big_mb,
        )


def _prompt(question: str, default: Answer) -> Answer:
    try:
        answer: Answer = typer.prompt(question, default=default, type=type(default), err=True)
    except typer.Abort as error:
        message = "no answer: use --yes, or the options that `swarm-runner init --help` shows"
        raise InvalidInputError(message) from error
    return answer


def _check_target(file: Path) -> None:
    if file.exists() or file.is_symlink():
        message = "exists already, and is not overwritten; name another file, or move it away"
        raise InvalidInputError([Diagnostic(message, source=str(file))])
    if not os.access(file.parent, os.W_OK):
        message = f"cannot be written in {file.parent.resolve()}"
        raise InvalidInputError([Diagnostic(message, source=str(file))])


def _write(file: Path, text: str) -> None:
    """Write a new file, complete or not at all.

    Raises InvalidInputError if it appeared meanwhile, or if the disk is full.
    """
    created = False
    try:
        with file.open("x", encoding="utf-8") as target:
            created = True
            target.write(text)
    except OSError as error:
        if created:
            file.unlink(missing_ok=True)
        message = f"cannot be written: {error.strerror}"
        raise InvalidInputError([Diagnostic(message, source=str(file))]) from error
