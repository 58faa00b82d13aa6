"""Reading and writing the queue's files through a Docker engine, for backups."""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import partial
from typing import IO, TYPE_CHECKING

from swarm_runner.errors import PreconditionError
from swarm_runner.swarm.errors import translate_docker_errors
from swarm_runner.swarm.execution import STDERR, run_in_container
from swarm_runner.swarm.specs import POOL_LABEL, SPOOL, Stack

if TYPE_CHECKING:
    import docker

_VERSION_COMMAND = ("condor_config_val", "CONDOR_VERSION")
_CHECK_EMPTY = f"import pathlib, sys; sys.exit(any(pathlib.Path({SPOOL!r}).iterdir()))"


def copy_output(
    client: docker.DockerClient, service: str, command: list[str], file: IO[bytes]
) -> bool:
    """Write the output of a command in a service's container on this engine to a file.

    Return whether there is a container. Raises PreconditionError if the command fails.
    """
    label: dict[str, str | list[str] | bool] = {"label": f"com.docker.swarm.service.name={service}"}
    with translate_docker_errors(f"running {command[0]} in {service}"):
        for container in client.containers.list(filters=label):
            errors = io.BytesIO()
            write = partial(_write_stream, {1: file, STDERR: errors})
            code = run_in_container(container, command, write)
            if code:
                raise PreconditionError(
                    f"running {command[0]} in {service}: exit code {code}: "
                    f"{errors.getvalue().decode(errors='replace').strip()}"
                )
            return True
    return False


def _write_stream(files: Mapping[int, IO[bytes]], number: int, data: bytes) -> None:
    files[number].write(data)


def image_version(client: docker.DockerClient, image: str) -> str:
    """Return the version of HTCondor in a pool image."""
    with translate_docker_errors(f"reading the version of HTCondor in {image}"):
        output: bytes = client.containers.run(
            image, list(_VERSION_COMMAND), entrypoint="", remove=True, network_mode="none"
        )
    return output.decode().strip()


def fill_spool(client: docker.DockerClient, stack: Stack, archive: IO[bytes]) -> None:
    """Unpack a tar file into a new pool's spool, on this engine.

    Raises PreconditionError if it has files.
    """
    from docker import types

    if stack.pool.spool is None:
        source = stack.spool_volume
        with translate_docker_errors(f"creating volume {source}"):
            client.volumes.create(source, labels={POOL_LABEL: stack.pool.name})
    else:
        source = stack.pool.spool
    with translate_docker_errors(f"writing the queue to {source}"):
        container = client.containers.create(
            stack.image,
            ["-c", _CHECK_EMPTY],
            entrypoint="python3",
            mounts=[types.Mount(SPOOL, source, type="bind" if stack.pool.spool else "volume")],
            network_mode="none",
        )
        try:
            container.start()
            if container.wait()["StatusCode"]:
                raise PreconditionError(
                    f"{source} has files already: it is the spool of a pool. `swarm-runner pool "
                    "down` removes it"
                )
            container.put_archive(SPOOL, archive)
        finally:
            container.remove(force=True)
