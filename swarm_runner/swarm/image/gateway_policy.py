"""What the gateway gives to a job: a container's configuration, or a refusal.

The decisions are pure, except that links are resolved by a function that the caller passes. What
is not allowed here is refused, whatever the job's ad says. `Settings` are the pool's
(`isolation` and `volumes` in job_conf); the executor's service has them in SWARM_RUNNER_ISOLATION.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from gateway_requests import BadRequestError, CreateRequest, memory_bytes

# policy/holds.py recognizes a refusal by this text.
REFUSED = "swarm-runner refused this job: "
# The options of the job's container: JSON, see `ContainerOptions`. The job's own TMPDIR, which
# HTCondor overwrites, has the prefix. Must match model/isolation.py.
CONTAINER_VARIABLE = "SWARM_RUNNER_CONTAINER"
SAVED_PREFIX = "SWARM_RUNNER_JOB_"
SAVED_VARIABLES = ("TMPDIR", "TEMP", "TMP")
# In the job's scratch directory: what becomes its /tmp and /var/tmp, and its default HOME.
PRIVATE_DIRECTORY = ".swarm-runner"
TEMPORARY_DIRECTORIES = ("/tmp", "/var/tmp")  # noqa: S108 - in the job's container
MAXIMUM_PORTS = 8  # model/isolation.py has it too
LOOPBACK, UNSPECIFIED = "127.0.0.1", ("", "0.0.0.0", "::")  # noqa: S104 - never published there
MAXIMUM_MESSAGE_BYTES = 480  # HTCondor reads 511 bytes of it

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    r"(?P<path>(?:(?:[A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(?::[0-9]+)?/)?"
    rf"{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?P<tag>:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?P<digest>@[a-z0-9+._-]+:[0-9a-fA-F]{32,})?"
)
_SERVICE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,31}")
# Entrypoints that prepare something and then run their arguments.
_WRAPPERS = frozenset(
    {
        *("tini", "tini-static", "dumb-init", "docker-init", "catatonit", "s6-overlay", "gosu"),
        *("su-exec", "env", "_entrypoint.sh", "env-execute", "docker-entrypoint.sh"),
        *("entrypoint.sh", "nvidia_entrypoint.sh", "_entrypoint", "shell-hook.sh"),
    }
)


class DeniedError(Exception):
    """The job may not have what it asks for; the text names the setting."""


@dataclass(frozen=True)
class Volume:
    """One of the pool's volumes. `on_request`: only for jobs that name it."""

    path: str
    read_only: bool = False
    propagation: str = "rprivate"
    on_request: bool = False


@dataclass(frozen=True)
class Settings:
    """The pool's settings for one executor."""

    uid: int
    gid: int
    memory_mb: int
    volumes: tuple[Volume, ...] = ()
    network: str = "none"
    networks: tuple[str, ...] = ()
    pids: int = 4096
    open_files: int = 65_536
    shm_mb: int = 64
    read_only_root: bool = False
    ptrace: bool = False
    entrypoint: str = "auto"
    images: tuple[str, ...] = ("*",)
    require_digest: bool = False
    ports: str = "none"
    host_ports: str | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], open_files_limit: int) -> Settings:
        """Return the settings in the environment of an executor's container.

        `open_files_limit` is the engine's own for its containers: not every engine may raise it.
        """
        values: dict[str, Any] = json.loads(environment["SWARM_RUNNER_ISOLATION"])
        values["volumes"] = tuple(Volume(**volume) for volume in values.get("volumes", ()))
        for name in ("networks", "images"):
            if name in values:
                values[name] = tuple(values[name])
        return cls(
            uid=int(environment["SWARM_RUNNER_USER_UID"]),
            gid=int(environment["SWARM_RUNNER_USER_GID"]),
            memory_mb=int(environment["SWARM_RUNNER_MEMORY_MB"]),
            **values
            | {"open_files": min(values.get("open_files", cls.open_files), open_files_limit)},
        )


@dataclass(frozen=True)
class ContainerOptions:
    """What the job asks for, by the invocation or its destination. None: the pool's default."""

    network: str | None = None
    volumes: tuple[str, ...] | None = None
    shm_mb: int | None = None
    entrypoint: str | None = None
    ptrace: bool = False
    read_only_root: bool = False
    ports: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str | None) -> ContainerOptions:
        """Return the options in the job's environment. Raises DeniedError."""
        if not text:
            return cls()
        try:
            values = json.loads(text)
            volumes = values.get("volumes")
            options = cls(**values | {"volumes": None if volumes is None else tuple(volumes)})
        except (ValueError, TypeError, AttributeError, RecursionError):
            raise DeniedError(
                f"{CONTAINER_VARIABLE} in its environment is not what submits write"
            ) from None
        kinds = (
            (options.network, str),
            (options.shm_mb, int),
            (options.entrypoint, str),
            (options.ptrace, bool),
            (options.read_only_root, bool),
            *((path, str) for path in options.volumes or ()),
            (options.ports, dict),
        )
        if any(value is not None and type(value) is not kind for value, kind in kinds):
            raise DeniedError(
                f"{CONTAINER_VARIABLE} in its environment has a value of the wrong type"
            )
        if any(
            type(port) is not int or not 1 <= port <= 65_535 or not _SERVICE.fullmatch(name)
            for name, port in options.ports.items()
        ):
            raise DeniedError(f"{CONTAINER_VARIABLE} in its environment names a port that is none")
        return options


@dataclass(frozen=True)
class ImageFacts:
    """What the engine knows of the job's image."""

    id: str
    architecture: str
    entrypoint: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()


def check_image(reference: str, settings: Settings) -> None:
    """Raise DeniedError unless the pool allows an image of this name. Nothing is pulled for it."""
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise DeniedError(f"{_quote(reference)} is not a valid image reference")
    if settings.require_digest and match["digest"] is None:
        raise DeniedError(
            f"image {_quote(reference)} has no digest, and the pool has isolation.require_digest; "
            "write name@sha256:..."
        )
    names = {reference, full_name(reference)}
    if not any(fnmatchcase(name, pattern) for name in names for pattern in settings.images):
        allowed = ", ".join(settings.images) or "none"
        raise DeniedError(
            f"image {_quote(reference)} is none that the pool allows (isolation.images: {allowed})"
        )


def full_name(reference: str) -> str:
    """Return a reference with its registry: `debian:12` is docker.io/library/debian:12."""
    host, slash, _ = reference.partition("/")
    if slash and ("." in host or ":" in host or host == "localhost"):
        return reference
    return f"docker.io/{reference}" if slash else f"docker.io/library/{reference}"


def registry_of(reference: str) -> str:
    """Return the registry's host and port."""
    return full_name(reference).partition("/")[0]


def container(
    request: CreateRequest,
    settings: Settings,
    image: ImageFacts,
    scratch_parent: str,
    labels: Mapping[str, str],
    resolve: Callable[[str], str] = posixpath.realpath,
    node_address: Callable[[], str] = str,
) -> dict[str, Any]:
    """Return the body of the engine's `POST /containers/create` for a job.

    `scratch_parent` is the directory of the executor's slots, at its path on the node.
    `node_address` returns the node's address in the Swarm; it is called for jobs with ports alone.
    Raises DeniedError if the job may not have what it asks for.
    """
    check_image(request.image, settings)
    options = ContainerOptions.parse(request.environment.get(CONTAINER_VARIABLE))
    scratch, mounts = _mounts(request, settings, options, scratch_parent, resolve)
    network = _network(request, settings, options)
    bindings = _port_bindings(request, settings, options, network, node_address)
    if other := [device for device in request.devices if not device.startswith("/dev/nvidia")]:
        raise DeniedError(f"it asks for the device {_quote(other[0])}, and jobs get no devices")
    memory = _memory(request, settings)
    return {
        "Image": request.image,
        "Cmd": list(request.command),
        **_entrypoint(settings, options, image),
        "Env": [f"{name}={value}" for name, value in _environment(request, scratch).items()],
        "User": _user(request, settings),
        "WorkingDir": request.working_directory,
        "Hostname": _hostname(request.options.get("--hostname", "")),
        "Labels": dict(labels),
        **({"ExposedPorts": {port: {} for port in bindings}} if bindings else {}),
        # Until the gateway attaches, and to the end of its input.
        "OpenStdin": True,
        "StdinOnce": True,
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "HostConfig": {
            "Mounts": mounts,
            "NetworkMode": network,
            **({"PortBindings": bindings} if bindings else {}),
            "CpuShares": int(request.options.get("--cpu-shares", "0") or 0),
            "CpusetCpus": request.options.get("--cpuset-cpus", ""),
            "Memory": memory,
            "MemorySwap": memory,
            "PidsLimit": settings.pids,
            "ShmSize": _shm_bytes(request, settings, options, memory),
            "Ulimits": [
                {"Name": "nofile", "Soft": settings.open_files, "Hard": settings.open_files}
            ],
            "CapDrop": ["ALL"],
            "CapAdd": _capabilities(settings, options),
            "SecurityOpt": ["no-new-privileges"],
            "ReadonlyRootfs": settings.read_only_root or options.read_only_root,
            "Init": True,
            "LogConfig": {"Type": "none"},
            "RestartPolicy": {"Name": "no"},
        },
    }


def scratch_directory(request: CreateRequest, scratch_parent: str) -> str:
    """Return the job's scratch directory. Raises DeniedError if HTCondor names none."""
    for volume in request.volumes:
        source, _, target = volume.partition(":")
        parent, name = posixpath.split(source)
        if source == target and parent == scratch_parent and re.fullmatch(r"dir_[0-9]+", name):
            return source
    raise DeniedError("HTCondor names no scratch directory of this executor")


def _mounts(
    request: CreateRequest,
    settings: Settings,
    options: ContainerOptions,
    scratch_parent: str,
    resolve: Callable[[str], str],
) -> tuple[str, list[dict[str, Any]]]:
    scratch = scratch_directory(request, scratch_parent)
    if resolve(scratch) != resolve(scratch_parent) + "/" + posixpath.basename(scratch):
        raise DeniedError("its scratch directory is a link")
    volumes = _granted_volumes(settings, options)
    for text in request.volumes:
        source, _, target = text.partition(":")
        if source == scratch and target == scratch:
            continue
        # HTCondor mounts the job's working directory, and each volume. A volume is mounted whole,
        # at its own path: the kernel resolves the links below it in the job's container, where
        # none leads out of what is mounted. No mount is made of a path that a job can change.
        if (target.partition(":")[0], _normal(source)) != (source, source):
            raise DeniedError(
                f"it asks to mount {_quote(text)}; a job gets its scratch directory and the pool's "
                "volumes, each at its own path"
            )
        if _inside(source, scratch):
            continue
        if not any(_inside(source, volume.path) for volume in settings.volumes):
            raise DeniedError(
                f"it asks to mount {_quote(source)}, which is not on any of the pool's volumes "
                f"(volumes: {', '.join(volume.path for volume in settings.volumes) or 'none'})"
            )
    directory = request.working_directory
    roots = [scratch, *(volume.path for volume in volumes)]
    if _normal(directory) != directory or not any(_inside(directory, root) for root in roots):
        raise DeniedError(
            f"its directory {_quote(directory)} is neither in its scratch directory nor on one "
            f"of its volumes (volumes: {', '.join(volume.path for volume in volumes) or 'none'})"
        )
    resolved = resolve(directory)
    if not any(_inside(resolved, resolve(root)) for root in roots):
        raise DeniedError(
            f"its directory {_quote(directory)} is a link to {_quote(resolved)}, which is on no "
            f"volume that it gets (volumes: {', '.join(v.path for v in volumes) or 'none'})"
        )
    temporary = f"{scratch}/{PRIVATE_DIRECTORY}"
    return scratch, [
        _mount(scratch, scratch),
        *(_mount(f"{temporary}{path}", path) for path in TEMPORARY_DIRECTORIES),
        *(
            _mount(v.path, v.path, read_only=v.read_only, propagation=v.propagation)
            for v in volumes
        ),
    ]


def _granted_volumes(settings: Settings, options: ContainerOptions) -> list[Volume]:
    if options.volumes is None:
        return [volume for volume in settings.volumes if not volume.on_request]
    known = {volume.path: volume for volume in settings.volumes}
    for path in options.volumes:
        if path not in known:
            raise DeniedError(
                f"it names the volume {_quote(path)}, which the pool does not have "
                f"(volumes: {', '.join(known) or 'none'})"
            )
    return [volume for volume in settings.volumes if volume.path in options.volumes]


def _mount(
    source: str, target: str, *, read_only: bool = False, propagation: str = "rprivate"
) -> dict[str, Any]:
    mount = {"Type": "bind", "Source": source, "Target": target, "ReadOnly": read_only}
    # The engine's default is rprivate, or rslave below its own directory, where it has to be.
    return (
        mount
        if propagation == "rprivate"
        else mount | {"BindOptions": {"Propagation": propagation}}
    )


def _normal(path: str) -> str:
    return posixpath.normpath(path) if path.startswith("/") and not path.startswith("//") else ""


def _inside(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip("/") + "/")


def _user(request: CreateRequest, settings: Settings) -> str:
    expected = f"{settings.uid}:{settings.gid}"
    if request.user != expected or 0 in (settings.uid, settings.gid):
        raise DeniedError(
            f"it would run as user {_quote(request.user)}, and the pool's jobs run as {expected} "
            "(user.uid and user.gid), never as 0"
        )
    if foreign := [group for group in request.groups if group != str(settings.gid)]:
        raise DeniedError(f"it would be in the group {_quote(foreign[0])} beside user.gid")
    return expected


def _network(request: CreateRequest, settings: Settings, options: ContainerOptions) -> str:
    wanted = request.options.get("--network") or options.network or settings.network
    allowed = {"none", settings.network, *settings.networks} - {"host"}
    if wanted not in allowed or wanted.startswith("container:"):
        raise DeniedError(
            f"it asks for the network {_quote(wanted)}, and the pool allows "
            f"{', '.join(sorted(allowed))} (isolation.network and isolation.networks; never host)"
        )
    return wanted


def _port_bindings(
    request: CreateRequest,
    settings: Settings,
    options: ContainerOptions,
    network: str,
    node_address: Callable[[], str],
) -> dict[str, list[dict[str, str]]]:
    """Return on which of the node's addresses each port is published that the job asked for."""
    if not request.ports and not options.ports:
        return {}
    if settings.ports not in ("node", "loopback"):
        raise DeniedError(
            "it asks for a published port, and the pool publishes none (isolation.ports)"
        )
    # The job's ad and its submit have to agree. HTCondor passes numbers alone, without a host's.
    if sorted(request.ports) != sorted(str(port) for port in options.ports.values()):
        raise DeniedError(
            f"it asks for the ports {_quote(', '.join(request.ports))} in its ad, and for "
            f"{_quote(', '.join(map(str, options.ports.values())))} in container_options.ports"
        )
    if len(options.ports) > MAXIMUM_PORTS:
        raise DeniedError(f"it asks for {len(options.ports)} ports; a job gets {MAXIMUM_PORTS}")
    if network == "none":
        raise DeniedError(
            "it asks for a published port, and has the network none, where nothing reaches it; "
            "name another in container_options.network (isolation.networks)"
        )
    address = LOOPBACK if settings.ports == "loopback" else node_address()
    if address in UNSPECIFIED:
        raise DeniedError(
            "it asks for a published port, and the engine does not know the node's address in the "
            "Swarm (docker swarm init --advertise-addr)"
        )
    binding = {"HostIp": address, "HostPort": settings.host_ports or ""}
    return {f"{port}/tcp": [dict(binding)] for port in request.ports}


def _memory(request: CreateRequest, settings: Settings) -> int:
    try:
        memory = memory_bytes(request.options["--memory"])
    except BadRequestError as error:
        raise DeniedError(str(error)) from None
    if memory > settings.memory_mb * 2**20:
        raise DeniedError(
            f"it would get {memory >> 20} MB of memory, and the executor has {settings.memory_mb} "
            "MB (the class's memory_mb)"
        )
    return memory


def _shm_bytes(
    request: CreateRequest, settings: Settings, options: ContainerOptions, memory: int
) -> int:
    size = (settings.shm_mb if options.shm_mb is None else options.shm_mb) * 2**20
    if "--shm-size" in request.options:
        raise DeniedError("it sets the size of /dev/shm in its ad; use shm_mb")
    if size < 2**20 or (options.shm_mb is not None and size > memory):
        raise DeniedError(
            f"it asks for {size >> 20} MB of shared memory (shm_mb), which count as memory, and "
            f"has {memory >> 20} MB"
        )
    return size


def _capabilities(settings: Settings, options: ContainerOptions) -> list[str]:
    if options.ptrace and not settings.ptrace:
        raise DeniedError("it asks to trace processes (ptrace), and isolation.ptrace is false")
    return ["SYS_PTRACE"] if options.ptrace else []


def _entrypoint(
    settings: Settings, options: ContainerOptions, image: ImageFacts
) -> dict[str, list[str]]:
    """Return nothing to run the image's entrypoint, or an entrypoint that means none.

    `auto` keeps an entrypoint that is known to run its arguments, as tini does.
    """
    rule = options.entrypoint or settings.entrypoint
    if rule not in ("auto", "run", "ignore"):
        raise DeniedError(f"entrypoint is {_quote(rule)}; use auto, run or ignore")
    if rule == "auto":
        wraps = bool(image.entrypoint) and is_wrapper(image.entrypoint)
        rule = "run" if wraps else "ignore"
    return {} if rule == "run" else {"Entrypoint": [""]}


def is_wrapper(entrypoint: tuple[str, ...]) -> bool:
    """Return whether an entrypoint is known to run the arguments that follow it."""
    # `tini -g -- entrypoint.sh`: each program of the chain has to be a wrapper.
    programs = [part for part in entrypoint if not part.startswith("-")]
    return bool(programs) and all(posixpath.basename(name) in _WRAPPERS for name in programs)


def _environment(request: CreateRequest, scratch: str) -> dict[str, str]:
    variables = dict(request.environment)
    variables.pop(CONTAINER_VARIABLE, None)
    for name in SAVED_VARIABLES:
        saved = variables.pop(SAVED_PREFIX + name, None)
        if saved is not None:
            variables[name] = saved
    variables.setdefault("HOME", f"{scratch}/{PRIVATE_DIRECTORY}/home")
    return variables


def _hostname(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]", "-", text)[:63].strip(".-")


def _quote(text: str) -> str:
    """Return text of the job for a message: printable, on one line, and not long."""
    printable = "".join(char if char.isprintable() else "?" for char in text)
    return repr(printable if len(printable) <= 120 else printable[:117] + "...")


def message(error: Exception) -> str:
    """Return a refusal as HTCondor shows it: the start of the hold's reason."""
    text = f"{REFUSED}{error}".encode()[:MAXIMUM_MESSAGE_BYTES]
    return text.decode(errors="ignore")
