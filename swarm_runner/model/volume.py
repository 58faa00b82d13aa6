"""Directories that every node of a pool has, and that jobs see at the same path."""

from __future__ import annotations

import posixpath
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator
from pydantic_core import PydanticCustomError

from swarm_runner.model.quantity import StrictBool
from swarm_runner.model.text import AbsolutePath, FrozenModel

# What a container must have of its own image, or a node to itself.
_SYSTEM_DIRECTORIES = (
    *("/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/run"),
    *("/sbin", "/sys", "/usr", "/var/lib/condor", "/var/lib/docker", "/var/run"),
)
_PER_JOB_DIRECTORIES = ("/tmp", "/var/tmp")  # noqa: S108  the job's own, per job


def _volume_path(value: str) -> str:
    path = PurePosixPath(value)
    if posixpath.normpath(value) != value or value.startswith("//"):
        raise PydanticCustomError(
            "volume",
            "{path} must be written without . or .., double or trailing slashes",
            {"path": repr(value)},
        )
    if set(value) & set(":,$"):
        raise PydanticCustomError(
            "volume", "{path} holds one of : , $ which a mount cannot name", {"path": repr(value)}
        )
    if value in _PER_JOB_DIRECTORIES or any(
        path.is_relative_to(system) or PurePosixPath(system).is_relative_to(path)
        for system in _SYSTEM_DIRECTORIES
    ):
        raise PydanticCustomError(
            "volume",
            "{path} is, holds or lies in a directory of the system; mount a directory of data",
            {"path": repr(value)},
        )
    return value


def _volume(value: Any) -> Any:
    if isinstance(value, str):
        path, _, mode = value.partition(":")
        if mode in ("", "ro", "rw"):
            return {"path": path, "read_only": mode == "ro"}
    return value


class VolumeMount(FrozenModel):
    """A directory that every node has at the same path; jobs see it there too."""

    path: Annotated[AbsolutePath, AfterValidator(_volume_path)]
    read_only: StrictBool = False


Volume = Annotated[VolumeMount, BeforeValidator(_volume)]
