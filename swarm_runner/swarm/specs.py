"""What a pool is on a Swarm: its services, secrets, network and volumes, as wishes.

Pure: `swarm/` carries the wishes out, the provisioner compares them with what is there.
"""

from __future__ import annotations

import hashlib
import json

from swarm_runner.model.pool import CapacityClass, Pool
from swarm_runner.model.text import FrozenModel

DOCKER_SOCKET = "/var/run/docker.sock"
SCRATCH = "/var/lib/swarm-runner/scratch"
SPOOL = "/var/lib/swarm-runner/spool"
# As manager.conf says, too.
SIGNING_KEY_PATH = "/etc/condor/passwords.d/POOL"
TOKEN_DIRECTORY = "/etc/swarm-runner/tokens.d"
SHUTDOWN_GRACE_S = 300  # for file transfer and good-byes after the last job
POOL_LABEL = "swarm-runner.pool"
STACK_LABEL = "com.docker.stack.namespace"
SPEC_DIGEST_LABEL = "swarm-runner.wish"
CLASS_LABEL = "swarm-runner.class"
NODE_LABEL = "swarm-runner.manager-node"
# What a node's daemon.json calls its GPUs. Swarm tells a task which it was given, in the variable
# DOCKER_RESOURCE_GPU (executor.conf).
GPU_RESOURCE = "gpu"


class MountSpec(FrozenModel):
    """A mount of a service: a named volume or a directory of the node."""

    source: str
    target: str
    volume: bool = False
    read_only: bool = False


class SecretSpec(FrozenModel):
    """A Swarm secret and the file, mode 0400 of root, in which its service finds it."""

    name: str
    target: str


class ServiceSpec(FrozenModel):
    """One Swarm service as it is to be. `replicas` is a start, not part of what is compared."""

    name: str
    image: str
    environment: dict[str, str]
    labels: dict[str, str]
    mounts: tuple[MountSpec, ...]
    secret: SecretSpec
    network: str
    replicas: int
    hostname: str | None = None
    port: int | None = None
    endpoint_mode: str = "dnsrr"
    publish: str = "host"
    node_id: str | None = None
    needs_swarm_manager: bool = False
    memory_mb: int | None = None
    gpus: int = 0
    stop_grace_s: int = 60

    def digest(self) -> str:
        """Changes when an update of the running service is due."""
        rest = self.model_copy(update={"replicas": 0}).model_dump_json()
        return hashlib.sha256(rest.encode()).hexdigest()[:16]


class Stack(FrozenModel):
    """All that `pool up` makes, and `pool down` removes."""

    pool: Pool
    image: str
    node_id: str

    @property
    def network(self) -> str:
        """The overlay."""
        return f"{self.pool.name}_htcondor"

    @property
    def central_manager_name(self) -> str:
        """The manager's name on the overlay. HTCondor does not look up names with underscores."""
        return f"{self.pool.name}-manager"

    @property
    def signing_key(self) -> str:
        """The secret with which the manager signs tokens; it alone has it."""
        return f"{self.pool.name}_htcondor-signing-key"

    @property
    def executor_token(self) -> str:
        """The secret that lets an executor advertise itself, and no more."""
        return f"{self.pool.name}_htcondor-executor-token"

    @property
    def autoscaler_token(self) -> str:
        """The secret with which the autoscaler looks at the queue and the slots."""
        return f"{self.pool.name}_htcondor-autoscaler-token"

    @property
    def spool_volume(self) -> str:
        """The queue and its history, on the manager's node."""
        return f"{self.pool.name}_htcondor-spool"

    @property
    def scratch_volume(self) -> str:
        """The jobs' scratch directories, one such volume on each node."""
        return f"{self.pool.name}_htcondor-scratch"

    @property
    def labels(self) -> dict[str, str]:
        """On everything that is the pool's; `docker stack ls` shows it as a stack."""
        return {POOL_LABEL: self.pool.name, STACK_LABEL: self.pool.name}

    def central_manager_probe(self) -> tuple[str, ...]:
        """A command for a container of the pool; it fails if the manager's name leads nowhere."""
        door = (self.central_manager_name, self.pool.port)
        return ("python3", "-c", f"import socket; socket.create_connection({door!r}, 5)")

    def central_manager(self) -> ServiceSpec:
        """Central manager and access point, on the node that holds its spool."""
        spool = MountSpec(source=self.spool_volume, target=SPOOL, volume=True)
        return ServiceSpec(
            name=self.pool.service(),
            image=self.image,
            environment=self._environment("manager", {"HOST": self.pool.host}),
            labels=self.labels | {NODE_LABEL: self.node_id},
            mounts=(spool, *self._volumes()),
            secret=SecretSpec(name=self.signing_key, target=SIGNING_KEY_PATH),
            network=self.network,
            replicas=1,
            hostname=self.central_manager_name,
            port=self.pool.port,
            endpoint_mode=self.pool.network.endpoint_mode,
            publish=self.pool.network.publish,
            node_id=self.node_id,
        )

    def executors(self) -> dict[str, ServiceSpec]:
        """The service of each capacity class."""
        return {name: self._executor(name, shape) for name, shape in self.pool.classes.items()}

    def autoscaler(self, image: str, node_id: str) -> ServiceSpec:
        """The autoscaler, on the Swarm manager that has its image and whose engine it tells."""
        # It reaches the pool by the overlay, whatever address clients use.
        pool = self.pool.model_copy(update={"host": self.central_manager_name})
        configuration = {
            "runners": {
                "swarm": {
                    "pool": pool.model_dump(mode="json", exclude_unset=True),
                    "token_directory": TOKEN_DIRECTORY,
                }
            },
            "execution": {"environments": {"swarm": {"runner": "swarm"}}},
        }
        engine = MountSpec(source=DOCKER_SOCKET, target=DOCKER_SOCKET)
        token = f"{TOKEN_DIRECTORY}/{self.pool.name}"
        return ServiceSpec(
            name=self.pool.autoscaler,
            image=image,
            environment={
                "SWARM_RUNNER_CONFIGURATION": json.dumps(configuration),
                "_CONDOR_PRIVATE_NETWORK_NAME": self.pool.name,
            },
            labels=self.labels,
            mounts=(engine,),
            secret=SecretSpec(name=self.autoscaler_token, target=token),
            network=self.network,
            replicas=1,
            node_id=node_id,
            needs_swarm_manager=True,
        )

    def _executor(self, name: str, capacity_class: CapacityClass) -> ServiceSpec:
        disk = (
            ""
            if capacity_class.disk_mb is None
            else f"&& TARGET.RequestDisk <= {capacity_class.disk_mb * 1024}"
        )
        settings = {
            "CLASS": name,
            "CPUS": str(capacity_class.cpus),
            "MEMORY_MB": str(capacity_class.memory_mb),
            "START": disk,
            "RETIREMENT_S": str(capacity_class.retirement_s),
            "TRUST_LOCAL_IMAGES": str(self.pool.pull == "missing"),
            "VOLUMES": "\n".join(
                f"{volume.path}:{volume.path}{':ro' if volume.read_only else ''}"
                for volume in self.pool.volumes
            ),
            # Swarm fills these in for each task.
            "TASK": "{{.Task.ID}}",
            "NODE": "{{.Node.Hostname}}",
        }
        if capacity_class.virtual_machines:
            settings["VIRTUAL_MACHINES"] = str(capacity_class.virtual_machines)
            settings["EMULATE"] = str(capacity_class.emulate)
        engine = MountSpec(source=DOCKER_SOCKET, target=DOCKER_SOCKET)
        scratch = MountSpec(source=self.scratch_volume, target=SCRATCH, volume=True)
        return ServiceSpec(
            name=self.pool.service(name),
            image=self.image,
            environment=self._environment("executor", settings),
            # Who holds the queue is known even when the manager's service is gone.
            labels=self.labels | {CLASS_LABEL: name, NODE_LABEL: self.node_id},
            mounts=(engine, scratch, *self._volumes()),
            secret=SecretSpec(name=self.executor_token, target="/etc/condor/tokens.d/executor"),
            network=self.network,
            replicas=capacity_class.replicas,
            memory_mb=capacity_class.memory_mb,
            gpus=capacity_class.gpus,
            # Longer than the daemons' own patience, so that Swarm never cuts a job off.
            stop_grace_s=capacity_class.retirement_s + SHUTDOWN_GRACE_S,
        )

    def _environment(self, role: str, settings: dict[str, str]) -> dict[str, str]:
        user = self.pool.user
        common = {
            "ROLE": role,
            "POOL": self.pool.name,
            "MANAGER": self.central_manager_name,
            "PORT": str(self.pool.port),
            "USER_NAME": user.name,
            "USER_UID": str(user.uid),
            "USER_GID": str(user.gid),
        }
        return {f"SWARM_RUNNER_{name}": value for name, value in (common | settings).items()}

    def _volumes(self) -> tuple[MountSpec, ...]:
        return tuple(
            MountSpec(source=volume.path, target=volume.path, read_only=volume.read_only)
            for volume in self.pool.volumes
        )
