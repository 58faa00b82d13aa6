"""What HTCondor asks of `docker`, as values. Source: src/condor_utils/docker-api.cpp of 25.x."""

from __future__ import annotations

from dataclasses import dataclass, field

# Options of `docker create` that HTCondor writes, and how many arguments follow them.
_VALUE_OPTIONS = frozenset(
    {
        *("--cpu-shares", "--cpuset-cpus", "--memory", "--cap-drop", "--cap-add", "--security-opt"),
        *("--name", "--label", "--log-driver", "-e", "--volume", "--device", "--workdir", "--user"),
        *("--group-add", "--network", "--hostname", "-p", "--pull", "--shm-size", "--entrypoint"),
    }
)
_FLAGS = frozenset({"--init"})
_REPEATED = frozenset(
    {
        *("--cap-drop", "--cap-add", "--security-opt", "--label", "-e", "--volume", "--device"),
        *("--group-add", "-p"),
    }
)


class BadRequestError(Exception):
    """HTCondor asked for something that the gateway does not know."""


@dataclass(frozen=True)
class CreateRequest:
    """The arguments of `docker create`, as HTCondor writes them for one job."""

    name: str
    image: str
    command: tuple[str, ...]
    environment: dict[str, str]
    volumes: tuple[str, ...]
    working_directory: str
    user: str
    options: dict[str, str] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()


def parse_create(arguments: list[str]) -> CreateRequest:
    """Return the request in the arguments after `create`.

    Raises BadRequestError if an option is unknown, comes twice or lacks its value.
    """
    single: dict[str, str] = {}
    repeated: dict[str, list[str]] = {name: [] for name in _REPEATED}
    position = 0
    while position < len(arguments) and arguments[position].startswith("-"):
        name, equals, value = arguments[position].partition("=")
        position += 1
        if name in _FLAGS and not equals:
            continue
        if name not in _VALUE_OPTIONS:
            raise BadRequestError(f"unknown option {name} of docker create")
        if not equals:
            if position == len(arguments):
                raise BadRequestError(f"option {name} of docker create has no value")
            value = arguments[position]
            position += 1
        if name in _REPEATED:
            repeated[name].append(value)
        elif name in single:
            raise BadRequestError(f"option {name} of docker create comes twice")
        else:
            single[name] = value
    missing = [
        name for name in ("--name", "--user", "--workdir", "--memory") if not single.get(name)
    ]
    if missing or position == len(arguments):
        raise BadRequestError(f"docker create lacks {', '.join(missing) or 'an image'}")
    # The program that HTCondor passes as --entrypoint is the job's own.
    program = [single["--entrypoint"]] if "--entrypoint" in single else []
    return CreateRequest(
        name=single.pop("--name"),
        image=arguments[position],
        command=(*program, *arguments[position + 1 :]),
        environment=dict(_variable(text) for text in repeated["-e"]),
        volumes=tuple(repeated["--volume"]),
        working_directory=single.pop("--workdir"),
        user=single.pop("--user"),
        options=single,
        groups=tuple(repeated["--group-add"]),
        devices=tuple(repeated["--device"]),
        ports=tuple(repeated["-p"]),
        capabilities=tuple(repeated["--cap-add"]),
    )


def _variable(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


def memory_bytes(text: str) -> int:
    """Return the number of bytes in HTCondor's `--memory`, which is in MiB: `128m`.

    Raises BadRequestError for anything else: a job without a limit is not started.
    """
    number = text.removesuffix("m")
    if not text.endswith("m") or not number.isdecimal() or int(number) < 1:
        raise BadRequestError(f"the memory limit {text!r} is not a number of MB")
    return int(number) * 2**20
