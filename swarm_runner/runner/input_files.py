"""Checks the input and stream files of invocations on the submitting host."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from swarm_runner.model.files import sandbox_name, source_path
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.sources import local_inputs
from swarm_runner.model.text import PROCESS_MACRO
from swarm_runner.model.wrapper import is_pattern


def input_names(invocation: Invocation) -> Iterator[tuple[str, str]]:
    """Yield the files that must exist before the job: the invocation's field, and the name."""
    for item in local_inputs(invocation.inputs):
        yield "inputs", source_path(item)
    if invocation.stdin:
        yield "stdin", invocation.stdin
    if invocation.vm:
        for disk in invocation.vm.disks:
            yield "vm.disks", disk.file


@dataclass(slots=True)
class InputTree:
    """What an input consists of.

    Attributes:
        problems: What HTCondor cannot transfer, and what to do.
        has_directory_links: Whether it is or contains a link to a directory, which HTCondor does
            not follow.
        links_out: The links in it that lead out of it, and where each leads.
    """

    root: str
    problems: list[str] = field(default_factory=list)
    links_out: list[tuple[str, str]] = field(default_factory=list)
    has_directory_links: bool = False


class InputFiles:
    """Looks at each file once: create one for each batch, since files change between batches.

    Links may lead to `volumes`, which every job can read anyway.
    """

    def __init__(self, volumes: Iterable[str]) -> None:
        self._volumes = frozenset(volumes)
        self.is_directory = cache(os.path.isdir)
        self.tree = cache(_inspect)

    def needs_staging(self, invocation: Invocation, directory: str) -> bool:
        """Return whether HTCondor cannot transfer the inputs from where they are."""
        return invocation.needs_staging or any(
            self.tree(os.path.join(directory, source_path(item))).has_directory_links  # noqa: PTH118
            for item in local_inputs(invocation.inputs)
        )

    def problems(self, invocation: Invocation, directory: str) -> Iterator[tuple[str, str]]:
        """Yield the problems of inputs and streams: the field, and a message."""
        program = invocation.argv[0] if invocation.argv else ""
        for item in local_inputs(invocation.inputs):
            file = os.path.join(directory, source_path(item))  # noqa: PTH118
            tree = self.tree(file)
            for message in tree.problems:
                yield "inputs", message
            if sandbox_name(item) == os.path.normpath(program) and os.path.isfile(file):  # noqa: PTH113
                if "/" not in program:
                    message = f"{program!r} names a program of the image, and one of the inputs"
                    yield "command", f"{message}; write ./{program} to run the input"
                elif not os.access(file, os.X_OK):
                    yield "command", f"{file} is not executable; run `chmod +x` on it"
            for link, target in tree.links_out if not invocation.in_place else ():
                roots = {os.path.realpath(directory), *self._volumes}
                if not any(Path(target).is_relative_to(root) for root in roots):
                    # A job may have put it there, to be sent what it leads to.
                    yield (
                        "inputs",
                        (
                            f"{link} leads to {target}, out of the working directory; copy what it "
                            "leads to, or name that as an input"
                        ),
                    )
        if invocation.stdin:
            for number in range(invocation.repeat):
                name = invocation.stdin.replace(PROCESS_MACRO, str(number))
                file = os.path.join(directory, name)  # noqa: PTH118
                if self.is_directory(file):
                    yield "stdin", f"{file} is a directory; name a file"
                else:
                    for message in self.tree(file).problems:
                        yield "stdin", message
                if name == invocation.stdin:
                    break
        for name, stream in (("stdout", invocation.stdout), ("stderr", invocation.stderr)):
            if stream is None:
                continue
            file = os.path.join(directory, stream)  # noqa: PTH118
            parent = os.path.dirname(file)  # noqa: PTH120
            # HTCondor creates the directories of relative names when it transfers the file.
            created = not (invocation.in_place or os.path.isabs(stream))  # noqa: PTH117
            if not created and not self.is_directory(parent):
                yield name, f"{parent} is not a directory on this machine; create it first"
            elif self.is_directory(file):
                yield name, f"{file} is a directory; name a file in it"


def _inspect(path: str) -> InputTree:
    tree = InputTree(os.path.realpath(path))
    _inspect_below(path, tree, ())
    return tree


def _inspect_below(path: str, tree: InputTree, above: tuple[tuple[int, int], ...]) -> None:
    try:
        status = os.stat(path)  # noqa: PTH116
        is_link = os.path.islink(path)  # noqa: PTH114
        if is_link and above:
            target = os.path.realpath(path)
            if not Path(target).is_relative_to(tree.root):
                tree.links_out.append((path, target))
        if not stat.S_ISDIR(status.st_mode):
            _inspect_file(path, status, tree)
            return
        tree.has_directory_links |= is_link
        identity = (status.st_dev, status.st_ino)
        if identity in above:
            tree.problems.append(
                f"{path} is a link to a directory above it, which has no end; remove the link, or "
                "name the files that the job needs"
            )
            return
        with os.scandir(path) as entries:
            names = [entry.path for entry in entries]
    except FileNotFoundError:
        problem = "does not exist"
        if os.path.islink(path):  # noqa: PTH114
            problem = "is a link to a file that does not exist"
        elif is_pattern(path):
            problem += "; no pattern is expanded here: name the files, or their directory"
        tree.problems.append(f"{path} {problem}")
    except OSError as error:
        tree.problems.append(
            f"{path} is not readable by this user ({error.strerror}); change its permissions"
        )
    else:
        for name in names:
            _inspect_below(name, tree, (*above, identity))


def _inspect_file(path: str, status: os.stat_result, tree: InputTree) -> None:
    if not stat.S_ISREG(status.st_mode) and not Path(path).samefile(os.devnull):
        tree.problems.append(
            f"{path} is a pipe, a socket or a device, which HTCondor does not transfer; name a file"
        )
    elif not os.access(path, os.R_OK):
        tree.problems.append(f"{path} is not readable by this user; change its permissions")
