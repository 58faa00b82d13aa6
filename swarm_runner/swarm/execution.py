"""Commands in containers, through the Docker engine.

docker-py's `exec_run` and `exec_start` ask the engine to upgrade the connection, and read what
follows from the socket: on a busy machine, what arrives together with the response's headers is
lost, and the exit code is 0. Without an upgrade, the output is the response's body, and complete.

By ssh, a connection that is to end after the response is closed before its body: there, the upgrade
is needed. What follows the headers is read where they are, through their buffer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from swarm_runner.errors import UnreachableError
from swarm_runner.swarm.engine_api import SSH_URL
from swarm_runner.swarm.errors import translate_docker_errors

if TYPE_CHECKING:
    from docker.models.containers import Container

HEADER_SIZE = 8
STDERR = 2
_UPGRADE = {"Connection": "Upgrade", "Upgrade": "tcp"}


@dataclass(frozen=True)
class Completed:
    """What a command that has ended wrote, and its exit code."""

    exit_code: int
    output: bytes
    errors: bytes


def execute(container: Container, command: Sequence[str], **settings: Any) -> Completed:
    """Run a command in a container. See `run_in_container`."""
    streams = {1: bytearray(), STDERR: bytearray()}

    def write(number: int, data: bytes) -> None:
        streams[number] += data

    code = run_in_container(container, command, write, **settings)
    return Completed(code, bytes(streams[1]), bytes(streams[STDERR]))


def run_in_container(
    container: Container,
    command: Sequence[str],
    write: Callable[[int, bytes], object],
    **settings: Any,
) -> int:
    """Run a command in a container; return its exit code.

    Args:
        container: A running container.
        command: The program and its arguments.
        write: Receives what the command writes to standard output (1) and standard error (2).
        settings: What docker-py's `exec_create` accepts, such as `user` and `environment`.

    Raises what `translate_docker_errors` raises, and UnreachableError if the connection ends before
    the command does.
    """
    import docker.errors
    import requests

    client: Any = container.client
    api = client.api
    action = f"running {command[0]} in {container.name}"
    upgrade = _UPGRADE if api.base_url == SSH_URL else {}
    with translate_docker_errors(action):
        process = api.exec_create(container.id, list(command), **settings)["Id"]
        address = f"{api.base_url}/v{api.api_version}/exec/{process}/start"
        request = {"Detach": False, "Tty": False}
        response = api.post(address, json=request, headers=upgrade, stream=True)
    with response:
        with translate_docker_errors(action):
            try:
                response.raise_for_status()
            except requests.HTTPError as error:
                raise docker.errors.create_api_error_from_http_exception(error) from error
        # Errors of `write` are not the engine's.
        body = response.raw._fp.fp if upgrade else response.raw  # noqa: SLF001 (as docker-py)
        for number, data in _frames(body, action):
            write(number, data)
    with translate_docker_errors(action):
        code = api.exec_inspect(process)["ExitCode"]
    if code is None:
        raise UnreachableError(f"{action}: the connection to the engine ended before the command")
    return int(code)


def _frames(body: Any, action: str) -> Iterator[tuple[int, bytes]]:
    """Yield the number of a stream and what was written to it (Docker API, "Attach")."""
    while True:
        with translate_docker_errors(action):
            header = body.read(HEADER_SIZE)
            data = body.read(int.from_bytes(header[4:], "big"))
        if len(header) < HEADER_SIZE:
            return
        yield header[0], data
