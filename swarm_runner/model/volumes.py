"""The volumes of a pool: directories that every node has at the same path."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, StrictBool
from pydantic_core import PydanticCustomError

from swarm_runner.model.isolation import Propagation
from swarm_runner.model.text import AbsolutePath, FrozenModel, refusal

# Directories that a container needs from its own image, or a node for itself.
_SYSTEM_DIRECTORIES = (
    *("/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/run"),
    *("/sbin", "/sys", "/usr", "/var/lib/condor", "/var/lib/docker", "/var/run"),
)
_PER_JOB_DIRECTORIES = ("/tmp", "/var/tmp")  # noqa: S108  each job has its own
_MAX_PATH_LENGTH = 4096  # Linux's PATH_MAX
MAX_VOLUMES = 1000


def is_below(path: str, directory: str) -> bool:
    """Return whether a normalized path is a directory or below it."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def volume_path(value: str) -> str:
    """Return a data directory's path. Raises PydanticCustomError if a mount cannot have it."""
    if len(value) > _MAX_PATH_LENGTH:
        raise PydanticCustomError(
            "volume", "has {length} characters, more than a path can have", {"length": len(value)}
        )
    value = value.rstrip("/") or "/"
    if posixpath.normpath(value) != value or value.startswith("//"):
        raise PydanticCustomError(
            "volume",
            "{path} must not contain . or .. parts, or double slashes",
            {"path": repr(value)},
        )
    if set(value) & set(":,$"):
        raise PydanticCustomError(
            "volume",
            "{path} contains one of : , $ which a mount cannot represent; rename the directory",
            {"path": repr(value)},
        )
    if value in _PER_JOB_DIRECTORIES or any(
        is_below(value, system) or is_below(system, value) for system in _SYSTEM_DIRECTORIES
    ):
        raise PydanticCustomError(
            "volume",
            "{path} is, contains or is below a system directory; mount a data directory",
            {"path": repr(value)},
        )
    return value


# The keys of a mount in a compose file, as Docker spells them.
_SOURCE_KEYS = ("source", "src")
_TARGET_KEYS = ("target", "dst", "destination")
_MOUNT_KEYS = {"type", "read_only", "readonly", *_SOURCE_KEYS, *_TARGET_KEYS}
# SELinux relabelling (z, Z) does not apply to a mount of a Swarm service.
_MODES = {"ro": True, "rw": False}


def _volume(value: Any) -> Any:
    """Return a volume's path and mode, from Docker's short and long forms of a mount."""
    if isinstance(value, str):
        path, *rest = value.split(":")
        target = rest.pop(0) if rest and rest[0] not in _MODES else path
        mode = rest.pop(0) if rest else "rw"
        if rest or mode not in _MODES:
            raise _mount_error(repr(value))
        return {"path": _same_path(path, target), "read_only": _MODES[mode]}
    if isinstance(value, dict) and "path" not in value and value.keys() & _MOUNT_KEYS:
        return _long_mount(value)
    return value


def _long_mount(mount: dict[Any, Any]) -> dict[str, Any]:
    if unknown := [str(key) for key in mount if key not in _MOUNT_KEYS]:
        raise _mount_error(f"a mount with {', '.join(sorted(unknown))}")
    if mount.get("type", "bind") != "bind":
        raise _mount_error(f"a mount of type {mount['type']}")
    sources = [mount[key] for key in _SOURCE_KEYS if key in mount]
    targets = [mount[key] for key in _TARGET_KEYS if key in mount]
    source = (sources or targets or [None])[0]
    read_only = mount.get("read_only", mount.get("readonly", False))
    return {"path": _same_path(source, (targets or [source])[0]), "read_only": read_only}


def _same_path(source: Any, target: Any) -> Any:
    if not (isinstance(source, str) and isinstance(target, str)):
        if source is not target:
            raise _mount_error("a mount with a path that is not a text")
        return source  # the field's own validator refuses it
    if source.rstrip("/") != target.rstrip("/"):
        raise refusal(
            f"mounts {source} at {target}, but a job sees a volume at the path that it has on the "
            f"node: mount the directory at {target} on every node, and write {target}"
        )
    return source


def _mount_error(found: str) -> PydanticCustomError:
    return refusal(
        f"is {found}; write /path, /path:ro, /path:/path, /path:/path:ro or "
        "{type: bind, source: /path, target: /path, read_only: true}"
    )


class VolumeMount(FrozenModel):
    """A directory that every node has at the same path. Jobs see it at that path too."""

    path: Annotated[AbsolutePath, AfterValidator(volume_path)] = Field(
        description="a data directory that every node has at this path"
    )
    read_only: StrictBool = Field(False, description="whether jobs can only read it")
    propagation: Propagation = Field(
        "rprivate",
        description="rslave: what the node mounts below it later (CVMFS) appears in jobs too",
    )
    on_request: StrictBool = Field(False, description="only for jobs that name it")


Volume = Annotated[VolumeMount, BeforeValidator(_volume)]


def overlap_diagnostics(
    volumes: Sequence[VolumeMount],
) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield the place and the fault of each volume that contains another one."""
    # In this order, a directory comes right before everything below it.
    ordered = sorted(enumerate(volumes), key=lambda item: item[1].path.replace("/", "\0"))
    outer_position, outer = 0, None
    for position, volume in ordered:
        if outer is not None and is_below(volume.path, outer.path):
            yield (
                ("volumes", max(position, outer_position)),
                f"{volume.path} and {outer.path} overlap; remove one of the two",
            )
        else:
            outer_position, outer = position, volume
