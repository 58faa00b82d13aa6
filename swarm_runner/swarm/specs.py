"""The Swarm objects that make up a pool: service specs, secrets, a network and volumes.

This module does no I/O. `DockerSwarm` creates the objects; the provisioner compares them with the
existing ones.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import Field

from swarm_runner.model.lending import borrowers, lending_delay_s
from swarm_runner.model.pool import CapacityClass, Pool
from swarm_runner.model.shares import DEFAULT_TURN_S, Shares
from swarm_runner.model.text import FrozenModel

DOCKER_SOCKET = "/var/run/docker.sock"
# Where executors for VMs have it: their sidecars need a token, and Docker 28.5 copies no file into
# a container with a mount below a link, as /var/run is. A change of others would replace them all.
SIDECAR_SOCKET = "/run/docker.sock"
SCRATCH = "/var/lib/swarm-runner/scratch"
SPOOL = "/var/lib/swarm-runner/spool"
# Must match SEC_TOKEN_POOL_SIGNING_KEY_FILE in image/manager.conf.
SIGNING_KEY_PATH = "/etc/condor/passwords.d/POOL"
# Of image/identities.py.
IDENTITIES_PROGRAM = "/usr/local/libexec/swarm-runner/identities.py"
# Of image/backup.py and image/queue_lock.py.
BACKUP_PROGRAM = "/usr/local/libexec/swarm-runner/backup.py"
QUEUE_LOCK_PROGRAM = "/usr/local/libexec/swarm-runner/queue_lock.py"
TOKEN_DIRECTORY = "/etc/swarm-runner/tokens.d"  # noqa: S105 - a path
# The directory of the secrets of the pool's sources.
AUTHORIZATIONS = "/run/secrets"
# The logins for private registries. Must match CREDENTIALS in image/gateway.py.
REGISTRIES_PATH = "/run/secrets/swarm-runner-registries"
SHUTDOWN_GRACE_S = 300  # time for file transfer and daemon shutdown after the last job
POOL_LABEL = "swarm-runner.pool"
STACK_LABEL = "com.docker.stack.namespace"
SPEC_DIGEST_LABEL = "swarm-runner.wish"
CLASS_LABEL = "swarm-runner.class"
NODE_LABEL = "swarm-runner.manager-node"
SHARED_SPOOL = "shared"  # the value of NODE_LABEL if the queue is not on one node
# Where the autoscaler serves metrics, on the overlay network of a monitored pool.
METRICS_VARIABLE = "SWARM_RUNNER_METRICS"
METRICS_PORT = 9780
PORT_SETTINGS = frozenset({"ports", "host_ports"})  # of `isolation`
# The generic resource under which a node's daemon.json lists its GPUs. Swarm passes the GPUs of a
# task to its container in DOCKER_RESOURCE_GPU (see image/executor.conf).
GPU_RESOURCE = "gpu"


_PROBE = """
import socket, sys
for address in sys.argv[1].split(","):
    host, port = address.split(":")
    try:
        socket.create_connection((host, int(port)), 5)
        break
    except OSError as error:
        problem = error
else:
    raise problem
"""


class MountSpec(FrozenModel):
    """A mount of a service: a named volume (`volume`) or a directory of the node."""

    source: str
    target: str
    volume: bool = False
    read_only: bool = False
    propagation: str | None = None


class SecretSpec(FrozenModel):
    """A Swarm secret and the path of its file in the container (owner root, mode 0400)."""

    name: str
    target: str


class ConfigSpec(FrozenModel):
    """A Swarm config and the path of its file in the container, which everybody may read."""

    name: str
    target: str


class ServiceSpec(FrozenModel):
    """The desired state of one Swarm service.

    `replicas` is the initial count only: the autoscaler changes it, and `digest` ignores it.
    Memory is in MiB, `stop_grace_s` in seconds. With `readable_secrets`, users other than the
    container's root may read its secrets.
    """

    name: str
    image: str
    environment: dict[str, str]
    labels: dict[str, str]
    mounts: tuple[MountSpec, ...]
    secret: SecretSpec | None
    further_secrets: tuple[SecretSpec, ...] = ()
    readable_secrets: bool = False
    configs: tuple[ConfigSpec, ...] = ()
    arguments: tuple[str, ...] = ()
    network: str
    replicas: int
    hostname: str | None = None
    port: int | None = None
    endpoint_mode: str = "dnsrr"
    publish: str = "host"
    node_id: str | None = None
    # The digest contains this field as `needs_manager`.
    needs_swarm_manager: bool = Field(False, serialization_alias="needs_manager")
    memory_mb: int | None = None
    gpus: int = 0
    stop_grace_s: int = 60
    constraints: tuple[str, ...] = ()
    preferences: tuple[str, ...] = ()
    max_replicas_per_node: int | None = None

    @property
    def secrets(self) -> tuple[SecretSpec, ...]:
        """All secrets of the service."""
        return (*((self.secret,) if self.secret else ()), *self.further_secrets)

    def digest(self) -> str:
        """Return a hash of everything except `replicas`.

        Services and tasks carry it in SPEC_DIGEST_LABEL. A service with another digest is outdated.
        Renaming a field changes the digest, and therefore updates every existing pool.
        """
        # Fields of a later release count only where they are in use.
        later = (
            *("further_secrets", "readable_secrets", "configs", "arguments"),
            *("constraints", "preferences", "max_replicas_per_node"),
        )
        unused: dict[str, Any] = {name: True for name in later if not getattr(self, name)}
        if all(mount.propagation is None for mount in self.mounts):
            unused["mounts"] = {"__all__": {"propagation"}}
        content = self.model_copy(update={"replicas": 0}).model_dump_json(
            by_alias=True, exclude=unused
        )
        return hashlib.sha256(content.encode()).hexdigest()[:16]


class Stack(FrozenModel):
    """Everything that `pool up` creates and `pool down` removes.

    `node_id` is the Swarm node that holds the pool's job queue. With several managers,
    `manager_nodes` has the node of each. `monitored` tells whether the pool has a Prometheus of its
    own (swarm/monitoring_specs.py).
    """

    pool: Pool
    image: str
    node_id: str
    manager_nodes: tuple[str, ...] = ()
    monitored: bool = False

    @property
    def spool_node(self) -> str:
        """The node of the queue, as the services' labels name it."""
        return self.node_id if self.pool.managers == 1 else SHARED_SPOOL

    @property
    def network(self) -> str:
        """The name of the pool's overlay network."""
        return f"{self.pool.name}_htcondor"

    @property
    def central_manager_name(self) -> str:
        """The central manager's host name on the overlay network.

        It has no underscore: HTCondor does not resolve host names that contain one.
        """
        return f"{self.pool.name}-manager"

    @property
    def manager_names(self) -> tuple[str, ...]:
        """The host name of each manager on the overlay network."""
        first = self.central_manager_name
        return (first, *(f"{first}-{number}" for number in range(2, self.pool.managers + 1)))

    @property
    def collectors(self) -> str:
        """The collector of each manager on the overlay network, with commas between them."""
        ports = [port for _, port in self.pool.manager_addresses]
        return ",".join(
            f"{name}:{port}" for name, port in zip(self.manager_names, ports, strict=True)
        )

    @property
    def signing_key(self) -> str:
        """The secret that signs tokens. Only the central manager has it."""
        return f"{self.pool.name}_htcondor-signing-key"

    @property
    def executor_token(self) -> str:
        """The secret with the executors' token, which only permits advertising."""
        return f"{self.pool.name}_htcondor-executor-token"

    @property
    def autoscaler_token(self) -> str:
        """The secret with the autoscaler's token, which permits reading the queue and the slots."""
        return f"{self.pool.name}_htcondor-autoscaler-token"

    @property
    def spool_volume(self) -> str:
        """The volume with the job queue and its history, on the node `node_id`."""
        return f"{self.pool.name}_htcondor-spool"

    @property
    def scratch_volume(self) -> str:
        """The volume with the jobs' scratch directories; every node has its own."""
        return f"{self.pool.name}_htcondor-scratch"

    @property
    def labels(self) -> dict[str, str]:
        """The labels of all objects of the pool. `docker stack ls` lists the pool as a stack."""
        return {POOL_LABEL: self.pool.name, STACK_LABEL: self.pool.name}

    def central_manager_probe(self) -> tuple[str, ...]:
        """Return a command that fails in a container that cannot reach the central manager.

        Only the manager that has the queue accepts connections.
        """
        return ("python3", "-c", _PROBE, self.collectors)

    def central_manager(self) -> ServiceSpec:
        """Return the service of the first, or only, central manager and access point."""
        return self.central_managers()[0]

    def central_managers(self) -> tuple[ServiceSpec, ...]:
        """Return the service of each central manager and access point, on its own node."""
        nodes = self.manager_nodes or (self.node_id,) * self.pool.managers
        places = zip(
            *(self.pool.manager_services, self.manager_names, self.pool.manager_addresses, nodes),
            strict=True,
        )
        return tuple(self._central_manager(*where) for where in places)

    def _central_manager(
        self, service: str, name: str, address: tuple[str, int], node_id: str
    ) -> ServiceSpec:
        host, port = address
        spool = MountSpec(source=self.spool_volume, target=SPOOL, volume=True)
        settings = self._central_manager_settings(host)
        node_label = node_id
        if self.pool.spool is not None:
            spool = MountSpec(source=self.pool.spool, target=SPOOL)
            settings |= {
                "MANAGER": name,
                "PORT": str(port),
                "SERVICE": service,
                "SPOOL": self.pool.spool,
                "COLLECTORS": self.collectors,
                # Swarm expands these templates for each task.
                "TASK": "{{.Task.ID}}",
                "NODE": "{{.Node.Hostname}}",
            }
            node_label = SHARED_SPOOL
        return ServiceSpec(
            name=service,
            image=self.image,
            environment=self._environment("manager", settings),
            labels=self.labels | {NODE_LABEL: node_label},
            mounts=(spool, *self._volumes()),
            secret=SecretSpec(name=self.signing_key, target=SIGNING_KEY_PATH),
            network=self.network,
            replicas=1,
            hostname=name,
            port=port,
            endpoint_mode=self.pool.network.endpoint_mode,
            publish=self.pool.network.publish,
            node_id=node_id,
        )

    def executors(self) -> dict[str, ServiceSpec]:
        """Return the executor service of each capacity class."""
        return {
            name: self._executor(name, capacity_class)
            for name, capacity_class in self.pool.classes.items()
        }

    def autoscaler(self, image: str, node_id: str) -> ServiceSpec:
        """Return the autoscaler's service.

        It stays on the Swarm manager `node_id`, which has `image`, unless that is in a registry.
        """
        # The autoscaler uses the overlay network, not the address that clients use.
        overlay: dict[str, object] = {"host": self.central_manager_name}
        if self.pool.managers > 1:
            overlay = {"hosts": tuple(self.collectors.split(","))}
        pool = self.pool.model_copy(update=overlay)
        configuration = {
            "runners": {
                "swarm": {
                    "pool": pool.model_dump(mode="json", exclude_unset=True),
                    "token_directory": TOKEN_DIRECTORY,
                }
            },
            "execution": {"environments": {"swarm": {"runner": "swarm"}}},
        }
        docker_socket = MountSpec(source=DOCKER_SOCKET, target=DOCKER_SOCKET)
        token = f"{TOKEN_DIRECTORY}/{self.pool.name}"
        return ServiceSpec(
            name=self.pool.autoscaler,
            image=image,
            environment={
                "SWARM_RUNNER_CONFIGURATION": json.dumps(configuration),
                "_CONDOR_PRIVATE_NETWORK_NAME": self.pool.name,
                **({METRICS_VARIABLE: f"0.0.0.0:{METRICS_PORT}"} if self.monitored else {}),
            },
            labels=self.labels,
            mounts=(docker_socket,),
            secret=SecretSpec(name=self.autoscaler_token, target=token),
            network=self.network,
            replicas=1,
            node_id=None if self.pool.autoscaler_image else node_id,
            needs_swarm_manager=True,
        )

    def _executor(self, name: str, capacity_class: CapacityClass) -> ServiceSpec:
        disk_mb = capacity_class.disk_mb
        disk_limit = "" if disk_mb is None else f"&& TARGET.RequestDisk <= {disk_mb * 1024}"
        settings = {
            "CLASS": name,
            "CPUS": str(capacity_class.cpus),
            "MEMORY_MB": str(capacity_class.memory_mb),
            "START": disk_limit,
            "RETIREMENT_S": str(capacity_class.retirement_s),
            "PULL": self.pool.pull,
            "ISOLATION": self._isolation(name),
            # Swarm expands these templates for each task.
            "TASK": "{{.Task.ID}}",
            "NODE": "{{.Node.Hostname}}",
        }
        if self.pool.managers > 1:
            settings["COLLECTORS"] = self.collectors
        if self.pool.shares.turn_s != DEFAULT_TURN_S:
            settings["TURN_S"] = str(self.pool.shares.turn_s)
        if self.pool.image_cache_mb is not None:
            settings["IMAGE_CACHE_MB"] = str(self.pool.image_cache_mb)
        if self.pool.sources:
            settings["SOURCES"] = self._sources()
        if capacity_class.lend_max_s is not None:
            settings["LEND_MAX_S"] = str(capacity_class.lend_max_s)
            settings["LEND_TO"] = ",".join(borrowers(self.pool, name))
            settings["LEND_AFTER_S"] = str(lending_delay_s(self.pool))
        if capacity_class.virtual_machines:
            settings["VIRTUAL_MACHINES"] = str(capacity_class.virtual_machines)
            settings["EMULATE"] = str(capacity_class.emulate)
        target = SIDECAR_SOCKET if capacity_class.virtual_machines else DOCKER_SOCKET
        docker_socket = MountSpec(source=DOCKER_SOCKET, target=target)
        scratch = MountSpec(source=self.scratch_volume, target=SCRATCH, volume=True)
        return ServiceSpec(
            name=self.pool.service(name),
            image=self.image,
            environment=self._environment("executor", settings),
            # Keeps the queue's node known after the central manager's service was removed.
            labels=self.labels | {CLASS_LABEL: name, NODE_LABEL: self.spool_node},
            mounts=(docker_socket, scratch, *self._volumes()),
            secret=SecretSpec(name=self.executor_token, target="/etc/condor/tokens.d/executor"),
            further_secrets=(*self._registry_secrets(), *self._source_secrets()),
            network=self.network,
            replicas=capacity_class.replicas,
            memory_mb=capacity_class.memory_mb,
            gpus=capacity_class.gpus,
            constraints=capacity_class.constraints,
            preferences=capacity_class.preferences,
            max_replicas_per_node=capacity_class.max_replicas_per_node,
            # Longer than HTCondor's retirement time: Swarm must not kill a running job.
            stop_grace_s=capacity_class.retirement_s + SHUTDOWN_GRACE_S,
        )

    def _registry_secrets(self) -> tuple[SecretSpec, ...]:
        secret = self.pool.registry_secret
        return () if secret is None else (SecretSpec(name=secret, target=REGISTRIES_PATH),)

    def _source_secrets(self) -> tuple[SecretSpec, ...]:
        names = dict.fromkeys(s.authorization for s in self.pool.sources if s.authorization)
        return tuple(SecretSpec(name=name, target=f"{AUTHORIZATIONS}/{name}") for name in names)

    def _sources(self) -> str:
        """Return the sources as the executors' program reads them (image/source_policy.py)."""
        return json.dumps(
            [
                {
                    "scheme": source.parts.scheme,
                    "host": source.parts.host,
                    "port": source.parts.port,
                    "path": source.parts.path,
                    "wildcard": source.is_wildcard,
                    "private": source.private,
                    "authorization": source.authorization
                    and f"{AUTHORIZATIONS}/{source.authorization}",
                }
                for source in self.pool.sources
            ]
        )

    def _isolation(self, name: str) -> str:
        """Return the settings of the executors' gateway, as it reads them."""
        isolation = self.pool.isolation_of(name)
        # Without ports, the executors' service is what it was before there were any.
        left_out = PORT_SETTINGS if isolation.ports == "none" else frozenset()
        settings = isolation.model_dump(mode="json", exclude=set(left_out))
        settings["volumes"] = [volume.model_dump(mode="json") for volume in self.pool.volumes]
        return json.dumps(settings)

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

    def _central_manager_settings(self, host: str) -> dict[str, str]:
        settings = {"HOST": host, "VOLUMES": self._volume_paths()}
        if self.pool.sources:
            settings["SOURCES"] = "[]"  # it passes URLs on, and fetches nothing itself
        # Executors know how long a turn is.
        if self.pool.shares.model_copy(update={"turn_s": DEFAULT_TURN_S}) != Shares():
            settings["SHARES"] = json.dumps(self.pool.shares.settings())
        if any(self.pool.isolation_of(name).ports != "none" for name in self.pool.classes):
            settings["PORTS"] = "published"
        return settings

    def _volume_paths(self) -> str:
        """Return the volumes as the access point's policy reads them."""
        return json.dumps([v.model_dump(include={"path", "read_only"}) for v in self.pool.volumes])

    def _volumes(self) -> tuple[MountSpec, ...]:
        return tuple(
            MountSpec(
                source=volume.path,
                target=volume.path,
                read_only=volume.read_only,
                propagation=None if volume.propagation == "rprivate" else volume.propagation,
            )
            for volume in self.pool.volumes
        )
