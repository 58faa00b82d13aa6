"""Where the jobs go: the destination, and what its executors see of this machine's files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from snakemake_interface_common.exceptions import WorkflowError

from snakemake_executor_plugin_swarm_runner.settings import ExecutorSettings

if TYPE_CHECKING:
    from swarm_runner import Destination, JobConf, Pool
    from swarm_runner.condor.access_point_process import AccessPointProcess

JOB_CONF_VARIABLE = "SWARM_RUNNER_JOB_CONF"
PLUGIN_DIRECTORY = Path(".snakemake", "swarm-runner")
_OTHER_WRITE_BIT = 0o002


@dataclass(frozen=True)
class ExecutionTarget:
    """A destination as one workflow sees it.

    `workdir` is the workflow's directory. `shared` says that jobs read and write it in place;
    else they have directories of their own, and their files travel through storage. `remembered`
    is the file that describes the pool, if nobody named it.
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
        """The pool's access point; one that does not answer holds nobody up who wants to stop."""
        from swarm_runner.condor.access_point import AccessPoint
        from swarm_runner.condor.access_point_process import AccessPointProcess

        pool, tokens = self.pool, self.destination.token_directory
        return AccessPointProcess(AccessPoint, pool.address, pool.name, tokens)

    def is_visible(self, path: Path | str) -> bool:
        """Whether the executors see that file at the same path."""
        whole = Path(os.path.normpath(self.workdir / path))
        return any(whole.is_relative_to(volume.path) for volume in self.pool.volumes)


def find_target(settings: ExecutorSettings, workdir: Path, *, shared: bool) -> ExecutionTarget:
    """The site that the settings name.

    Raises WorkflowError when there is no such destination, or when jobs cannot use the working
    directory though it is to be shared.
    """
    from swarm_runner import InvalidInputError
    from swarm_runner.config.current import get_current_config

    named = settings.job_conf or os.environ.get(JOB_CONF_VARIABLE)
    last = None if named else get_current_config()
    try:
        destination = _load_destination(settings, workdir, named or last)
    except InvalidInputError as error:
        raise WorkflowError(f"swarm-runner: {error}") from error
    site = ExecutionTarget(destination, workdir, shared, last)
    if shared:
        _check_workdir(site)
    return site


def _load_destination(
    settings: ExecutorSettings, workdir: Path, file: Path | str | None
) -> Destination:
    """Raises InvalidInputError."""
    from swarm_runner import Destination

    if file:
        chosen = _read_job_conf(Path(file)).destination(settings.destination)
    elif settings.destination:
        raise WorkflowError(
            f"swarm-runner: a destination ({settings.destination}) is named, but no job_conf "
            f"that describes it: set --swarm-runner-job-conf or {JOB_CONF_VARIABLE}."
        )
    else:
        chosen = Destination()
    fields = dict(chosen)
    if settings.lease_s is not None:
        fields["lease_s"] = settings.lease_s
    if settings.state_directory is not None:
        fields["state_directory"] = str((workdir / settings.state_directory).absolute())
    elif chosen.state_directory is None and any(
        not volume.read_only and workdir.is_relative_to(volume.path)
        for volume in chosen.pool.volumes
    ):
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
            Diagnostic(fault["msg"], path=str(fault["loc"][0]) if fault["loc"] else "")
            for fault in error.errors()
        ) from error


def _check_workdir(target: ExecutionTarget) -> None:
    """Say before the first job what every job would fail of."""
    pool, user = target.pool, target.pool.user
    if not target.is_visible(target.workdir):
        volumes = ", ".join(volume.path for volume in pool.volumes) or "it has none"
        raise WorkflowError(
            f"swarm-runner: the executors of pool {pool.name} cannot see the working directory "
            f"{target.workdir}. Run the workflow below one of the pool's volumes ({volumes}); or "
            "add a volume in job_conf (`pool: {volumes: [/path]}`) and `swarm-runner pool up` "
            "again; or run without a shared file system, with --shared-fs-usage none and a "
            "storage plugin."
        )
    kept = (volume.path for volume in pool.volumes if volume.read_only)
    if any(target.workdir.is_relative_to(path) for path in kept):
        raise WorkflowError(
            f"swarm-runner: the working directory {target.workdir} is on a read-only volume of pool "
            f"{pool.name}. Run the workflow on one that jobs may write to."
        )
    status = target.workdir.stat()
    writable = (
        (status.st_uid == user.uid and status.st_mode & 0o200)
        or (status.st_gid == user.gid and status.st_mode & 0o020)
        or status.st_mode & _OTHER_WRITE_BIT
    )
    if not writable:
        raise WorkflowError(
            f"swarm-runner: jobs of pool {pool.name} run as user {user.name} (uid {user.uid}), "
            f"which may not write in {target.workdir}. {_permission_advice(target)}"
        )
    if os.geteuid() != user.uid and _current_umask() & _OTHER_WRITE_BIT:
        raise WorkflowError(
            f"swarm-runner: jobs of pool {pool.name} run as user {user.name} (uid {user.uid}) "
            f"and you are uid {os.geteuid()}: they could not write in the directories that "
            f"Snakemake makes for their outputs. {_permission_advice(target)}"
        )


def _permission_advice(target: ExecutionTarget) -> str:
    return (
        "Let jobs run as you (`pool: {user: {name: ..., uid: ..., gid: ...}}` in job_conf, your "
        "own from `id`, then `swarm-runner pool up`), or make it writable: "
        f"`chmod 777 {target.workdir}` and `umask 0` before snakemake."
    )


def _current_umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
