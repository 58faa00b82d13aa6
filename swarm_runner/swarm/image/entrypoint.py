"""Entry point of the pool image: configures a role, runs condor_master and cleans up."""

import contextlib
import grp
import os
import pwd
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CONFIG_DIRECTORY = Path("/etc/condor/config.d")
SHARE_DIRECTORY = Path("/usr/local/share/swarm-runner")
SCRATCH_DIRECTORY = Path("/var/lib/swarm-runner/scratch")
SPOOL_DIRECTORY = Path("/var/lib/swarm-runner/spool")
LOG_DIRECTORY = Path("/dev/shm/condor")  # noqa: S108 - LOG in executor.conf
GATEWAY_DIRECTORY = Path("/run/swarm-runner")  # gateway.py and docker.c have it too
GATEWAY_SOCKETS = ("gateway.sock", "statistics.sock")
GATEWAY_START_TIMEOUT_S = 60
OWNER_LABEL = "swarm-runner.executor"  # the gateway sets it on every job's container
IMAGES_DIRECTORY = ".images"  # of the gateways, in the scratch volume
KVM_DEVICE = Path("/dev/kvm")
RESOLVER = Path("/etc/resolv.conf")
GATEWAY_EXIT_CODE = 4
SHORT_ID = 12  # the characters of a container's ID in its host name
# The open files that HTCondor's daemons ask for (its defaults). Where the engine's hard limit is
# lower, they keep the soft one, often 1,024, and only their logs say so.
OPEN_FILES = {"COLLECTOR": 10_240, "SCHEDD": 20_000, "SHARED_PORT": 20_000}
KILL_TIMEOUT_S = 5.0
# Attributes of a schedd's ad: the Swarm task and the node of the manager that has the queue.
OWN_ADDRESS = (("TaskId", "SWARM_RUNNER_TASK"), ("Node", "SWARM_RUNNER_NODE"))
SIDECAR_LABEL, NO_KVM_EXIT_CODE = "swarm-runner.twin-of", 3  # see kvm_sidecar.py


def main() -> int:
    """Run the role in SWARM_RUNNER_ROLE until condor_master exits; SIGTERM drains it."""
    role = os.environ["SWARM_RUNNER_ROLE"]
    make_user()
    for name in ("common.conf", f"{role}.conf"):
        shutil.copy(SHARE_DIRECTORY / name, CONFIG_DIRECTORY / name)
    address = overlay_address()
    (CONFIG_DIRECTORY / "address.conf").write_text(
        f"NETWORK_INTERFACE = {address}\nPRIVATE_NETWORK_INTERFACE = {address}\n"
    )
    (CONFIG_DIRECTORY / "open-files.conf").write_text(limit_open_files())
    configure_sources()
    shorten_dns_waits()
    configure_several_managers(role)
    if role == "executor":
        return Executor().run()
    make_condor_directory(SPOOL_DIRECTORY)
    if "SWARM_RUNNER_COLLECTORS" in os.environ:
        return run_one_of_several_managers()
    configure_access_point()
    return run_condor_master()


def configure_sources() -> None:
    """Write from where executors fetch inputs that are URLs, where no job's ad can change it."""
    import source_policy

    (CONFIG_DIRECTORY / "sources.conf").write_text(source_policy.configuration(os.environ))
    sources = os.environ.get("SWARM_RUNNER_SOURCES", "[]")
    source_policy.SETTINGS_FILE.write_text(sources)


def configure_several_managers(role: str) -> None:
    """Write what differs in a pool with several managers: executors know the collector of each."""
    collectors = os.environ.get("SWARM_RUNNER_COLLECTORS", "")
    if not collectors:
        return
    if role == "executor":
        lines = [f"COLLECTOR_HOST = {collectors}"]
    else:
        # The same on every manager, without a host name: job IDs contain it.
        lines = [f"SCHEDD_NAME = {os.environ['SWARM_RUNNER_POOL']}@"]
        lines += [f'Swarm{name} = "{os.environ[variable]}"' for name, variable in OWN_ADDRESS]
        lines.append("SCHEDD_ATTRS = $(SCHEDD_ATTRS) SwarmTaskId SwarmNode")
    (CONFIG_DIRECTORY / "several-managers.conf").write_text("\n".join([*lines, ""]))


def run_one_of_several_managers() -> int:
    """Wait until this manager has the queue, and run condor_master then."""
    import queue_lock

    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, lambda _received, _frame: stopping.set())
    lock = queue_lock.QueueLock(SPOOL_DIRECTORY, queue_lock.own_record(os.environ))
    try:
        has_queue = lock.acquire(stopping)
    except queue_lock.PoolRemovedError:
        sys.stderr.write(
            f"swarm-runner: the pool of {os.environ['SWARM_RUNNER_SPOOL']} was taken down; if this "
            "is a new one, remove the files in that directory\n"
        )
        return queue_lock.LOST_EXIT_CODE
    if not has_queue:
        lock.leave()
        return 0
    sys.stderr.write(f"swarm-runner: this manager has the queue (term {lock.term})\n")
    holder = queue_lock.Holder(lock, kill_daemons, IdentityWatcher().check)
    holder.start()
    configure_access_point()
    code = 0 if stopping.is_set() else run_condor_master()
    holder.release()
    return code


class IdentityWatcher:
    """Applies tokens that were created or revoked in the container of another manager."""

    def __init__(self) -> None:
        self._changed_at = self._modified()

    def check(self) -> None:
        """Restore the identities if the record of tokens has changed."""
        import identities

        changed_at = self._modified()
        if changed_at != self._changed_at:
            self._changed_at = changed_at
            identities.restore()
            identities.reconfigure()

    @staticmethod
    def _modified() -> int:
        import identities

        record = SPOOL_DIRECTORY / identities.RECORD_NAME
        return record.stat().st_mtime_ns if record.exists() else 0


def kill_daemons() -> bool:
    """Kill every other process of this container. Return whether all of them have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    deadline = time.monotonic() + KILL_TIMEOUT_S
    while others := other_processes():
        if time.monotonic() > deadline:
            sys.stderr.write(f"swarm-runner: processes that do not end: {sorted(others)}\n")
            return False
        time.sleep(0.05)
    return True


def other_processes() -> set[int]:
    """Return the processes of this container except this one and its init process."""
    others = set()
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit() and int(directory.name) not in (1, os.getpid()):
            with contextlib.suppress(OSError):
                # The state follows the name, which is in parentheses. A zombie has ended.
                state = (directory / "stat").read_text().rpartition(") ")[2][0]
                if state not in "ZX":
                    others.add(int(directory.name))
    return others


def configure_access_point() -> None:
    """Write what the access point accepts, restore the identities, and watch its shadows."""
    import access_point_policy
    import fair_shares
    import identities
    import shadow_watch

    policy = access_point_policy.from_environment(os.environ)
    (CONFIG_DIRECTORY / "access-point.conf").write_text(policy)
    shares = fair_shares.from_environment(os.environ)
    (CONFIG_DIRECTORY / "shares.conf").write_text(fair_shares.configuration(shares))
    arguments = (shares, os.environ["SWARM_RUNNER_POOL"])
    threading.Thread(target=fair_shares.apply_to_users, args=arguments, daemon=True).start()
    identities.restore()
    shadow_watch.start()


def shorten_dns_waits() -> None:
    """Wait for a name server for two seconds instead of ten.

    HTCondor's daemons ask for the name of each new peer before they answer it, and wait for that
    themselves. Where the node's name servers do not answer, every first contact would take so long.
    """
    with contextlib.suppress(OSError), RESOLVER.open("a") as file:
        file.write("options timeout:1 attempts:2\n")


def limit_open_files() -> str:
    """Let HTCondor's daemons ask for what the engine allows; return the configuration."""
    _, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed == resource.RLIM_INFINITY or allowed >= max(OPEN_FILES.values()):
        return ""
    sys.stderr.write(
        f"swarm-runner: the engine allows {allowed} open files in a container, and HTCondor asks "
        f"for {max(OPEN_FILES.values())}: a large pool needs them. Raise LimitNOFILE of the "
        "engine's systemd unit, or the hard limit of nofile in default-ulimits of its daemon.json\n"
    )
    return "".join(
        f"{daemon}_MAX_FILE_DESCRIPTORS = {min(wanted, allowed)}\n"
        for daemon, wanted in OPEN_FILES.items()
    )


def check_gpus() -> None:
    """Exit if Swarm assigned GPUs by number: HTCondor reads a number as a count of GPUs."""
    gpus = os.environ.get("DOCKER_RESOURCE_GPU", "")
    if any(name.strip().isdigit() for name in gpus.split(",")):
        sys.exit(
            f"swarm-runner: the node's GPUs are {gpus!r}; its daemon.json must name each by its "
            'UUID: "node-generic-resources": ["gpu=GPU-...", ...]'
        )


def overlay_address() -> str:
    """Return the container's address on the pool's overlay network.

    It is the source address of a connection to the central manager.
    """
    if os.environ["SWARM_RUNNER_ROLE"] == "manager":
        hosts = [socket.gethostname()]
    else:
        collectors = os.environ.get("SWARM_RUNNER_COLLECTORS", os.environ["SWARM_RUNNER_MANAGER"])
        hosts = [address.partition(":")[0] for address in collectors.split(",")]
    for attempt in range(60):
        host = hosts[attempt % len(hosts)]
        try:
            target = socket.getaddrinfo(host, 9, socket.AF_INET, socket.SOCK_DGRAM)[0][4]
            break
        except socket.gaierror:
            # The name resolves once the central manager's task runs.
            signal.sigtimedwait([signal.SIGTERM], 1)
    else:
        sys.exit(
            f"swarm-runner: the central manager's name {host} does not resolve; check that its "
            "service runs (docker service ps)"
        )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(target)
        return str(probe.getsockname()[0])


def make_user() -> None:
    """Create the account that jobs run as, the same on the access point and all executors."""
    name, uid, gid = (os.environ[f"SWARM_RUNNER_USER_{key}"] for key in ("NAME", "UID", "GID"))
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
    """Create a directory that the condor user owns.

    HTCondor advertises a slot as broken if another user owns its directory.
    """
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o755)
    shutil.chown(path, "condor", "condor")


def run_condor_master(
    each_minute: Callable[[], None] = lambda: None, gateway: subprocess.Popen[bytes] | None = None
) -> int:
    """Run condor_master as a child process, forward signals to it and return its exit code.

    An executor whose gateway ends is stopped at once: no job runs past the gateway.
    """
    environment = dict(os.environ)
    if gateway is not None:
        # HTCondor's starter reads a container's statistics from this socket by itself.
        environment["DOCKER_HOST"] = f"unix://{GATEWAY_DIRECTORY}/statistics.sock"
    master = subprocess.Popen(["/usr/sbin/condor_master", "-f"], env=environment)
    for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, lambda received, _frame: master.send_signal(received))
    next_minute = time.monotonic() + 60
    while True:
        try:
            code = master.wait(timeout=1 if gateway is not None else 60)
            break
        except subprocess.TimeoutExpired:
            if gateway is not None and gateway.poll() is not None:
                sys.stderr.write(
                    f"swarm-runner: the gateway exited with code {gateway.returncode}; the "
                    "executor stops, and its jobs run again elsewhere\n"
                )
                master.send_signal(signal.SIGQUIT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    master.wait(timeout=60)
                master.kill()
                return GATEWAY_EXIT_CODE
            if time.monotonic() >= next_minute:
                next_minute = time.monotonic() + 60
                each_minute()
    return 0 if code >= 0 else 128 - code


def run_libvirtd() -> None:
    """Run libvirtd and restart it when it exits: guests survive it, and HTCondor ignores it."""
    while True:
        subprocess.run(["/usr/sbin/libvirtd"], check=False)
        time.sleep(1)


class Executor:
    """A startd whose jobs run in sibling containers on the node's engine."""

    def __init__(self) -> None:
        import docker  # the central manager has no access to an engine

        self.docker_client = docker.from_env()
        self.container_id = socket.gethostname()
        self.scratch_directory = SCRATCH_DIRECTORY / self.container_id

    def run(self) -> int:
        """Prepare the container, run condor_master and remove everything it leaves behind."""
        check_gpus()
        if self._needs_kvm_sidecar():
            code = self._run_kvm_sidecar()
            if code != NO_KVM_EXIT_CODE:
                return code
        if "SWARM_RUNNER_VIRTUAL_MACHINES" in os.environ:
            code = self._enable_virtual_machines()
            if code:
                return code
        if "SWARM_RUNNER_LEND_MAX_S" in os.environ:
            shutil.copy(SHARE_DIRECTORY / "lending.conf", CONFIG_DIRECTORY)
        return self._serve()

    def _serve(self) -> int:
        import manager_names

        manager_names.start(os.environ["SWARM_RUNNER_MANAGER"].replace(",", " ").split())
        self._clear_leftovers()
        make_condor_directory(self.scratch_directory)
        make_condor_directory(LOG_DIRECTORY)
        execute = self._link_scratch_to_host_path() / self.container_id
        (CONFIG_DIRECTORY / "executor-scratch.conf").write_text(f"EXECUTE = {execute}\n")
        gateway = self._start_gateway(execute)
        try:
            return run_condor_master(self._try_clear_leftovers, gateway)
        finally:
            gateway.terminate()
            self._remove_containers(self.container_id)
            shutil.rmtree(self.scratch_directory, ignore_errors=True)

    def _start_gateway(self, execute: Path) -> subprocess.Popen[bytes]:
        """Start the gateway and wait until it answers; exit if it does not."""
        GATEWAY_DIRECTORY.mkdir(mode=0o755, exist_ok=True)
        program = Path(__file__).with_name("gateway.py")
        command = [sys.executable, str(program), self.container_id, str(execute)]
        gateway = subprocess.Popen([*command, str(SCRATCH_DIRECTORY)])
        deadline = time.monotonic() + GATEWAY_START_TIMEOUT_S
        while not all((GATEWAY_DIRECTORY / name).exists() for name in GATEWAY_SOCKETS):
            if gateway.poll() is not None or time.monotonic() > deadline:
                gateway.kill()
                sys.exit("swarm-runner: the gateway did not start; its error is above")
            time.sleep(0.05)
        return gateway

    def _needs_kvm_sidecar(self) -> bool:
        """Return whether the executor runs VMs and has no /dev/kvm, which Swarm cannot provide."""
        runs_vms = "SWARM_RUNNER_VIRTUAL_MACHINES" in os.environ
        return runs_vms and "SWARM_RUNNER_TWIN" not in os.environ and not KVM_DEVICE.exists()

    def _run_kvm_sidecar(self) -> int:
        """Run the executor in a sidecar with /dev/kvm; return the sidecar's exit code."""
        program = Path(__file__).with_name("kvm_sidecar.py")
        sidecar = subprocess.Popen([sys.executable, str(program), self.container_id])
        for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP):
            signal.signal(number, lambda received, _frame: sidecar.send_signal(received))
        code = sidecar.wait()
        for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        return code

    def _enable_virtual_machines(self) -> int:
        """Start libvirt, which the pool-vm image contains; return 0 on success."""
        program = Path(__file__).with_name("hypervisor.py")
        code = subprocess.run([sys.executable, str(program)], check=False).returncode
        if code:
            return code  # in a sidecar, the first container handles NO_KVM_EXIT_CODE
        shutil.copy(SHARE_DIRECTORY / "vm.conf", CONFIG_DIRECTORY)
        threading.Thread(target=run_libvirtd, daemon=True).start()
        return 0

    def _link_scratch_to_host_path(self) -> Path:
        """Make the scratch volume available at its path on the host; return that path.

        The node's engine mounts a job's scratch directory into the job's container, so HTCondor
        must use the path on the host.
        """
        for mount in self.docker_client.containers.get(self.container_id).attrs["Mounts"]:
            if mount["Destination"] == str(SCRATCH_DIRECTORY):
                host_path = Path(mount["Source"])
                break
        else:
            sys.exit(
                f"swarm-runner: no volume is mounted at {SCRATCH_DIRECTORY}; mount the pool's "
                "scratch volume there"
            )
        host_path.parent.mkdir(parents=True, exist_ok=True)
        if not host_path.exists():
            host_path.symlink_to(SCRATCH_DIRECTORY)
        return host_path

    def _clear_leftovers(self) -> None:
        """Remove scratch directories and containers of executors that no longer run on this node.

        It runs at the start and every minute: a killed executor may have no successor here.
        """
        import docker

        SCRATCH_DIRECTORY.mkdir(parents=True, exist_ok=True)
        SCRATCH_DIRECTORY.chmod(0o755)
        directories = list(SCRATCH_DIRECTORY.iterdir())
        pool_label = f"swarm-runner.pool={os.environ['SWARM_RUNNER_POOL']}"
        jobs = self._list_containers([pool_label, OWNER_LABEL])
        owners = {job["Labels"][OWNER_LABEL] for job in jobs}
        sidecars = self._list_containers([SIDECAR_LABEL])
        # Listed last, so an executor that created one of these has started by now.
        listed = self.docker_client.api.containers()
        running = {container["Id"][:SHORT_ID] for container in listed}
        for executor in owners - running:
            self._remove_containers(executor)
        for sidecar in sidecars:
            if sidecar["Labels"][SIDECAR_LABEL] not in running:
                with contextlib.suppress(docker.errors.APIError):
                    self.docker_client.api.remove_container(sidecar["Id"], force=True)
        for directory in directories:
            if directory.name not in running and directory.name != IMAGES_DIRECTORY:
                shutil.rmtree(directory, ignore_errors=True)

    def _try_clear_leftovers(self) -> None:
        """Clear leftovers and ignore errors: a short outage must not stop a running executor."""
        import docker

        with contextlib.suppress(docker.errors.DockerException, OSError):
            self._clear_leftovers()

    def _remove_containers(self, executor: str) -> None:
        import docker

        label = f"{OWNER_LABEL}={executor}"
        for container in self._list_containers([label]):
            try:
                self.docker_client.api.remove_container(container["Id"], force=True, v=True)
            except docker.errors.APIError:
                continue  # HTCondor's starter removed it first

    def _list_containers(self, labels: list[str]) -> list[dict[str, Any]]:
        """Return the containers with these labels as the engine lists them, also ended ones.

        `containers.list` would inspect each of them: the executors of a node would together inspect
        the square of their number every minute.
        """
        found: list[dict[str, Any]] = self.docker_client.api.containers(
            all=True, filters={"label": labels}
        )
        return found


if __name__ == "__main__":
    sys.exit(main())
