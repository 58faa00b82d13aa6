"""Prepares invocations for a submit: all are checked, routed and translated before any is sent."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from swarm_runner.errors import Diagnostic, InvalidInputError
from swarm_runner.hooks.manager import Hooks
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.pool import Destination
from swarm_runner.model.sources import local_inputs, source_problems
from swarm_runner.model.text import AbsolutePath
from swarm_runner.runner.directory import writable_volumes
from swarm_runner.runner.input_files import InputFiles, input_names
from swarm_runner.runner.vm.conflicts import write_conflicts
from swarm_runner.runner.vm.disks import check_disks
from swarm_runner.submit.description import SubmitDescription
from swarm_runner.submit.language import classad_string
from swarm_runner.submit.translation import translate, with_defaults

# The working directory of a job without files; the access point has it too.
ROOT = "/"
_ABSOLUTE_PATH: TypeAdapter[str] = TypeAdapter(AbsolutePath)


@dataclass(frozen=True, slots=True)
class PreparedJob:
    """An invocation that is ready to be submitted.

    Attributes:
        invocation: The invocation, with the destination's defaults.
        description: Its submit description.
        spool: Whether its files are spooled to the access point.
        needs_staging: Whether its inputs must be spooled from a staging directory.
        logged: Whether the event log has its events.
    """

    invocation: Invocation
    description: SubmitDescription
    spool: bool
    logged: bool = True
    needs_staging: bool = False


class SubmissionBuilder:
    """Checks, routes and translates invocations for one destination.

    Threads may call `prepare` at the same time.
    """

    def __init__(self, destination: Destination, hooks: Hooks, runner_name: str) -> None:
        self._destination = destination
        self._pool = destination.pool
        self._hooks = hooks
        self._runner_name = runner_name
        self._writable_volumes = frozenset(str(path) for path in writable_volumes(self._pool))

    def prepare(
        self, invocations: Iterable[Invocation], event_log: Path | None
    ) -> list[PreparedJob]:
        """Prepare all invocations; return them in order.

        Raises InvalidInputError with every problem of every invocation.
        """
        diagnostics: list[Diagnostic] = []
        prepared: list[PreparedJob] = []
        keys: set[str] = set()
        current_directory = os.getcwd()  # noqa: PTH109 (a string, not a Path)
        log_path = str(event_log) if event_log else None
        files = InputFiles(volume.path for volume in self._pool.volumes)
        for invocation in invocations:
            if invocation.key in keys:
                message = "is used twice in this batch; give each invocation its own key"
                diagnostics.append(Diagnostic(message, key=invocation.key, path="key"))
            keys.add(invocation.key)
            try:
                job = self._prepare(invocation, current_directory, log_path, files)
            except InvalidInputError as error:
                diagnostics += error.diagnostics
            else:
                prepared.append(job)
        diagnostics += write_conflicts([job.invocation for job in prepared])
        if diagnostics:
            raise InvalidInputError(diagnostics)
        return prepared

    def _prepare(
        self,
        invocation: Invocation,
        current_directory: str,
        event_log: str | None,
        files: InputFiles,
    ) -> PreparedJob:
        invocation = with_defaults(invocation, self._destination)
        directory = os.path.normpath(invocation.working_directory or current_directory)
        diagnostics = list(self._check(invocation, directory, files))
        if invocation.vm is not None and not diagnostics:
            disk_check = check_disks(invocation, directory)
            diagnostics += disk_check.diagnostics
            disk_mb = max(invocation.resources.disk_mb, disk_check.space_mb)
            resources = invocation.resources.model_copy(update={"disk_mb": disk_mb})
            invocation = invocation.model_copy(update={"resources": resources})
        if diagnostics:
            raise InvalidInputError(diagnostics)
        has_files = _has_files(invocation)
        needs_staging = not invocation.in_place and files.needs_staging(invocation, directory)
        spool = (
            has_files
            and not invocation.in_place
            and (needs_staging or not self._visible_to_access_point(invocation, directory))
        )
        if spool:
            diagnostics = list(_spooled_output_diagnostics(invocation))
            if diagnostics:
                raise InvalidInputError(diagnostics)
        if not (has_files or invocation.in_place or self._is_writable(directory)):
            directory = ROOT
        elif invocation.working_directory is None:
            _check_current_directory(current_directory, invocation.key)
        if invocation.working_directory != directory:
            invocation = invocation.model_copy(update={"working_directory": directory})
        route = self._hooks.route(invocation, self._destination)
        # HTCondor keeps a spooled job's log with its files at the access point, and the log does
        # not have what the outcome of a virtual machine depends on.
        logged = not (spool or invocation.vm)
        description = translate(
            invocation,
            route,
            self._pool,
            runner=self._runner_name,
            log=event_log if logged else None,
            lease_s=self._destination.lease_s,
        )
        if spool:
            # Outputs are retrieved to this host's file system.
            description = description.with_commands(
                {"My.SwarmRunnerHost": classad_string(socket.gethostname())}
            )
        if self._hooks.amends:
            description = self._hooks.amend(description, invocation, route)
        return PreparedJob(invocation, description, spool, logged, needs_staging)

    def _is_writable(self, path: str) -> bool:
        """Whether a path is on a writable volume that this machine has too."""
        volume = self._pool.volume_of(path)
        return volume is not None and volume.path in self._writable_volumes

    def _visible_to_access_point(self, invocation: Invocation, directory: str) -> bool:
        """Whether the access point can read and write all of the invocation's files in place."""
        written = [directory, *filter(None, (invocation.stdout, invocation.stderr))]
        if invocation.vm:
            written += invocation.vm.returned_files.values()
        read = [name for _, name in input_names(invocation)]
        return all(
            self._is_writable(os.path.join(directory, name))  # noqa: PTH118
            for name in written
        ) and all(
            self._pool.volume_of(os.path.join(directory, name))  # noqa: PTH118
            for name in read
        )

    def _check(
        self, invocation: Invocation, directory: str, files: InputFiles
    ) -> Iterator[Diagnostic]:
        """Check the working directory and the input files."""
        key, volume = invocation.key, self._pool.volume_of(directory)
        message = ""
        if invocation.in_place and volume is None:
            message = self._not_on_volume(directory, "in_place")
        elif invocation.in_place and volume is not None and volume.read_only:
            # HTCondor itself mounts the directory into the container, writable.
            message = (
                f"{directory} is on a read-only volume, but a job that runs in place writes to it; "
                "use a writable volume"
            )
        elif not files.is_directory(directory):
            message = f"{directory} is not a directory on this machine; create it or name another"
        if message:
            yield Diagnostic(message, key=key, path="working_directory")
            return
        urls = source_problems(invocation.inputs, self._pool.sources)
        for field, message in (*files.problems(invocation, directory), *urls):
            yield Diagnostic(message, key=key, path=field)
        if invocation.vm is None:
            return
        for disk in invocation.vm.disks:
            file = os.path.join(directory, disk.file)  # noqa: PTH118
            if not os.path.exists(file):  # noqa: PTH110
                message = f"{file} does not exist"
            elif not os.access(file, os.R_OK):
                message = f"{file} is not readable by this user; change its permissions"
            elif invocation.vm.checkpoint and not self._pool.volume_of(file):
                message = self._not_on_volume(file, "checkpoint")
            else:
                continue
            yield Diagnostic(message, key=key, path="vm.disks")

    def _not_on_volume(self, path: str, option: str) -> str:
        volumes = ", ".join(volume.path for volume in self._pool.volumes) or "none"
        return f"{path} is not on a pool volume ({volumes}), which {option} requires"


def _spooled_output_diagnostics(invocation: Invocation) -> Iterator[Diagnostic]:
    """Report outputs whose names HTCondor's list of spooled outputs would split or trim."""
    for name in invocation.outputs:
        if "," in name or name != name.strip():
            message = (
                f"{name!r} contains a comma, or begins or ends with a space, which HTCondor cannot "
                "bring back from the access point; name another file, or run the job in a "
                "directory on a pool volume"
            )
            yield Diagnostic(message, key=invocation.key, path="outputs")


def _check_current_directory(directory: str, key: str) -> None:
    """Check what Invocation checks of a working directory that it is given."""
    try:
        _ABSOLUTE_PATH.validate_python(directory)
    except ValidationError as error:
        message = f"the current directory {error.errors()[0]['msg']}"
        raise InvalidInputError([Diagnostic(message, key=key, path="working_directory")]) from error


def _has_files(invocation: Invocation) -> bool:
    """Whether files are transferred between this host and the job."""
    streams = (invocation.stdin, invocation.stdout, invocation.stderr)
    return any((local_inputs(invocation.inputs), invocation.outputs, invocation.vm, *streams))
