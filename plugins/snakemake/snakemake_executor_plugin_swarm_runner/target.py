"""Where the jobs run: the destination, and which of this host's files its executors see."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from snakemake_interface_common.exceptions import WorkflowError

from snakemake_executor_plugin_swarm_runner.settings import ExecutorSettings
from snakemake_executor_plugin_swarm_runner.visibility import Visibility

if TYPE_CHECKING:
    from swarm_runner import AccessPointProcess, Destination, JobConf, Pool

JOB_CONF_VARIABLE = "SWARM_RUNNER_JOB_CONF"
PLUGIN_DIRECTORY = Path(".snakemake", "swarm-runner")
_OWNER_WRITE_BIT, _GROUP_WRITE_BIT, _OTHER_WRITE_BIT = 0o200, 0o020, 0o002


@dataclass(frozen=True)
class ExecutionTarget:
    """A destination, as one workflow uses it.

    `workdir` is the workflow's working directory. If `shared` is set, jobs run in it; otherwise
    they run in directories of their own, and storage plugins transfer their files.
    `current_config` is the file of the most recent `swarm-runner pool up`, if it describes the
    pool because the user named no other.
    """

    destination: Destination
    workdir: Path
    shared: bool
    current_config: Path | None = None

    @property
    def pool(self) -> Pool:
        """The pool that the jobs run in."""
        return self.destination.pool

    def access_point(self) -> AccessPointProcess:
        """Return the pool's access point, in a process of its own.

        If it does not answer, the calling process can still be interrupted.
        """
        from swarm_runner import AccessPoint, AccessPointProcess

        pool, tokens = self.pool, self.destination.token_directory
        return AccessPointProcess(AccessPoint, pool.address, pool.name, tokens)

    def is_visible(self, path: Path | str) -> bool:
        """Return whether the executors see this path."""
        return self.visibility.hidden_target(str(self.workdir / path)) is None

    @cached_property
    def visibility(self) -> Visibility:
        """Which files the executors see."""
        return Visibility(self.pool)


def find_target(settings: ExecutorSettings, workdir: Path, *, shared: bool) -> ExecutionTarget:
    """Return the target that the settings select.

    Raises WorkflowError when the destination does not exist, or when `shared` is set and jobs
    cannot use the working directory.
    """
    from swarm_runner import InvalidInputError, get_current_config

    named_file = settings.job_conf or os.environ.get(JOB_CONF_VARIABLE)
    current_config = None if named_file else get_current_config()
    try:
        destination = _load_destination(settings, workdir, named_file or current_config)
    except InvalidInputError as error:
        raise WorkflowError(f"swarm-runner: {error}") from error
    target = ExecutionTarget(destination, workdir, shared, current_config)
    if shared:
        _check_workdir(target)
    return target


def _load_destination(
    settings: ExecutorSettings, workdir: Path, file: Path | str | None
) -> Destination:
    """Raise InvalidInputError or WorkflowError if there is no such destination."""
    from swarm_runner import Destination

    if file:
        configured = _read_job_conf(Path(file)).destination(settings.destination)
    elif settings.destination:
        raise WorkflowError(
            f"swarm-runner: the destination {settings.destination!r} was set without a job_conf "
            f"file that describes it. Set --swarm-runner-job-conf or {JOB_CONF_VARIABLE}."
        )
    else:
        configured = Destination()
    fields = dict(configured)
    volume = configured.pool.volume_of(workdir)
    if settings.lease_s is not None:
        fields["lease_s"] = settings.lease_s
    if settings.state_directory is not None:
        fields["state_directory"] = str((workdir / settings.state_directory).absolute())
    elif configured.state_directory is None and volume and not volume.read_only:
        fields["state_directory"] = str(workdir / PLUGIN_DIRECTORY)
    return _validate_destination(fields)


def _read_job_conf(file: Path) -> JobConf:
    from swarm_runner import Diagnostic, InvalidInputError, parse_job_conf

    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise InvalidInputError(
            [Diagnostic(f"cannot be read: {error}", source=str(file))]
        ) from error
    return parse_job_conf(text, str(file))


def _validate_destination(fields: dict[str, object]) -> Destination:
    from pydantic import ValidationError

    from swarm_runner import Destination, Diagnostic, InvalidInputError

    try:
        return Destination(**fields)
    except ValidationError as error:
        raise InvalidInputError(
            Diagnostic(detail["msg"], path=str(detail["loc"][0]) if detail["loc"] else "")
            for detail in error.errors()
        ) from error


def _check_workdir(target: ExecutionTarget) -> None:
    """Raise WorkflowError if every job would fail because of the working directory."""
    pool, user = target.pool, target.pool.user
    volume = pool.volume_of(target.workdir)
    if volume is None:
        volumes = ", ".join(volume.path for volume in pool.volumes) or "it has none"
        raise WorkflowError(
            f"swarm-runner: the executors of pool {pool.name} cannot see the working directory "
            f"{target.workdir}. Run the workflow below one of the pool's volumes ({volumes}); or "
            "add a volume in job_conf (`pool: {volumes: [/path]}`) and run `swarm-runner pool up` "
            "again; or run without a shared file system, with --shared-fs-usage none and a "
            "storage plugin."
        )
    if volume.read_only:
        raise WorkflowError(
            f"swarm-runner: the working directory {target.workdir} is on a read-only volume of "
            f"pool {pool.name}. Run the workflow on a volume that jobs may write to."
        )
    status = target.workdir.stat()
    writable = (
        (status.st_uid == user.uid and status.st_mode & _OWNER_WRITE_BIT)
        or (status.st_gid == user.gid and status.st_mode & _GROUP_WRITE_BIT)
        or status.st_mode & _OTHER_WRITE_BIT
    )
    if not writable:
        raise WorkflowError(
            f"swarm-runner: jobs of pool {pool.name} run as user {user.name} (uid {user.uid}), "
            f"which may not write to {target.workdir}. {_permission_advice(target)}"
        )
    if os.geteuid() != user.uid and _current_umask() & _OTHER_WRITE_BIT:
        raise WorkflowError(
            f"swarm-runner: jobs of pool {pool.name} run as user {user.name} (uid {user.uid}), "
            f"and you are uid {os.geteuid()}. They could not write to the directories that "
            f"Snakemake creates for their outputs. {_permission_advice(target)}"
        )


def _permission_advice(target: ExecutionTarget) -> str:
    user = target.pool.user
    run_as = f"run Snakemake as user {user.name} (uid {user.uid}), in a directory of that user"
    if os.geteuid() == 0:
        return f"Jobs never run as root, so {run_as}."
    return (
        "Run jobs as your own user (`pool: {user: {name: ..., uid: ..., gid: ...}}` in job_conf, "
        f"with your numbers from `id`, then `swarm-runner pool up`); or {run_as}."
    )


def _current_umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
