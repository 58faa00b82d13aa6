"""What a job's container is allowed: the pool's rules, and what an invocation may ask for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StrictBool, StrictInt, StringConstraints
from pydantic_core import PydanticCustomError

from swarm_runner.model.text import AbsolutePath, FrozenModel, refusal

_NETWORK = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_PATTERN = re.compile(r"[A-Za-z0-9*?\[\]_./:@!-]+")
EntrypointRule = Literal["auto", "run", "ignore"]
Propagation = Literal["rprivate", "rslave"]
PortAddress = Literal["none", "node", "loopback"]
# image/gateway_policy.py has the same number.
MAXIMUM_JOB_PORTS = 8
MINIMUM_HOST_PORT, MAXIMUM_PORT = 1024, 65_535
# Variables that the gateway reads and removes; image/gateway_policy.py has the same names.
CONTAINER_VARIABLE = "SWARM_RUNNER_CONTAINER"
SAVED_VARIABLE_PREFIX = "SWARM_RUNNER_JOB_"
_OVERWRITTEN_VARIABLES = frozenset({"TMPDIR", "TEMP", "TMP"})


def _network(value: str) -> str:
    if value == "host" or not _NETWORK.fullmatch(value):
        raise PydanticCustomError(
            "network",
            "{name} cannot be a job's network; use none, bridge or the name of a Docker network "
            "(never host)",
            {"name": repr(value)},
        )
    return value


def _pattern(value: str) -> str:
    if not _PATTERN.fullmatch(value):
        raise PydanticCustomError(
            "image_pattern",
            "{pattern} is not a pattern of image names; write for example quay.io/biocontainers/*",
            {"pattern": repr(value)},
        )
    return value


def _host_ports(value: str) -> str:
    first, dash, last = value.partition("-")
    numbers = [first, last] if dash else [first, first]
    if not all(map(str.isdecimal, numbers)) or not (
        MINIMUM_HOST_PORT <= int(numbers[0]) <= int(numbers[1]) <= MAXIMUM_PORT
    ):
        raise PydanticCustomError(
            "host_ports",
            "{ports} is not a range of ports from 1024 to 65535; write for example 30000-30999",
            {"ports": repr(value)},
        )
    return value


def _container_ports(value: dict[str, int]) -> dict[str, int]:
    if len(value) > MAXIMUM_JOB_PORTS:
        raise refusal(f"has {len(value)} ports, and a job gets {MAXIMUM_JOB_PORTS} at most")
    # HTCondor makes attributes of the names, which have no case.
    for names, what in (
        ([name.lower() for name in value], "names"),
        (list(value.values()), "ports"),
    ):
        if len(set(names)) < len(names):
            raise refusal(f"has the same {what} twice; give each port one name of its own")
    return value


JobNetwork = Annotated[str, AfterValidator(_network)]
ImagePattern = Annotated[str, AfterValidator(_pattern)]
HostPorts = Annotated[str, AfterValidator(_host_ports)]
PortName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,31}$")]
ContainerPort = Annotated[StrictInt, Field(ge=1, le=MAXIMUM_PORT)]
ContainerPorts = Annotated[dict[PortName, ContainerPort], AfterValidator(_container_ports)]


class Isolation(FrozenModel):
    """What the containers of a pool's jobs are allowed. The executor's gateway enforces it."""

    network: JobNetwork = Field(
        "none", description="of a job that asks for none: `none`, `bridge`, or a Docker network"
    )
    networks: tuple[JobNetwork, ...] = Field(
        (), description="further networks that a job may ask for"
    )
    pids: StrictInt = Field(4096, ge=16, le=4_194_304, description="processes and threads of a job")
    open_files: StrictInt = Field(
        65_536, ge=64, le=1_048_576, description="open files of each process"
    )
    shm_mb: StrictInt = Field(64, ge=1, le=2**20, description="MB of /dev/shm, within the memory")
    read_only_root: StrictBool = Field(
        False, description="whether the image's own files are read-only"
    )
    ptrace: StrictBool = Field(False, description="whether a job may ask for SYS_PTRACE")
    entrypoint: EntrypointRule = Field(
        "auto",
        description="an image's ENTRYPOINT: `run`, `ignore`, or `auto`, which runs those that are "
        "known to run the command that follows them (tini, docker-entrypoint.sh, ...)",
    )
    images: tuple[ImagePattern, ...] = Field(
        ("*",), description="patterns of the images that jobs may use"
    )
    require_digest: StrictBool = Field(
        False, description="whether an image's name must contain its digest"
    )
    ports: PortAddress = Field(
        "none",
        description="where the ports that a job asks for are published: `none` refuses them, "
        "`node` is the node's address in the Swarm, `loopback` is 127.0.0.1 of the node",
    )
    host_ports: HostPorts | None = Field(
        None, description="the node's ports among which each gets a free one, such as 30000-30999"
    )

    def port_problem(self, options: ContainerOptions) -> str | None:
        """Return why a job with these options gets none of its ports; None if it gets them."""
        if not options.ports:
            return None
        if self.ports == "none":
            return (
                "asks for published ports, and the pool publishes none; its administrator sets "
                "isolation.ports to node or loopback"
            )
        if (options.network or self.network) == "none":
            return (
                "asks for published ports, and has the network none, where nothing reaches them; "
                "set container_options.network to one of isolation.networks"
            )
        return None


class ContainerOptions(FrozenModel):
    """What an invocation asks for beside its image. The pool's `isolation` limits it."""

    network: JobNetwork | None = Field(None, description="one that the pool allows")
    volumes: tuple[AbsolutePath, ...] | None = Field(
        None, description="the pool volumes that the job gets; all but those on_request when absent"
    )
    shm_mb: StrictInt | None = Field(
        None, ge=1, le=2**20, description="MB of /dev/shm, within memory_mb"
    )
    entrypoint: EntrypointRule | None = Field(None, description="the image's ENTRYPOINT")
    ptrace: StrictBool = Field(False, description="SYS_PTRACE, for debuggers")
    read_only_root: StrictBool = Field(
        False, description="whether the image's own files are read-only"
    )
    ports: ContainerPorts = Field(
        {},
        description="ports of the container that are published, `{name: port}`; what reaches the "
        "node reaches them",
    )

    def with_defaults(self, defaults: ContainerOptions | None) -> ContainerOptions:
        """Return these options, with the defaults for what they do not set."""
        if defaults is None:
            return self
        own = {name: getattr(self, name) for name in self.model_fields_set}
        return ContainerOptions(
            **{name: getattr(defaults, name) for name in defaults.model_fields_set} | own
        )


def gateway_environment(
    variables: Mapping[str, str], options: ContainerOptions | None
) -> dict[str, str]:
    """Return the variables of a job as HTCondor carries them to the executor's gateway.

    HTCondor overwrites TMPDIR, TEMP and TMP of a job. The gateway restores them, and reads the
    options.
    """
    carried = {
        f"{SAVED_VARIABLE_PREFIX}{name}" if name in _OVERWRITTEN_VARIABLES else name: value
        for name, value in variables.items()
    }
    if options is not None:
        carried[CONTAINER_VARIABLE] = options.model_dump_json(exclude_defaults=True)
    return carried
