"""Faults of executors, of the images of jobs, and of the volume that they share."""

from __future__ import annotations

import contextlib
import io
import json
import os
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import docker.errors

from swarm_runner.model.pool_status import ExecutorReplacement
from tests.faults.fault import PoolFault
from tests.faults.load import IMAGE, Load
from tests.faults.pool import FaultPool
from tests.integration.black_hole import make_black_hole
from tests.integration.process_signals import signal_processes
from tests.lab.hosts.commands import run
from tests.lab.stub_registry import CONFIG, MANIFEST, StubRegistry
from tests.polling import poll_until

JOBS = 10
RETAGGED = "swarm-runner-faults-job:1"
REGISTRY_OUTAGE_S = 15
VOLUME_STALL_S = 60
GATEWAY_STALL_S = 90
INSPECTIONS_S = 40  # HTCondor inspects such a container for 20 s
VOLUME_MB = 512
_AS_ROOT = () if os.geteuid() == 0 else ("sudo", "-n", "--")
# More than an executor of class small has; a job of this size fits into class normal.
_GREEDY = "x=$(head -c 200000000 /dev/zero | tr '\\0' a); sleep 2"
_GATEWAY = "/usr/local/libexec/swarm-runner/gateway.py"
_UNCOMPRESSED_LAYER = "application/vnd.docker.image.rootfs.diff.tar"


def _remove_executor(pool: FaultPool, _load: Load) -> str:
    executor = pool.container("normal")
    before = pool.job_containers()
    executor.remove(force=True)
    return f"one of {pool.executors} executors; {before} jobs ran on all of them"


def _make_black_hole(pool: FaultPool, load: Load) -> str:
    """Let every command fail on one of the two executors of class small, and repair."""
    other = load.fork()
    other.start_tracking()
    tools = ("bwa", "cat", "sort")

    def run_jobs(count: int) -> list[str]:
        keys = [other.new_key() for _ in range(3 * count)]
        other.submit_until_accepted(
            [
                other.invocation(key, "true", tool_id=tool, capacity_class="small")
                for key, tool in zip(keys, tools * count, strict=True)
            ]
        )
        poll_until(other.undelivered, lambda undelivered: not undelivered)
        return [key for key in keys if key in other.deliveries.failed]

    if run_jobs(10):
        raise AssertionError("jobs failed before there was a black hole")
    make_black_hole(pool.container("small"))
    failed = len(run_jobs(6))
    replaced: list[ExecutorReplacement]
    replaced, _status = pool.provisioner.repair(timeout_s=300)
    after = len(run_jobs(3))
    if len(replaced) != 1 or after:
        raise AssertionError(f"{len(replaced)} executors were replaced; {after} jobs failed later")
    return f"{failed} jobs failed before it was replaced, none later"


def _exceed_memory(_pool: FaultPool, load: Load) -> str:
    other = load.fork()
    other.start_tracking()
    other.submit_until_accepted(
        [
            other.invocation(
                other.new_key(),
                _GREEDY,
                capacity_class=None,
                resources={"memory_mb": 64, "max_memory_mb": 1100, "disk_mb": 1},
            )
            for _ in range(2)
        ]
    )
    poll_until(other.undelivered, lambda undelivered: not undelivered)
    jobs = [job for job in other.runner.jobs() if job.outcome]
    # A busy Docker 20.10 has no notice of some kills: such a job fails (docs/findings.md).
    if not any(job.outcome.ok for job in jobs if job.outcome):
        raise AssertionError("no job moved to a larger class")
    ends = [f"{job.capacity_class} ({job.outcome.kind})" for job in jobs if job.outcome]
    return f"2 jobs of 64 MB used 200 MB; they ended in class {', '.join(sorted(ends))}"


class ImageRegistry(StubRegistry):
    """A registry that has an image of the engine: jobs of it record their starts."""

    def __init__(self, client: docker.DockerClient) -> None:
        self._archive = b"".join(client.images.get(IMAGE).save(named=True))
        super().__init__()

    def _build_manifest(self) -> bytes:
        with tarfile.open(fileobj=io.BytesIO(self._archive)) as archive:

            def read(name: str) -> bytes:
                file = archive.extractfile(name)
                if file is None:
                    raise RuntimeError(f"the image's archive has no {name}")
                return file.read()

            [listed] = json.loads(read("manifest.json"))
            manifest = {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": self._add_blob(CONFIG, read(listed["Config"])),
                "layers": [
                    self._add_blob(_UNCOMPRESSED_LAYER, read(name)) for name in listed["Layers"]
                ],
            }
        return json.dumps(manifest).encode()


def _fail_pulls(pool: FaultPool, load: Load) -> str:
    client = pool.clients[0]
    other = load.fork()
    other.start_tracking()
    with ImageRegistry(client).running() as registry:
        image = f"{registry.repository}:1"
        registry.unavailable = True
        try:
            other.submit_until_accepted(
                [other.invocation(other.new_key(), "sleep 1", image=image) for _ in range(JOBS)]
            )
            time.sleep(REGISTRY_OUTAGE_S)
            registry.unavailable = False
            poll_until(other.undelivered, lambda undelivered: not undelivered)
        finally:
            with contextlib.suppress(docker.errors.APIError):
                client.images.remove(image)
    holds = sum(job.holds for job in other.runner.jobs())
    return f"{JOBS} jobs were held {holds} times and released by the runner"


def _retag_image(pool: FaultPool, load: Load) -> str:
    client = pool.clients[0]
    repository, tag = RETAGGED.split(":")
    other = load.fork()
    other.start_tracking()

    def submit() -> None:
        other.submit_until_accepted(
            [
                other.invocation(
                    other.new_key(),
                    "cat /version >>versions || echo old >>versions; sleep 5",
                    image=RETAGGED,
                )
                for _ in range(JOBS // 2)
            ]
        )

    client.images.get(IMAGE).tag(repository, tag)
    container = client.containers.create(IMAGE, ["sh", "-c", "echo new >/version"])
    try:
        submit()
        poll_until(other.start_counts, lambda counts: len(counts) == JOBS // 2)
        container.start()
        container.wait()
        container.commit(repository, tag)
        submit()
        poll_until(other.undelivered, lambda undelivered: not undelivered)
    finally:
        container.remove(force=True)
        with contextlib.suppress(docker.errors.APIError):
            client.images.remove(RETAGGED, force=True)
    versions = (other.directory / "versions").read_text().split()
    if sorted(versions) != ["new"] * (JOBS // 2) + ["old"] * (JOBS // 2):
        raise AssertionError(f"the jobs ran {versions}")
    return f"{JOBS // 2} jobs of before ran the old image, {JOBS // 2} of after the new one"


@contextlib.contextmanager
def mounted_volume(directory: Path) -> Iterator[None]:
    """Mount a file system of its own on a directory, which can be frozen. Needs root."""
    directory.mkdir(parents=True, exist_ok=True)
    if directory.is_mount():  # an earlier run was killed
        run(*_AS_ROOT, "umount", "--lazy", str(directory))
    disk = directory.with_suffix(".img")
    with disk.open("wb") as file:
        file.truncate(VOLUME_MB * 2**20)
    run("mkfs.ext4", "-q", str(disk))
    run(*_AS_ROOT, "mount", "-o", "loop,noatime", str(disk), str(directory))
    try:
        yield
    finally:
        run(*_AS_ROOT, "umount", "--lazy", str(directory))
        disk.unlink()


def _stall_volume(pool: FaultPool, _load: Load) -> None:
    """Block every write to the volume: those of jobs, of the event log and of the runner."""
    run(*_AS_ROOT, "fsfreeze", "--freeze", str(pool.volume))
    try:
        time.sleep(VOLUME_STALL_S)
    finally:
        run(*_AS_ROOT, "fsfreeze", "--unfreeze", str(pool.volume))


def _stall_gateways(pool: FaultPool, _load: Load) -> None:
    """Stop what is between HTCondor and the engine, as on a node that stalls for a while."""
    gateways = pool.containers("normal")
    for container in gateways:
        if signal_processes(container, "STOP", words=(_GATEWAY,)) != 1:
            raise RuntimeError(f"{container.name} has no gateway")
    try:
        time.sleep(GATEWAY_STALL_S)
    finally:
        for container in gateways:
            signal_processes(container, "CONT", words=(_GATEWAY,))


def _kill_docker_commands(pool: FaultPool, _load: Load) -> str:
    """HTCondor takes the exit code of `docker start` for the job's while the container runs."""
    killed = signal_processes(pool.container("normal"), "KILL", words=("start", "-a"))
    if not killed:
        raise RuntimeError("no job ran there")
    time.sleep(INSPECTIONS_S)
    return f"{killed} commands"


PULLS_FAIL = PoolFault(
    "pull failures",
    f"the registry answers 503 for {REGISTRY_OUTAGE_S} s",
    _fail_pulls,
    evicts=True,
)
RETAGGED_IMAGE = PoolFault(
    "image retagged",
    "its tag names another image while jobs of it run",
    _retag_image,
    short=True,
)
VOLUME_STALLS = PoolFault(
    "shared volume away",
    f"every write to it blocks for {VOLUME_STALL_S} s, as with NFS",
    _stall_volume,
)
FAULTS = (
    PULLS_FAIL,
    RETAGGED_IMAGE,
    PoolFault(
        "out of memory",
        "jobs outgrow their request and the executors of their class",
        _exceed_memory,
        kills=True,
        fails=True,
        short=True,
    ),
    VOLUME_STALLS,
    PoolFault(
        "node stalls",
        f"the gateways of all executors are stopped for {GATEWAY_STALL_S} s",
        _stall_gateways,
    ),
    PoolFault(
        "docker command killed",
        "SIGKILL to every `docker start` of an executor, whose containers run on",
        _kill_docker_commands,
        kills=True,
    ),
    PoolFault(
        "black hole",
        "every command fails at once on one of two executors",
        _make_black_hole,
        fails=True,
    ),
    PoolFault(
        "executor removed while claimed",
        "its container is removed by force; lease 60 s",
        _remove_executor,
        lease_s=60,
        kills=True,
    ),
)
