"""From invocations to submit descriptions that may be sent: each looked at before any is sent."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from swarm_runner.errors import Diagnostic, InvalidInputError
from swarm_runner.hooks.manager import Hooks
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.pool import Destination
from swarm_runner.model.text import AbsolutePath
from swarm_runner.runner.directory import writable_volumes
from swarm_runner.runner.vm.disks import check_disks
from swarm_runner.submit.description import SubmitDescription
from swarm_runner.submit.language import classad_string
from swarm_runner.submit.translation import translate, with_defaults

# Where a job that has no files begins; the access point has it too.
ROOT = "/"
_ABSOLUTE_PATH: TypeAdapter[str] = TypeAdapter(AbsolutePath)


@dataclass(frozen=True, slots=True)
class PreparedJob:
    """An invocation, ready to be sent.

    `spool` says that its files go over the network, `logged` that the event log tells of it.
    """

    invocation: Invocation
    description: SubmitDescription
    spool: bool
    logged: bool = True


class SubmissionBuilder:
    """Routes, translates and checks invocations for one destination.

    `hook` is the plugin manager's, `runner` the runner's name.
    """

    def __init__(self, destination: Destination, hooks: Hooks, runner_name: str) -> None:
        self._destination = destination
        self._hooks = hooks
        self._runner_name = runner_name
        # Directories that were looked at in this batch, and whether they are there.
        self._directory_cache: dict[str, bool] = {}
        self._writable_volumes = [str(path) for path in writable_volumes(destination.pool)]
        self._volumes = [volume.path for volume in destination.pool.volumes]
        self._read_only_volumes = [
            volume.path for volume in destination.pool.volumes if volume.read_only
        ]
        # Asking nobody costs time too.
        self._has_amend_hooks = hooks.amends

    def prepare(
        self, invocations: Iterable[Invocation], event_log: Path | None
    ) -> list[PreparedJob]:
        """All of them, in order.

        Raises InvalidInputError with every fault of every invocation.
        """
        faults: list[Diagnostic] = []
        ready: list[PreparedJob] = []
        seen: set[str] = set()
        here = os.getcwd()  # noqa: PTH109 (a text is what is wanted)
        self._directory_cache.clear()
        for invocation in invocations:
            if invocation.key in seen:
                faults.append(Diagnostic("is twice in this batch", key=invocation.key, path="key"))
            seen.add(invocation.key)
            try:
                one = self._prepare(invocation, here, str(event_log) if event_log else None)
            except InvalidInputError as error:
                faults += error.diagnostics
            else:
                ready.append(one)
        faults += _write_conflicts([one.invocation for one in ready])
        if faults:
            raise InvalidInputError(faults)
        return ready

    def _prepare(
        self, invocation: Invocation, current_directory: str, event_log: str | None
    ) -> PreparedJob:
        pool = self._destination.pool
        whole = with_defaults(invocation, self._destination)
        directory = os.path.normpath(whole.working_directory or current_directory)
        files = _has_files(whole)
        wrong = list(self._check(whole, directory))
        if whole.vm is not None and not wrong:
            looked = check_disks(whole, directory)
            wrong += looked.diagnostics
            disk_mb = max(whole.resources.disk_mb, looked.space_mb)
            resources = whole.resources.model_copy(update={"disk_mb": disk_mb})
            whole = whole.model_copy(update={"resources": resources})
        if wrong:
            raise InvalidInputError(wrong)
        spool = (
            bool(files)
            and not whole.in_place
            and not self._visible_to_access_point(whole, directory)
        )
        if not (files or whole.in_place or _is_under(directory, self._writable_volumes)):
            directory = ROOT
        elif whole.working_directory is None:
            _check_current_directory(current_directory, whole.key)
        if whole.working_directory != directory:
            whole = whole.model_copy(update={"working_directory": directory})
        route = self._hooks.route(whole, self._destination)
        # HTCondor keeps a spooled job's log with its files, where nobody reads it; and what became
        # of a guest, the log does not tell.
        logged = not (spool or whole.vm)
        description = translate(
            whole,
            route,
            pool,
            runner=self._runner_name,
            log=event_log if logged else None,
            lease_s=self._destination.lease_s,
        )
        if spool:
            # Whoever fetches the outputs must be where they belong.
            description = description.with_commands(
                {"My.SwarmRunnerHost": classad_string(socket.gethostname())}
            )
        if self._has_amend_hooks:
            description = self._hooks.amend(description, whole, route)
        return PreparedJob(whole, description, spool, logged)

    def _visible_to_access_point(self, invocation: Invocation, directory: str) -> bool:
        """Whether the access point sees all the invocation's files where they are."""
        written = [directory, *filter(None, (invocation.stdout, invocation.stderr))]
        if invocation.vm:
            written += invocation.vm.returned_files.values()
        read = [name for _, name in _input_files(invocation)]
        return all(
            _is_under(os.path.join(directory, name), self._writable_volumes)  # noqa: PTH118
            for name in written
        ) and all(
            _is_under(os.path.join(directory, name), self._volumes)  # noqa: PTH118
            for name in read
        )

    def _check(self, invocation: Invocation, directory: str) -> Iterator[Diagnostic]:
        key = invocation.key
        if invocation.vm and invocation.vm.type != "kvm":
            said = f"{invocation.vm.type}: the pool's executors run kvm; use that"
            yield Diagnostic(said, key=key, path="vm.type")
        where = "working_directory"
        if invocation.in_place and not _is_under(directory, self._volumes):
            volumes = ", ".join(self._volumes) or "none"
            yield Diagnostic(
                f"{directory} is on none of the pool's volumes ({volumes}), as in_place asks",
                key=key,
                path=where,
            )
        elif invocation.in_place and _is_under(directory, self._read_only_volumes):
            # HTCondor mounts the directory by itself, and for writing.
            said = f"{directory} is on a read-only volume: a job that runs in place writes there"
            yield Diagnostic(said, key=key, path=where)
        elif not self._is_directory(directory):
            yield Diagnostic(f"{directory} is no directory here", key=key, path=where)
        else:
            for field, name in _input_files(invocation):
                file = os.path.join(directory, name)  # noqa: PTH118
                if not os.path.exists(file):  # noqa: PTH110
                    yield Diagnostic(f"{file} does not exist", key=key, path=field)
                elif not os.access(file, os.R_OK):
                    yield Diagnostic(f"{file} may not be read by you", key=key, path=field)
                elif invocation.vm and invocation.vm.checkpoint:
                    yield from self._check_on_volume(key, field, file)

    def _check_on_volume(self, key: str, field: str, file: str) -> Iterator[Diagnostic]:
        if not _is_under(file, self._volumes):
            volumes = ", ".join(self._volumes) or "none"
            said = f"{file} is on none of the pool's volumes ({volumes}), as checkpoint asks"
            yield Diagnostic(said, key=key, path=field)

    def _is_directory(self, path: str) -> bool:
        if path not in self._directory_cache:
            self._directory_cache[path] = Path(path).is_dir()
        return self._directory_cache[path]


def _write_conflicts(invocations: Sequence[Invocation]) -> Iterator[Diagnostic]:
    """Files that one virtual machine of a batch writes, and another job writes or reads."""
    if all(invocation.vm is None for invocation in invocations):
        return
    writers: dict[str, str] = {}
    for invocation in invocations:
        for file in _written_paths(invocation):
            other = writers.setdefault(file, invocation.key)
            if other != invocation.key:
                said = f"{file} is what {other} writes too; name another file"
                yield Diagnostic(said, key=invocation.key, path="vm")
    for invocation in invocations:
        for field, name in _input_files(invocation):
            file = _resolve_path(invocation, name)
            other = writers.get(file, invocation.key)
            if other != invocation.key and file not in _written_paths(invocation):
                said = f"{file} is what {other} of the same batch writes; send one after the other"
                yield Diagnostic(said, key=invocation.key, path=field)


def _written_paths(invocation: Invocation) -> set[str]:
    """Where a virtual machine's files come back to, and the disks that it writes to in place."""
    machine = invocation.vm
    if machine is None:
        return set()
    kept = machine.disks if machine.checkpoint else ()
    names = [*machine.returned_files.values(), *(d.file for d in kept if d.permission == "w")]
    return {_resolve_path(invocation, name) for name in names}


def _resolve_path(invocation: Invocation, name: str) -> str:
    return os.path.realpath(os.path.join(invocation.working_directory or ROOT, name))  # noqa: PTH118


def _check_current_directory(directory: str, key: str) -> None:
    """The current directory has passed no model yet."""
    try:
        _ABSOLUTE_PATH.validate_python(directory)
    except ValidationError as error:
        said = error.errors()[0]["msg"]
        where = "working_directory"
        raise InvalidInputError(
            [Diagnostic(f"the current directory {said}", key=key, path=where)]
        ) from error


def _has_files(invocation: Invocation) -> bool:
    """Whether anything is brought to the job or back from it."""
    return bool(
        invocation.inputs
        or invocation.outputs
        or invocation.stdin
        or invocation.stdout
        or invocation.stderr
        or invocation.vm
    )


def _input_files(invocation: Invocation) -> Iterator[tuple[str, str]]:
    """The files that must be there before the job: the field that names each, and its name."""
    for name in invocation.inputs:
        yield "inputs", name
    if invocation.stdin:
        yield "stdin", invocation.stdin
    if invocation.vm:
        for disk in invocation.vm.disks:
            yield "vm.disks", disk.file


def _is_under(path: str, directories: Sequence[str]) -> bool:
    whole = os.path.normpath(path)
    return any(
        whole == directory or whole.startswith(directory.rstrip("/") + "/")
        for directory in directories
    )
