"""The executor's gateway: what HTCondor runs as `docker` asks here, and the engine does the rest.

`docker` (docker.c) passes its arguments and its standard streams. The gateway decides
(gateway_policy.py) and calls the engine's API (gateway_engine.py). It serves only root and the user
condor of its own container, and knows only the containers that it created.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gateway_policy as policy
import gateway_ports
from gateway_engine import Engine, EngineError
from gateway_images import Images, PullCounts, PullError
from gateway_requests import BadRequestError, CreateRequest, parse_create
from gateway_scratch import job_image, make_private_directories, read_chirp
from gateway_server import DockerCommand, Server
from gateway_statistics import serve_statistics
from gateway_streams import pump

RUN_DIRECTORY = Path("/run/swarm-runner")
SOCKET = RUN_DIRECTORY / "gateway.sock"  # docker.c has it too
STATISTICS_SOCKET = RUN_DIRECTORY / "statistics.sock"
IMAGE_PULLS = RUN_DIRECTORY / "image_pulls"  # executor.conf has it too
CREDENTIALS = Path("/run/secrets/swarm-runner-registries")
IMAGES_DIRECTORY = ".images"  # in the scratch volume, which a node's executors share
HTCONDOR_LABEL = "org.htcondorproject"
EXECUTOR_LABEL, POOL_LABEL = "swarm-runner.executor", "swarm-runner.pool"
# What HTCondor "assigned" of the resource Image (executor.conf): the event log has it at the end.
DIGEST_ATTRIBUTE = "AssignedImage"
REMOVAL_ATTEMPTS = 5
FAILURE = 1
# The exit code of a container whose program was killed, and how long to wait for the notice that it
# was for its memory.
KILLED = 128 + signal.SIGKILL
LATE_NOTICE_S = 2.0
# The architecture of this machine, as images name it.
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass
class JobContainer:
    """A container that the gateway created.

    `state` is the engine's, once the container ended; `lost` means that `docker start` ended first.
    """

    id: str
    digest: str = ""
    chirp: tuple[str, int, str] | None = None
    state: dict[str, Any] | None = None
    lost: bool = False
    ports: Mapping[str, int] = field(default_factory=dict)


class Gateway:
    """Does what HTCondor asks for, as far as the pool allows it."""

    def __init__(
        self,
        settings: policy.Settings,
        engine: Engine,
        images: Images,
        *,
        scratch_parent: str,
        executor: str,
        pool: str,
        task: str = "",
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._images = images
        self._scratch_parent = scratch_parent
        self._labels = {HTCONDOR_LABEL: "True", EXECUTOR_LABEL: executor, POOL_LABEL: pool}
        self._executor = executor
        self._task = task
        self._containers: dict[str, JobContainer] = {}
        self._commands: dict[str, Callable[[DockerCommand, list[str]], int]] = {
            "-v": self._version,
            "info": self._info,
            "images": self._list_images,
            "inspect": self._inspect,
            "pull": self._pull,
            "create": self._create,
            "start": self._start,
            "rm": self._remove,
            "kill": self._kill,
            "pause": self._pause,
            "unpause": self._pause,
            "exec": self._exec,
            "container": self._prune,
            # The gateway keeps track of images itself.
            "tag": lambda _command, _rest: 0,
            "rmi": lambda _command, _rest: 0,
        }

    def run(self, command: DockerCommand) -> int:
        """Do one request; return the exit code. Every failure is a line on standard error."""
        name, *rest = command.arguments or [""]
        handler = self._commands.get(name)
        try:
            if handler is None:
                raise BadRequestError(f"unknown command docker {name}")
            return handler(command, rest)
        except policy.DeniedError as error:
            command.write(policy.message(error), 2)
        except (BadRequestError, PullError) as error:
            command.write(str(error), 2)
        except EngineError as error:
            command.write(f"Error response from the Docker engine: {error}", 2)
        except Exception as error:  # noqa: BLE001 - the job is held; the gateway lives on
            traceback.print_exc()
            command.write(f"swarm-runner: the executor's gateway failed: {error!r}", 2)
        return FAILURE

    def statistics(self, name: str) -> dict[str, int]:
        """Return the numbers that HTCondor reads of a running container, under its keys."""
        facts = self._engine.call(
            "GET", f"/containers/{self._own(name).id}/stats", stream=0, one_shot=1
        )
        memory = (facts.get("memory_stats") or {}).get("stats") or {}
        networks = (facts.get("networks") or {}).values()
        cpu = (facts.get("cpu_stats") or {}).get("cpu_usage") or {}
        resident = memory.get("rss", memory.get("anon", 0) + memory.get("shmem", 0))
        return {
            "rss": resident,
            "tx_bytes": sum(network.get("tx_bytes", 0) for network in networks),
            "rx_bytes": sum(network.get("rx_bytes", 0) for network in networks),
            "usage_in_usermode": cpu.get("usage_in_usermode", 0),
            "usage_in_kernelmode": cpu.get("usage_in_kernelmode", 0),
        }

    def ports(self, name: str) -> dict[str, Any]:
        """Return what HTCondor reads of a container's published ports."""
        return gateway_ports.for_htcondor(self._facts(self._own(name)))

    def _facts(self, container: JobContainer) -> dict[str, Any]:
        facts: dict[str, Any] = self._engine.call("GET", f"/containers/{container.id}/json")
        return facts

    def _node_address(self) -> str:
        """Return the node's address in the Swarm, to which ports of jobs are bound."""
        swarm = self._engine.call("GET", "/info").get("Swarm") or {}
        return str(swarm.get("NodeAddr") or "")

    def _version(self, command: DockerCommand, _rest: list[str]) -> int:
        command.write(f"Docker version {self._engine.version}, build swarm-runner-gateway")
        return 0

    def _info(self, command: DockerCommand, _rest: list[str]) -> int:
        command.write(f"Server Version: {self._engine.call('GET', '/version')['Version']}")
        return 0

    def _list_images(self, command: DockerCommand, rest: list[str]) -> int:
        """List the images for which HTCondor need not ask for a pull.

        The image of the job that asks is among them unless it is being pulled. `docker create`
        tells that it is not available: HTCondor 25.14 keeps a slot for 40 s after a failed pull.
        """
        if "--format" in rest:
            names = dict.fromkeys(self._images.known())
            reference = job_image(command.pid, self._scratch_parent)
            if reference is not None and reference not in names:
                try:
                    policy.check_image(reference, self._settings)
                    is_listed = self._images.is_decided(reference)
                except policy.DeniedError:
                    is_listed = True
                names |= dict.fromkeys(image_names(reference)) if is_listed else {}
            command.write("\n".join(f"{name} 0 0MB" for name in names))
        return 0

    def _inspect(self, command: DockerCommand, rest: list[str]) -> int:
        """Answer the three questions that HTCondor has, each of which has a format of its own."""
        if rest[:1] != ["--format"] or len(rest) < 2:
            raise BadRequestError("docker inspect without a format")
        wanted = rest[1]
        if "LastTagTime" in wanted:
            return 0  # for HTCondor's image cache, which is not in use
        if "{{.Architecture}}" in wanted:
            image = self._images.inspect(rest[2])
            command.write(image.architecture if image else "")
            return 0
        name = rest[2]
        container = self._own(name)
        facts = container.state or self._facts(container)
        state = facts["State"]
        if container.lost and state["Running"]:
            # HTCondor would take the exit code of `docker start` for the job's.
            raise EngineError(409, f"`docker start {name}` ended, and the container runs on")
        command.write(
            f'ContainerId="{facts["Id"]}"\nPid={state["Pid"]}\nName="/{name}"\n'
            f"Running={_boolean(state['Running'])}\nExitCode={state['ExitCode']}\n"
            f'StartedAt="{state["StartedAt"]}"\nFinishedAt="{state["FinishedAt"]}"\n'
            f"DockerError={json.dumps(state['Error'], ensure_ascii=False)}\n"
            f'OOMKilled="{_boolean(state["OOMKilled"])}"'
        )
        return 0

    def _pull(self, command: DockerCommand, rest: list[str]) -> int:
        reference = rest[-1]
        policy.check_image(reference, self._settings)
        self._images.ensure(reference)
        command.write(reference)
        return 0

    def _create(self, command: DockerCommand, rest: list[str]) -> int:
        request = parse_create(rest)
        policy.check_image(request.image, self._settings)
        image = self._images.inspect(request.image)
        if image is None or self._images.always:
            try:
                self._images.ensure(request.image)
            except PullError as error:
                raise PullError(f"Cannot pull image {request.image}: {error}") from None
            image = self._images.inspect(request.image)
        if image is None:
            raise PullError(f"Cannot pull image {request.image}: it has gone from the node")
        expected = ARCHITECTURES.get(os.uname().machine)
        if image.architecture and expected and image.architecture != expected:
            raise BadRequestError(
                f"Image Architecture {image.architecture} not compatible with this machine."
            )
        body = policy.container(
            request,
            self._settings,
            image,
            self._scratch_parent,
            self._labels,
            node_address=self._node_address,
        )
        scratch = policy.scratch_directory(request, self._scratch_parent)
        make_private_directories(scratch, self._settings.uid, self._settings.gid)
        chirp = read_chirp(scratch)
        name = f"{request.name}-{self._executor}"
        try:
            answer = self._engine.call("POST", "/containers/create", body, name=name)
        except EngineError as error:
            if error.status != 404:
                raise
            self._images.ensure(request.image)  # it was removed a moment ago
            answer = self._engine.call("POST", "/containers/create", body, name=name)
        self._images.note_use(request.image)
        self._containers[request.name] = JobContainer(
            answer["Id"],
            digest=_digest(request, image),
            chirp=chirp,
            ports=policy.ContainerOptions.parse(
                request.environment.get(policy.CONTAINER_VARIABLE)
            ).ports,
        )
        command.write(answer["Id"])
        return 0

    def _start(self, command: DockerCommand, rest: list[str]) -> int:
        container = self._own(rest[-1])
        try:
            return self._run(container, command)
        finally:
            container.lost = container.state is None

    def _run(self, container: JobContainer, command: DockerCommand) -> int:
        """Start a container, and pass its streams on until it ends; return its exit code."""
        stream, first = self._engine.hijack(
            f"/containers/{container.id}/attach", stream=1, stdin=1, stdout=1, stderr=1
        )
        started_at = int(time.time())
        with stream:
            self._engine.call("POST", f"/containers/{container.id}/start")
            if container.ports:
                threading.Thread(target=self._report_ports, args=(container,), daemon=True).start()
            if not pump(stream, first, command.streams, command.connection):
                return FAILURE  # the starter has gone
        self._engine.call("POST", f"/containers/{container.id}/wait", timeout_s=None)
        container.state = self._facts(container)
        state = container.state["State"]
        if not state["OOMKilled"]:
            killed = state["ExitCode"] == KILLED
            wait_s = LATE_NOTICE_S if killed else 0
            state["OOMKilled"] = self._exceeded_memory(container.id, started_at, wait_s)
        if container.chirp is not None and container.ports:
            gateway_ports.withdraw(container.chirp)
        if container.chirp is not None and container.digest:
            with contextlib.suppress(OSError, ValueError):
                value = f'"{container.digest}"'
                gateway_ports.set_attribute(container.chirp, DIGEST_ATTRIBUTE, value, delayed=True)
        return int(state["ExitCode"]) & 255

    def _report_ports(self, container: JobContainer) -> None:
        """Tell the access point where the container's ports are."""
        name = f"container {container.id[:12]}"
        began = time.monotonic()
        try:
            where = gateway_ports.published(self._facts(container))
            value = gateway_ports.attribute(self._task, container.ports, where)
            if value is None or container.chirp is None:
                log(f"the ports of {name} are not published, or the job has no chirp proxy")
                return
            gateway_ports.report(container.chirp, value)
        except (EngineError, OSError) as error:
            log(f"the ports of {name} were not reported to the access point: {error}")
        else:
            log(f"the ports of {name} were reported after {time.monotonic() - began:.1f} s")

    def _exceeded_memory(self, container_id: str, started_at: int, wait_s: float) -> bool:
        """Return whether the kernel killed a process of the container for its memory.

        The engine misses such kills in the container's state when the notice comes after the end,
        but reports them as events: most of them before `wait` returns, on a busy node later.
        """
        filters = {"container": [container_id], "event": ["oom"]}
        until = f"{time.time() + wait_s:.9f}"
        events = self._engine.stream(
            "GET", "/events", since=started_at, until=until, filters=filters
        )
        with contextlib.closing(events), contextlib.suppress(EngineError):
            return next(events, None) is not None
        return False

    def _remove(self, command: DockerCommand, rest: list[str]) -> int:
        name = rest[-1]
        container = self._own(name)
        del self._containers[name]
        if container.state is None:
            self._try_remove(container.id)
        else:  # it has ended, and its end need not wait
            threading.Thread(target=self._try_remove, args=(container.id,)).start()
        command.write(name)
        return 0

    def _try_remove(self, container_id: str) -> None:
        for attempt in range(REMOVAL_ATTEMPTS):
            time.sleep(attempt)
            try:
                self._engine.call("DELETE", f"/containers/{container_id}", force=1, v=1)
            except EngineError as error:
                if error.status == 404:
                    return
                log(f"container {container_id[:12]} was not removed: {error}")
            else:
                return

    def _kill(self, command: DockerCommand, rest: list[str]) -> int:
        name = rest[-1]
        number = rest[1] if rest[0] == "--signal" else "KILL"
        path = f"/containers/{self._own(name).id}/kill"
        self._engine.call("POST", path, signal=number)
        command.write(name)
        return 0

    def _pause(self, command: DockerCommand, rest: list[str]) -> int:
        name = rest[-1]
        self._engine.call("POST", f"/containers/{self._own(name).id}/{command.arguments[0]}")
        command.write(name)
        return 0

    def _prune(self, command: DockerCommand, rest: list[str]) -> int:
        """Remove ended containers of this executor; HTCondor asks for those of all executors."""
        if rest[:1] != ["prune"]:
            raise BadRequestError("unknown command docker container")
        label = {"label": [f"{EXECUTOR_LABEL}={self._executor}"]}
        answer = self._engine.call("POST", "/containers/prune", filters=label)
        command.write(f"Total reclaimed space: {answer.get('SpaceReclaimed', 0)}B")
        return 0

    def _exec(self, command: DockerCommand, rest: list[str]) -> int:
        """Run a program in a job's container, for condor_ssh_to_job."""
        terminal = rest[0] == "-ti"
        position, environment = 1, []
        while rest[position] == "-e":
            environment.append(rest[position + 1])
            position += 2
        container = self._own(rest[position])
        body = {
            "AttachStdin": True,
            "AttachStdout": True,
            "AttachStderr": True,
            "Tty": terminal,
            "Cmd": rest[position + 1 :],
            "Env": [text for text in environment if not text.startswith("SWARM_RUNNER_")],
        }
        path = f"/exec/{self._engine.call('POST', f'/containers/{container.id}/exec', body)['Id']}"
        stream, first = self._engine.hijack(f"{path}/start", {"Detach": False, "Tty": terminal})
        with stream:
            if not pump(stream, first, command.streams, command.connection, framed=not terminal):
                return FAILURE
        return int(self._engine.call("GET", f"{path}/json").get("ExitCode") or 0) & 255

    def _own(self, name: str) -> JobContainer:
        try:
            return self._containers[name]
        except KeyError:
            raise EngineError(404, f"No such container: {name}") from None


def image_names(reference: str) -> tuple[str, ...]:
    """Return the names by which HTCondor may look for an image: newer versions add `:latest`."""
    has_tag = "@" in reference or ":" in reference.rpartition("/")[2]
    return (reference,) if has_tag else (reference, f"{reference}:latest")


def _digest(request: CreateRequest, image: policy.ImageFacts) -> str:
    """Return the digest under which a registry has the image; else the image's own."""
    name = policy.full_name(request.image.partition("@")[0])
    for known in image.digests:
        repository, _, digest = known.partition("@")
        if name.startswith(policy.full_name(repository)):
            return digest
    return image.digests[0].partition("@")[2] if image.digests else image.id


def _boolean(value: object) -> str:
    return "true" if value else "false"


def open_files_limit() -> int:
    """Return the hard limit of open files that the engine gives to a container: its own."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return hard if hard != resource.RLIM_INFINITY else 2**20


def log(text: str) -> None:
    """Write a line to the container's log."""
    sys.stderr.write(f"swarm-runner gateway: {text}\n")
    sys.stderr.flush()


def main() -> int:
    """Serve until SIGTERM. The arguments: the executor's name and its slots' directory."""
    executor, scratch_parent, shared = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    engine = Engine()
    engine.negotiate()
    credentials = json.loads(CREDENTIALS.read_text()) if CREDENTIALS.exists() else {}
    limit_mb = os.environ.get("SWARM_RUNNER_IMAGE_CACHE_MB")
    images = Images(
        engine,
        Path(shared) / IMAGES_DIRECTORY,
        always=os.environ.get("SWARM_RUNNER_PULL") == "always",
        credentials=credentials,
        counts=PullCounts(IMAGE_PULLS),
        limit_bytes=int(limit_mb) * 2**20 if limit_mb else None,
    )
    gateway = Gateway(
        policy.Settings.from_environment(os.environ, open_files_limit()),
        engine,
        images,
        scratch_parent=scratch_parent,
        executor=executor,
        pool=os.environ["SWARM_RUNNER_POOL"],
        task=os.environ.get("SWARM_RUNNER_TASK", ""),
    )
    readers = {"stats": gateway.statistics, "json": gateway.ports}
    threading.Thread(
        target=serve_statistics, args=(readers, STATISTICS_SOCKET), daemon=True
    ).start()
    Server(gateway, SOCKET, {0, pwd.getpwnam("condor").pw_uid}).serve()
    return FAILURE


if __name__ == "__main__":
    sys.exit(main())
