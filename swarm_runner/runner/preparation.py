"""From invocations to submit descriptions that may be sent: each looked at before any is sent."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from swarm_runner.errors import Fault, InvalidInputError
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.pool import Destination
from swarm_runner.model.submit import SubmitDescription, string
from swarm_runner.model.text import AbsolutePath
from swarm_runner.runner.disks import look_at
from swarm_runner.runner.plugins import amended, routed
from swarm_runner.runner.state import writable_volumes
from swarm_runner.translate import translate, with_defaults

# Where a job that has no files begins; the access point has it too.
NOWHERE = "/"
_ABSOLUTE: TypeAdapter[str] = TypeAdapter(AbsolutePath)


@dataclass(frozen=True, slots=True)
class Prepared:
    """An invocation, ready to be sent.

    `spool` says that its files go over the network, `logged` that the event log tells of it.
    """

    invocation: Invocation
    description: SubmitDescription
    spool: bool
    logged: bool = True


class Preparation:
    """Routes, translates and checks invocations for one destination.

    `hook` is the plugin manager's, `runner` the runner's name.
    """

    def __init__(self, destination: Destination, hook: Any, runner: str) -> None:
        self._destination = destination
        self._hook = hook
        self._runner = runner
        # Directories that were looked at in this batch, and whether they are there.
        self._looked_at: dict[str, bool] = {}
        self._writable = [str(path) for path in writable_volumes(destination.pool)]
        self._volumes = [volume.path for volume in destination.pool.volumes]
        self._kept = [volume.path for volume in destination.pool.volumes if volume.read_only]
        # Asking nobody costs time too.
        self._amended = bool(hook.swarm_runner_amend_submit.get_hookimpls())

    def prepare(self, invocations: Iterable[Invocation], log: Path | None) -> list[Prepared]:
        """All of them, in order.

        Raises InvalidInputError with every fault of every invocation.
        """
        faults: list[Fault] = []
        ready: list[Prepared] = []
        seen: set[str] = set()
        here = os.getcwd()  # noqa: PTH109 (a text is what is wanted)
        self._looked_at.clear()
        for invocation in invocations:
            if invocation.key in seen:
                faults.append(Fault(f"{invocation.key}: key", "is twice in this batch"))
            seen.add(invocation.key)
            try:
                one = self._one(invocation, here, str(log) if log else None)
            except InvalidInputError as error:
                faults += error.faults
            else:
                ready.append(one)
        faults += _clashes([one.invocation for one in ready])
        if faults:
            raise InvalidInputError(faults)
        return ready

    def _one(self, invocation: Invocation, here: str, log: str | None) -> Prepared:
        pool = self._destination.pool
        whole = with_defaults(invocation, self._destination)
        directory = os.path.normpath(whole.working_directory or here)
        files = _files(whole)
        wrong = list(self._faults(whole, directory))
        if whole.vm is not None and not wrong:
            looked = look_at(whole, directory)
            wrong += looked.faults
            disk_mb = max(whole.resources.disk_mb, looked.room_mb)
            resources = whole.resources.model_copy(update={"disk_mb": disk_mb})
            whole = whole.model_copy(update={"resources": resources})
        if wrong:
            raise InvalidInputError(wrong)
        spool = bool(files) and not whole.in_place and not self._shared(whole, directory)
        if not (files or whole.in_place or _below(directory, self._writable)):
            directory = NOWHERE
        elif whole.working_directory is None:
            _check_here(here, whole.key)
        if whole.working_directory != directory:
            whole = whole.model_copy(update={"working_directory": directory})
        route = routed(self._hook, whole, self._destination)
        # HTCondor keeps a spooled job's log with its files, where nobody reads it; and what became
        # of a guest, the log does not tell.
        logged = not (spool or whole.vm)
        description = translate(
            whole,
            route,
            pool,
            runner=self._runner,
            log=log if logged else None,
            lease_s=self._destination.lease_s,
        )
        if spool:
            # Whoever fetches the outputs must be where they belong.
            description = description.amended({"My.SwarmRunnerHost": string(socket.gethostname())})
        if self._amended:
            description = amended(self._hook, description, whole, route)
        return Prepared(whole, description, spool, logged)

    def _shared(self, invocation: Invocation, directory: str) -> bool:
        """Whether the access point sees all the invocation's files where they are."""
        written = [directory, *filter(None, (invocation.stdout, invocation.stderr))]
        if invocation.vm:
            written += invocation.vm.comes_back.values()
        read = [name for _, name in _inputs(invocation)]
        return all(
            _below(os.path.join(directory, name), self._writable)  # noqa: PTH118
            for name in written
        ) and all(
            _below(os.path.join(directory, name), self._volumes)  # noqa: PTH118
            for name in read
        )

    def _faults(self, invocation: Invocation, directory: str) -> Iterator[Fault]:
        key = invocation.key
        if invocation.vm and invocation.vm.type != "kvm":
            said = f"{invocation.vm.type}: the pool's executors run kvm; use that"
            yield Fault(f"{key}: vm.type", said)
        where = f"{key}: working_directory"
        if invocation.in_place and not _below(directory, self._volumes):
            volumes = ", ".join(self._volumes) or "none"
            yield Fault(
                where,
                f"{directory} is on none of the pool's volumes ({volumes}), as in_place asks",
            )
        elif invocation.in_place and _below(directory, self._kept):
            # HTCondor mounts the directory by itself, and for writing.
            said = f"{directory} is on a read-only volume: a job that runs in place writes there"
            yield Fault(where, said)
        elif not self._is_directory(directory):
            yield Fault(where, f"{directory} is no directory here")
        else:
            for field, name in _inputs(invocation):
                file = os.path.join(directory, name)  # noqa: PTH118
                if not os.path.exists(file):  # noqa: PTH110
                    yield Fault(f"{key}: {field}", f"{file} does not exist")
                elif not os.access(file, os.R_OK):
                    yield Fault(f"{key}: {field}", f"{file} may not be read by you")
                elif invocation.vm and invocation.vm.checkpoint:
                    yield from self._left_in_place(f"{key}: {field}", file)

    def _left_in_place(self, where: str, file: str) -> Iterator[Fault]:
        if not _below(file, self._volumes):
            volumes = ", ".join(self._volumes) or "none"
            said = f"{file} is on none of the pool's volumes ({volumes}), as checkpoint asks"
            yield Fault(where, said)

    def _is_directory(self, path: str) -> bool:
        if path not in self._looked_at:
            self._looked_at[path] = Path(path).is_dir()
        return self._looked_at[path]


def _clashes(invocations: Sequence[Invocation]) -> Iterator[Fault]:
    """Files that one virtual machine of a batch writes, and another job writes or reads."""
    if all(invocation.vm is None for invocation in invocations):
        return
    writers: dict[str, str] = {}
    for invocation in invocations:
        for file in _written(invocation):
            other = writers.setdefault(file, invocation.key)
            if other != invocation.key:
                said = f"{file} is what {other} writes too; name another file"
                yield Fault(f"{invocation.key}: vm", said)
    for invocation in invocations:
        for field, name in _inputs(invocation):
            file = _whole(invocation, name)
            other = writers.get(file, invocation.key)
            if other != invocation.key and file not in _written(invocation):
                said = f"{file} is what {other} of the same batch writes; send one after the other"
                yield Fault(f"{invocation.key}: {field}", said)


def _written(invocation: Invocation) -> set[str]:
    """Where a virtual machine's files come back to, and the disks that it writes to in place."""
    machine = invocation.vm
    if machine is None:
        return set()
    kept = machine.disks if machine.checkpoint else ()
    names = [*machine.comes_back.values(), *(d.file for d in kept if d.permission == "w")]
    return {_whole(invocation, name) for name in names}


def _whole(invocation: Invocation, name: str) -> str:
    return os.path.realpath(os.path.join(invocation.working_directory or NOWHERE, name))  # noqa: PTH118


def _check_here(directory: str, key: str) -> None:
    """The current directory has passed no model yet."""
    try:
        _ABSOLUTE.validate_python(directory)
    except ValidationError as error:
        said = error.errors()[0]["msg"]
        where = f"{key}: working_directory"
        raise InvalidInputError([Fault(where, f"the current directory {said}")]) from error


def _files(invocation: Invocation) -> bool:
    """Whether anything is brought to the job or back from it."""
    return bool(
        invocation.inputs
        or invocation.outputs
        or invocation.stdin
        or invocation.stdout
        or invocation.stderr
        or invocation.vm
    )


def _inputs(invocation: Invocation) -> Iterator[tuple[str, str]]:
    """The files that must be there before the job: the field that names each, and its name."""
    for name in invocation.inputs:
        yield "inputs", name
    if invocation.stdin:
        yield "stdin", invocation.stdin
    if invocation.vm:
        for disk in invocation.vm.disks:
            yield "vm.disks", disk.file


def _below(path: str, directories: Sequence[str]) -> bool:
    whole = os.path.normpath(path)
    return any(
        whole == directory or whole.startswith(directory.rstrip("/") + "/")
        for directory in directories
    )
