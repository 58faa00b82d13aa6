"""Running jobs, through the Docker engine: their output on the executor, and commands in them.

HTCondor's own condor_tail reads the output, in a container of the pool that this engine has: only
there can the executors be reached. It authenticates itself with the client's token, so that the
access point and the executor decide who may read. condor_ssh_to_job would need an sshd beside the
executor, which a job's owner could use for more than the job's container.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swarm_runner.errors import PreconditionError, UnreachableError
from swarm_runner.model.job import JobId
from swarm_runner.swarm.errors import translate_docker_errors
from swarm_runner.swarm.execution import HEADER_SIZE, STDERR, run_in_container
from swarm_runner.swarm.specs import POOL_LABEL

if TYPE_CHECKING:
    import docker
    from docker.models.containers import Container

CONNECT_TIMEOUT_S = 60
SERVICE_LABEL = "com.docker.swarm.service.name"
# While nothing comes, the reader gets empty bytes at this interval and can stop.
IDLE_INTERVAL_S = 1.0
_CHUNK = 65_536
# Not root: HTCondor's daemons know root of their own container, and permit it everything.
_USER = "nobody"
# Runs in a pool container of any version. The first line of standard input is the token; when
# standard input ends, the reader has gone.
_TAIL = """
import os, subprocess, sys, tempfile, threading
with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
    os.chmod(directory, 0o700)
    with open(os.open(f"{directory}/token", os.O_CREAT | os.O_WRONLY, 0o600), "wb") as file:
        file.write(sys.stdin.buffer.readline())
    settings = {
        "_CONDOR_SEC_TOKEN_DIRECTORY": directory,
        "_CONDOR_SEC_TOKEN_SYSTEM_DIRECTORY": directory,
        "_CONDOR_SEC_CLIENT_AUTHENTICATION_METHODS": "IDTOKENS",
    }
    host, pool = os.environ["SWARM_RUNNER_MANAGER"], os.environ["SWARM_RUNNER_POOL"]
    manager, schedd = f"{host}:{os.environ['SWARM_RUNNER_PORT']}", f"{pool}@{host}"
    if "SWARM_RUNNER_COLLECTORS" in os.environ:
        manager, schedd = os.environ["SWARM_RUNNER_COLLECTORS"], f"{pool}@"
    command = ["condor_tail", "-pool", manager, "-name", schedd, *sys.argv[1:]]
    process = subprocess.Popen(command, env={**os.environ, **settings}, stdin=subprocess.DEVNULL)
    def stop():
        sys.stdin.buffer.read()
        process.terminate()
    threading.Thread(target=stop, daemon=True).start()
    code = process.wait()
sys.stdout.flush()
os._exit(code)
"""


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How a command in a job's container ended, and what it wrote."""

    exit_code: int
    stdout: bytes
    stderr: bytes


class JobContainers:
    """The containers of one pool's running jobs, as far as one Docker engine reaches them.

    Every method raises UnreachableError if the engine does not answer, and PreconditionError if it
    has no container that the operation needs.

    Args:
        pool: The pool's name.
        token_file: The client's token for the pool.
        client: Selects the engine; without it, DOCKER_HOST or the docker context does.
    """

    def __init__(
        self, pool: str, token_file: Path, client: docker.DockerClient | None = None
    ) -> None:
        self._pool = pool
        self._token_file = token_file
        self._injected_client = client

    @cached_property
    def _client(self) -> docker.DockerClient:
        from swarm_runner.swarm.connection import connect

        return self._injected_client or connect(CONNECT_TIMEOUT_S)

    def tail(self, job: JobId, stream: str, *, maximum_bytes: int, follow: bool) -> Iterator[bytes]:
        """Yield a running job's standard output or standard error, on whichever node it runs.

        See runner.job_output.LiveOutput.
        """
        arguments = ["-maxbytes", str(maximum_bytes)]
        arguments += ["-follow"] if follow else []
        arguments += ["-stderr"] if stream == "stderr" else ["-no-stdout"]
        arguments.append(str(job))
        # HTCondor 25.14 repeats standard output from its beginning, unless it is named as a file.
        arguments += [] if stream == "stderr" else ["_condor_stdout"]
        container = self._pool_container()
        try:
            token = self._token_file.read_bytes().split(b"\n")[0]
        except OSError as error:
            raise UnreachableError(
                f"the token {self._token_file} cannot be read: {error}"
            ) from error
        with self._exec(container, ["python3", "-c", _TAIL, *arguments], user=_USER) as execution:
            execution.write_input(token + b"\n")
            yield from execution.output()
            if execution.exit_code() and not follow:
                message = execution.errors.decode(errors="replace").strip()
                raise PreconditionError(
                    f"HTCondor cannot read the output of job {job}: "
                    f"{message or 'it does not run any more'}"
                )

    def run(self, job: JobId, command: Sequence[str], write: Callable[[int, bytes], None]) -> int:
        """Run a command in the job's container, as the job's user; return its exit code.

        `write` receives what it writes to standard output (1) and standard error (2). The job must
        run on this engine's own node. It is the caller who makes sure that the job is theirs.
        """
        return run_in_container(self.find(job), command, write)

    def find(self, job: JobId) -> Container:
        """Return the container of a running job on this engine's node."""
        filters: dict[str, str | list[str] | bool] = {
            "label": f"{POOL_LABEL}={self._pool}",
            "name": f"^/?HTCJob{job.cluster}_{job.proc}_",
        }
        with translate_docker_errors(f"looking for the container of job {job}"):
            found = self._client.containers.list(filters=filters)
            if not found:
                node = self._client.info()["Name"]
                raise PreconditionError(
                    f"node {node} has no container of job {job}; run the command on the job's own "
                    "node (`swarm-runner jobs` shows it), or with DOCKER_HOST=ssh://NODE"
                )
        return found[0]

    def _pool_container(self) -> Container:
        """Return a container of the pool that is in its overlay network."""
        filters: dict[str, str | list[str] | bool] = {
            "label": f"{POOL_LABEL}={self._pool}",
            "status": "running",
        }
        with translate_docker_errors(f"looking for a container of pool {self._pool}"):
            for container in self._client.containers.list(filters=filters):
                environment = container.attrs["Config"]["Env"] or []
                if any(text.startswith("SWARM_RUNNER_ROLE=") for text in environment):
                    return container
            node = self._client.info()["Name"]
        raise PreconditionError(
            f"node {node} has neither the central manager nor an executor of pool {self._pool}; "
            "name a node that has one with DOCKER_HOST"
        )

    @contextlib.contextmanager
    def _exec(
        self, container: Container, command: Sequence[str], user: str = ""
    ) -> Iterator[_Execution]:
        api: Any = self._client.api
        with translate_docker_errors(f"running {command[0]} in {container.name}"):
            identifier = api.exec_create(container.id, list(command), stdin=True, user=user)["Id"]
            connection = api.exec_start(identifier, socket=True)
        execution = _Execution(api, identifier, connection)
        try:
            yield execution
        finally:
            execution.close()


class _Execution:
    """One command that runs in a container, and the connection to its standard streams."""

    def __init__(self, api: Any, identifier: str, connection: Any) -> None:
        self._api = api
        self._id = identifier
        self._connection = connection
        # docker-py returns a file object around the socket, which lacks what came with the response
        # (see execution.py): the command must read its input before it writes.
        self._socket: socket.socket = getattr(connection, "_sock", connection)
        self._buffer = b""
        self.errors = b""

    def write_input(self, data: bytes) -> None:
        self._socket.sendall(data)

    def output(self) -> Iterator[bytes]:
        """Yield standard output, and empty bytes while nothing comes; keep standard error."""
        for number, data in self._frames():
            if number == STDERR:
                self.errors = (self.errors + data)[-_CHUNK:]
            else:
                yield data

    def _frames(self) -> Iterator[tuple[int, bytes]]:
        """Yield the number of a stream and what was written to it; (1, b"") while nothing comes."""
        self._socket.settimeout(IDLE_INTERVAL_S)
        while True:
            while len(self._buffer) >= HEADER_SIZE:
                size = int.from_bytes(self._buffer[4:HEADER_SIZE], "big")
                end = HEADER_SIZE + size
                if len(self._buffer) < end:
                    break
                yield self._buffer[0], self._buffer[HEADER_SIZE:end]
                self._buffer = self._buffer[end:]
            try:
                data = self._socket.recv(_CHUNK)
            except TimeoutError:
                yield 1, b""
                continue
            except OSError as error:
                raise UnreachableError(f"the connection to the engine broke: {error}") from error
            if not data:
                return
            self._buffer += data

    def exit_code(self) -> int:
        with translate_docker_errors("reading a command's exit code"):
            return int(self._api.exec_inspect(self._id)["ExitCode"] or 0)

    def close(self) -> None:
        self._connection.close()
        self._socket.close()
