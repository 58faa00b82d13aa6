"""PID 1's child in the pool image: prepares a role, runs condor_master, tidies up after it."""

import contextlib
import grp
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

CONFIG_DIRECTORY = Path("/etc/condor/config.d")
SHARE_DIRECTORY = Path("/usr/local/share/swarm-runner")
SCRATCH_DIRECTORY = Path("/var/lib/swarm-runner/scratch")
SPOOL_DIRECTORY = Path("/var/lib/swarm-runner/spool")
LOG_DIRECTORY = Path("/dev/shm/condor")  # noqa: S108 - as executor.conf says
DOCKER_SOCKET = Path("/var/run/docker.sock")
OWNER_LABEL = "swarm-runner.executor"  # set by docker-wrapper on each job's container
KVM_DEVICE = Path("/dev/kvm")
SIDECAR_LABEL, NO_KVM_EXIT_CODE = "swarm-runner.twin-of", 3  # see twin.py


def main() -> int:
    """Run one role until condor_master ends; SIGTERM makes it finish its jobs first."""
    role = os.environ["SWARM_RUNNER_ROLE"]
    make_user()
    for name in ("common.conf", f"{role}.conf"):
        shutil.copy(SHARE_DIRECTORY / name, CONFIG_DIRECTORY / name)
    address = overlay_address()
    (CONFIG_DIRECTORY / "address.conf").write_text(
        f"NETWORK_INTERFACE = {address}\nPRIVATE_NETWORK_INTERFACE = {address}\n"
    )
    if role == "executor":
        return Executor().run()
    make_condor_directory(SPOOL_DIRECTORY)
    return run_condor_master()


def check_gpus() -> None:
    """End if Swarm gave us GPUs that have no names: HTCondor takes a number for a count."""
    given = os.environ.get("DOCKER_RESOURCE_GPU", "")
    if any(name.strip().isdigit() for name in given.split(",")):
        sys.exit(
            f"swarm-runner: the node's GPUs are {given!r}; its daemon.json must name each by its "
            'UUID: "node-generic-resources": ["gpu=GPU-...", ...]'
        )


def overlay_address() -> str:
    """Our address on the pool's overlay: the one from which the manager's name is reached."""
    if os.environ["SWARM_RUNNER_ROLE"] == "manager":
        host = socket.gethostname()
    else:
        host = os.environ["SWARM_RUNNER_MANAGER"]
    for _ in range(60):
        try:
            target = socket.getaddrinfo(host, 9, socket.AF_INET, socket.SOCK_DGRAM)[0][4]
            break
        except socket.gaierror:
            # The manager's name appears when its task runs.
            signal.sigtimedwait([signal.SIGTERM], 1)
    else:
        sys.exit(f"swarm-runner: the manager's name {host} does not resolve")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(target)
        return str(probe.getsockname()[0])


def make_user() -> None:
    """The account that jobs run as: the same name and ids on the access point and executors."""
    name, uid, gid = (os.environ[f"SWARM_RUNNER_USER_{what}"] for what in ("NAME", "UID", "GID"))
    try:
        group = grp.getgrgid(int(gid)).gr_name
    except KeyError:
        subprocess.run(["/usr/sbin/groupadd", "--gid", gid, name], check=True)
        group = name
    try:
        pwd.getpwnam(name)
    except KeyError:
        command = [
            "/usr/sbin/useradd",
            "--non-unique",
            "--uid",
            uid,
            "--gid",
            group,
            "--no-create-home",
        ]
        subprocess.run(
            [*command, "--home-dir", "/", "--shell", "/usr/sbin/nologin", name], check=True
        )


def make_condor_directory(path: Path) -> None:
    """Make a directory as HTCondor wants its own: a slot on another's is advertised as broken."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o755)
    shutil.chown(path, "condor", "condor")


def run_condor_master(each_minute: Callable[[], None] = lambda: None) -> int:
    """Run condor_master in the foreground, hand it our signals, return its exit code."""
    # A process of its own, so that what follows it can tidy up.
    master = subprocess.Popen(["/usr/sbin/condor_master", "-f"])
    for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, lambda got, _frame: master.send_signal(got))
    while True:
        try:
            code = master.wait(timeout=60)
            break
        except subprocess.TimeoutExpired:
            each_minute()
    return 0 if code >= 0 else 128 - code


def run_libvirtd() -> None:
    """Run libvirtd, again when it ends: guests outlive it, and HTCondor never asks after it."""
    while True:
        subprocess.run(["/usr/sbin/libvirtd"], check=False)
        time.sleep(1)


class Executor:
    """A startd whose jobs are containers beside its own, on the node's engine."""

    def __init__(self) -> None:
        import docker  # the manager has no engine

        self.docker_client = docker.from_env()
        self.container_id = socket.gethostname()
        self.scratch_directory = SCRATCH_DIRECTORY / self.container_id

    def run(self) -> int:
        """Prepare, serve until condor_master ends, leave nothing behind."""
        check_gpus()
        if self._needs_kvm_sidecar():
            code = self._run_kvm_sidecar()
            if code != NO_KVM_EXIT_CODE:
                return code
        if "SWARM_RUNNER_VIRTUAL_MACHINES" in os.environ:
            code = self._enable_virtual_machines()
            if code:
                return code
        return self._serve()

    def _serve(self) -> int:
        self._join_docker_group()
        self._clear_leftovers()
        make_condor_directory(self.scratch_directory)
        make_condor_directory(LOG_DIRECTORY)
        execute = self._link_scratch_to_host_path() / self.container_id
        Path("/run/swarm-runner-executor").write_text(self.container_id)
        Path("/run/swarm-runner-pool").write_text(os.environ["SWARM_RUNNER_POOL"])
        volumes = [path for path in os.environ["SWARM_RUNNER_VOLUMES"].split("\n") if path]
        lines = [f"EXECUTE = {execute}"]
        names = []
        for number, volume in enumerate(volumes):
            names.append(f"V{number}")
            lines.append(f"DOCKER_VOLUME_DIR_V{number} = {volume}")
            # A job that runs in place gets its directory mounted; Docker takes no path twice.
            directory = json.dumps(volume.partition(":")[0], ensure_ascii=False)
            lines.append(
                f"DOCKER_VOLUME_DIR_V{number}_MOUNT_IF = "
                f'!(TARGET.ShouldTransferFiles =?= "NO" && TARGET.Iwd =?= {directory})'
            )
        if names:
            lines.append(f"DOCKER_MOUNT_VOLUMES = {', '.join(names)}")
        (CONFIG_DIRECTORY / "executor-volumes.conf").write_text("\n".join([*lines, ""]))
        try:
            return run_condor_master(self._try_clear_leftovers)
        finally:
            self._remove_containers(self.container_id)
            shutil.rmtree(self.scratch_directory, ignore_errors=True)

    def _needs_kvm_sidecar(self) -> bool:
        """Whether its virtual machines may have a KVM, which Swarm does not give it."""
        wants = "SWARM_RUNNER_VIRTUAL_MACHINES" in os.environ
        return wants and "SWARM_RUNNER_TWIN" not in os.environ and not KVM_DEVICE.exists()

    def _run_kvm_sidecar(self) -> int:
        """Run in a second container, which has it; the exit code is its own."""
        command = [sys.executable, str(Path(__file__).with_name("twin.py")), self.container_id]
        twin = subprocess.Popen(command)
        for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP):
            signal.signal(number, lambda got, _frame: twin.send_signal(got))
        code = twin.wait()
        for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        return code

    def _enable_virtual_machines(self) -> int:
        """Run libvirt, which the image's variant for virtual machines has; 0 if that can be."""
        prepare = Path(__file__).with_name("hypervisor.py")
        code = subprocess.run([sys.executable, str(prepare)], check=False).returncode
        if code:
            return code  # NO_KVM is for the first container to hear
        shutil.copy(SHARE_DIRECTORY / "vm.conf", CONFIG_DIRECTORY)
        threading.Thread(target=run_libvirtd, daemon=True).start()
        return 0

    def _join_docker_group(self) -> None:
        gid = DOCKER_SOCKET.stat().st_gid
        try:
            group = grp.getgrgid(gid).gr_name
        except KeyError:
            group = "engine"
            subprocess.run(["/usr/sbin/groupadd", "--gid", str(gid), group], check=True)
        subprocess.run(["/usr/sbin/usermod", "--append", "--groups", group, "condor"], check=True)

    def _link_scratch_to_host_path(self) -> Path:
        """Give the scratch volume the path that it has on the node.

        A job's scratch directory is mounted by the node's engine, so the path that HTCondor
        names must be the node's. Swarm made the volume; the engine knows where it lies.
        """
        for mount in self.docker_client.containers.get(self.container_id).attrs["Mounts"]:
            if mount["Destination"] == str(SCRATCH_DIRECTORY):
                there = Path(mount["Source"])
                break
        else:
            sys.exit(f"swarm-runner: nothing is mounted at {SCRATCH_DIRECTORY}")
        there.parent.mkdir(parents=True, exist_ok=True)
        if not there.exists():
            there.symlink_to(SCRATCH_DIRECTORY)
        return there

    def _clear_leftovers(self) -> None:
        """Scratch directories and job containers of executors that are gone from this node.

        At the start and each minute: one that was killed may have no successor here.
        """
        import docker

        SCRATCH_DIRECTORY.mkdir(parents=True, exist_ok=True)
        SCRATCH_DIRECTORY.chmod(0o755)
        directories = list(SCRATCH_DIRECTORY.iterdir())
        marks = [f"swarm-runner.pool={os.environ['SWARM_RUNNER_POOL']}", OWNER_LABEL]
        jobs = self.docker_client.containers.list(
            all=True, filters={"label": marks}, ignore_removed=True
        )
        owners = {job.labels[OWNER_LABEL] for job in jobs}
        # Looked up last: whoever made one of these is alive by now, or was.
        alive = {
            container.short_id
            for container in self.docker_client.containers.list(ignore_removed=True)
        }
        for gone in owners - alive:
            self._remove_containers(gone)
        for twin in self.docker_client.containers.list(
            all=True, filters={"label": SIDECAR_LABEL}, ignore_removed=True
        ):
            if twin.labels[SIDECAR_LABEL] not in alive:
                with contextlib.suppress(docker.errors.APIError):
                    twin.remove(force=True)
        for directory in directories:
            if directory.name not in alive:
                shutil.rmtree(directory, ignore_errors=True)

    def _try_clear_leftovers(self) -> None:
        """Jobs run: an engine that is away for a moment must not end their executor."""
        import docker

        with contextlib.suppress(docker.errors.DockerException, OSError):
            self._clear_leftovers()

    def _remove_containers(self, executor: str) -> None:
        import docker

        label = f"{OWNER_LABEL}={executor}"
        for container in self.docker_client.containers.list(
            all=True, filters={"label": label}, ignore_removed=True
        ):
            try:
                container.remove(force=True, v=True)
            except docker.errors.APIError:
                continue  # the starter was quicker


if __name__ == "__main__":
    sys.exit(main())
