"""A pool, its capacity classes, destinations and routes."""

from __future__ import annotations

import ipaddress
import posixpath
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import PurePath
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StrictInt, model_validator
from pydantic_core import PydanticCustomError

from swarm_runner.model.access_token import RESERVED_NAMES
from swarm_runner.model.capacity_class import DEFAULT_COOLDOWN_S as DEFAULT_COOLDOWN_S
from swarm_runner.model.capacity_class import CapacityClass as CapacityClass
from swarm_runner.model.isolation import ContainerOptions, Isolation
from swarm_runner.model.lending import lending_diagnostics
from swarm_runner.model.managers import (
    MAX_MANAGERS,
    ManagerHost,
    several_managers_diagnostics,
    split_host,
)
from swarm_runner.model.monitoring import Monitoring, SecretName
from swarm_runner.model.resources import Resources
from swarm_runner.model.scheduling import Scheduling
from swarm_runner.model.shares import Shares
from swarm_runner.model.sources import Sources
from swarm_runner.model.text import (
    AbsolutePath,
    FrozenModel,
    Image,
    Name,
    Text,
    list_names,
    raise_diagnostics,
)
from swarm_runner.model.volumes import (
    MAX_VOLUMES,
    Volume,
    VolumeMount,
    overlap_diagnostics,
    volume_path,
)

DEFAULT_CLASS = "normal"
CENTRAL_MANAGER = "manager"  # the key of the central manager's service, beside class names
MINIMUM_LEASE_S = 60
# Twice the 150 s that a restart of the central manager may use: two minutes for the restart, and
# 30 s since the lease was last renewed (STARTER_UPDATE_INTERVAL).
DEFAULT_LEASE_S = 300
# After a lease expired, the access point needs 20 to 90 s for its three attempts to release the
# claim. HTCondor's own lease is shorter than `lease_s` by this, or by a third.
NODE_LOSS_DETECTION_S = 60
_MAX_CLASSES = 500
_MAX_SERVICE_NAME_LENGTH = 63  # Swarm: a service name is a DNS label


def _job_user_name(value: str) -> str:
    if value in RESERVED_NAMES:
        raise PydanticCustomError(
            "job_user",
            "{name} is an account that HTCondor or the pool itself uses; choose another name",
            {"name": repr(value)},
        )
    return value


class JobUser(FrozenModel):
    """The unprivileged account that jobs run as. It owns the files that they write."""

    name: Annotated[Name, AfterValidator(_job_user_name)] = Field(
        "swarm-runner", description="the account's name"
    )
    uid: StrictInt = Field(1000, ge=1, le=2**31 - 1, description="its user ID; not root's")
    gid: StrictInt = Field(1000, ge=1, le=2**31 - 1, description="its group ID")


_MINIMUM_PREFIX, _MAXIMUM_PREFIX = 12, 28


def _subnet(value: str) -> str:
    try:
        subnet = ipaddress.IPv4Network(value)
    except ValueError:
        subnet = None
    if subnet is None or not _MINIMUM_PREFIX <= subnet.prefixlen <= _MAXIMUM_PREFIX:
        raise PydanticCustomError(
            "subnet",
            "{value} is not a subnet; write the first address and the length of the prefix, "
            "{minimum} to {maximum}, such as 10.200.0.0/21",
            {"value": repr(value), "minimum": _MINIMUM_PREFIX, "maximum": _MAXIMUM_PREFIX},
        )
    return str(subnet)


class Network(FrozenModel):
    """The overlay network: its size, and how the central manager is reached on it.

    The network of an existing pool stays as it is.
    """

    endpoint_mode: Literal["dnsrr", "vip"] = Field(
        "dnsrr",
        description="what the central manager's name on the network resolves to: its "
        "container's address, or a virtual one",
    )
    publish: Literal["host", "ingress"] = Field(
        "host",
        description="where the central manager's port is: on its own node, or on every node by "
        "the routing mesh, which requires `vip`",
    )
    subnet: Annotated[Text, AfterValidator(_subnet)] | None = Field(
        None,
        description="the network's subnet, such as 10.200.0.0/21, which must not overlap with "
        "another network; a free one of Swarm's address pools when absent",
    )
    prefix: StrictInt = Field(
        21,
        ge=_MINIMUM_PREFIX,
        le=_MAXIMUM_PREFIX,
        description="the prefix length of a subnet that `pool up` chooses: 21 has 2,045 "
        "addresses for executors and nodes; when absent, less if `max_replicas` needs more",
    )

    @model_validator(mode="after")
    def _check_publish_mode(self) -> Self:
        diagnostics: list[tuple[tuple[str | int, ...], str]] = []
        if self.publish == "ingress" and self.endpoint_mode == "dnsrr":
            diagnostics.append(
                (("publish",), "is ingress, which requires endpoint_mode: vip in Swarm")
            )
        if self.subnet is not None and "prefix" in self.model_fields_set:
            diagnostics.append((("prefix",), "does not apply with subnet, which has its own"))
        raise_diagnostics(self, diagnostics)
        return self


def _sort_classes(classes: dict[str, CapacityClass]) -> dict[str, CapacityClass]:
    """Order classes by size, those that run virtual machines last."""
    return dict(
        sorted(classes.items(), key=lambda item: (item[1].virtual_machines > 0, item[1].size))
    )


class Pool(FrozenModel):
    """An HTCondor pool on a Swarm: its classes, from small to large, and its address."""

    name: Name = Field("swarm-runner", description="the prefix of the names of the pool's services")
    classes: Annotated[dict[Name, CapacityClass], AfterValidator(_sort_classes)] = Field(
        default_factory=lambda: {
            "normal": CapacityClass(memory_mb=1024, replicas=2, max_replicas=20),
            "big": CapacityClass(memory_mb=2048, replicas=1, max_replicas=4),
        },
        min_length=1,
        max_length=_MAX_CLASSES,
        description="the capacity classes by name, in any order; normal of 1024 MB and big of "
        "2048 MB when absent",
    )
    image: Image | None = Field(
        None, description="the pool image; built from the package when absent"
    )
    host: Text = Field(
        "127.0.0.1",
        pattern=r"^[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\.?$|^[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*$",
        description="the central manager's address, as clients reach it",
    )
    port: StrictInt = Field(9618, ge=1, le=65535, description="the central manager's port")
    network: Network = Field(Network(), description="the overlay network")
    managers: StrictInt = Field(
        1,
        ge=1,
        le=MAX_MANAGERS,
        description="how many nodes may hold the job queue; another one continues when the node "
        "that has it is lost. More than one needs `hosts` and `spool`",
    )
    hosts: tuple[ManagerHost, ...] = Field(
        (),
        description="with several managers, the address of each one's node, as clients reach it, "
        "instead of `host`; HOST:PORT if a port is not `port`",
    )
    spool: Annotated[AbsolutePath, AfterValidator(volume_path)] | None = Field(
        None,
        description="with several managers, the directory of the queue on a volume that their "
        "nodes share; jobs must not see it",
    )
    services: dict[Name, Text] | None = Field(
        None,
        max_length=_MAX_CLASSES + 1,
        description="external services, deployed by something else: that of the central "
        "manager, under `manager`, and that of every class",
    )
    user: JobUser = Field(JobUser(), description="the account that jobs run as")
    volumes: tuple[Volume, ...] = Field(
        (),
        max_length=MAX_VOLUMES,
        description="directories that every node has at the same path; jobs see them at that path",
    )
    isolation: Isolation = Field(Isolation(), description="what the containers of jobs are allowed")
    shares: Shares = Field(Shares(), description="how the pool is divided among its users")
    sources: Sources = Field(
        (), description="from where the pool fetches inputs that are URLs; from nowhere when absent"
    )
    registry_secret: SecretName | None = Field(
        None,
        description="a Swarm secret with a config.json of `docker login`, for private registries",
    )
    pull: Literal["missing", "always"] = Field(
        "missing",
        description="`always`: ask the registry for a newer image even if the node has one",
    )
    monitoring: Monitoring = Field(
        Monitoring(), description="the services of `pool up --monitoring`"
    )
    autoscaler_image: Image | None = Field(
        None,
        description="the autoscaler's image in a registry: Swarm then starts it on another manager "
        "node if its own is lost; built, and kept on one node, when absent",
    )
    image_cache_mb: StrictInt | None = Field(
        None,
        ge=1,
        le=2**30,
        description="MB of jobs' images that a node keeps, the least recently used are removed; "
        "all of them when absent",
    )

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        raise_diagnostics(
            self,
            [
                *self._class_diagnostics(),
                *lending_diagnostics(self),
                *overlap_diagnostics(self.volumes),
                *self._service_diagnostics(),
                *several_managers_diagnostics(self),
            ],
        )
        return self

    def _class_diagnostics(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        # Classes with virtual machines have an order of their own: no job moves between the two.
        for vm in (False, True):
            for smaller, larger in pairwise(self.classes_for(vm=vm)):
                if self.classes[smaller].size == self.classes[larger].size:
                    message = (
                        f"has the same size as {smaller} ({self.classes[smaller]}), so that the "
                        "two have no order; change the size or the constraints of one, or remove it"
                    )
                    yield ("classes", larger), message
        for name in self.classes:
            service = self.service(name)
            if len(service) > _MAX_SERVICE_NAME_LENGTH:
                message = (
                    f"gives the service name {service}, which has {len(service)} characters; Swarm "
                    f"accepts {_MAX_SERVICE_NAME_LENGTH}"
                )
                yield ("classes", name), message

    def _service_diagnostics(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        if self.services is None:
            return
        expected = [CENTRAL_MANAGER, *self.classes]
        for name in expected:
            if name not in self.services:
                yield ("services",), f"does not name the service of {name}"
        uses = Counter(self.services.values())
        for name, service in self.services.items():
            if name not in (CENTRAL_MANAGER, *self.classes):
                yield ("services", name), f"is not a class; use one of {list_names(expected)}"
            elif uses[service] > 1:
                yield ("services", name), f"{service} is named twice"

    def volume_of(self, path: str | PurePath) -> VolumeMount | None:
        """Return the volume that contains an absolute path, or None.

        Links are not followed: a path counts by its name.
        """
        normalized = posixpath.normpath(path)
        for volume in self.volumes:
            if normalized == volume.path or normalized.startswith(f"{volume.path}/"):
                return volume
        return None

    def isolation_of(self, capacity_class: str) -> Isolation:
        """Return what jobs of a class are allowed: its own settings, else the pool's."""
        own = self.classes[capacity_class].isolation
        if own is None:
            return self.isolation
        return self.isolation.model_copy(
            update={name: getattr(own, name) for name in own.model_fields_set}
        )

    def external_services(self) -> dict[str, str] | None:
        """Return the class, or `manager`, of each external service; None if there are none."""
        if self.services is None:
            return None
        further = dict.fromkeys(self.manager_services[1:], CENTRAL_MANAGER)
        return {service: name for name, service in self.services.items()} | further

    @property
    def address(self) -> str:
        """The central manager's `host:port`, as clients reach it.

        With several managers, the address of each, with commas between them: one of them answers.
        """
        return ",".join(f"{host}:{port}" for host, port in self.manager_addresses)

    @property
    def manager_addresses(self) -> tuple[tuple[str, int], ...]:
        """The host and the port of each manager, as clients reach it."""
        if self.managers == 1:
            return ((self.host, self.port),)
        return tuple(split_host(host, self.port) for host in self.hosts)

    def classes_for(self, *, vm: bool) -> list[str]:
        """Return the classes that run virtual machines, or those that run containers."""
        return [name for name, c in self.classes.items() if bool(c.virtual_machines) is vm]

    def describe_classes(self, *, vm: bool | None = None) -> str:
        """Return the classes and their sizes for a message; with `vm`, those of one kind."""
        names = self.classes if vm is None else self.classes_for(vm=vm)
        return list_names([f"{name}: {self.classes[name]}" for name in names], "; ")

    @property
    def has_vm_classes(self) -> bool:
        """Whether any class runs virtual machines."""
        return bool(self.classes_for(vm=True))

    @property
    def observer(self) -> str:
        """The Swarm service that observes a monitored pool without an autoscaler."""
        return f"{self.name}_htcondor-observer"

    @property
    def prometheus(self) -> str:
        """The Swarm service of the pool's Prometheus."""
        return f"{self.name}_htcondor-prometheus"

    @property
    def grafana(self) -> str:
        """The Swarm service of the pool's Grafana."""
        return f"{self.name}_htcondor-grafana"

    @property
    def autoscaler(self) -> str:
        """The Swarm service of the autoscaler."""
        return f"{self.name}_htcondor-autoscaler"

    @property
    def manager_services(self) -> tuple[str, ...]:
        """The Swarm service of each manager."""
        first = self.service()
        further = (f"{first}-manager-{number}" for number in range(2, self.managers + 1))
        return (first, *further)

    def service(self, capacity_class: str | None = None) -> str:
        """Return the Swarm service of the central manager, or of a class.

        Source of the names: the slides of 2019.
        """
        if self.services is not None:
            return self.services.get(capacity_class or CENTRAL_MANAGER, "")
        central_manager = f"{self.name}_htcondor"
        if capacity_class is None:
            return central_manager
        if capacity_class == DEFAULT_CLASS:
            return f"{central_manager}-executor"
        return f"{central_manager}-executor-{capacity_class}"


class Destination(FrozenModel):
    """A configured place to run: a pool, and defaults for invocations."""

    name: Text = "swarm"
    pool: Pool = Pool()
    runner: Text = "swarm"
    state_directory: AbsolutePath | None = None
    token_directory: AbsolutePath | None = None
    lease_s: StrictInt = Field(DEFAULT_LEASE_S, ge=MINIMUM_LEASE_S)
    resources: Resources | None = Field(None, description="defaults of an invocation's resources")
    default_image: Image | None = None
    container_options: ContainerOptions | None = Field(
        None, description="defaults of an invocation's container options"
    )
    capacity_class: Name | None = None
    scheduling: Scheduling = Field(
        Scheduling(), description="defaults of an invocation's account, priority and placement"
    )

    def class_for(self, *, vm: bool) -> Name | None:
        """Return the default class; None if it does not run this kind of job."""
        capacity_class = self.pool.classes.get(self.capacity_class or "")
        fits = capacity_class is None or bool(capacity_class.virtual_machines) is vm
        return self.capacity_class if fits else None


class Route(FrozenModel):
    """The decision where an invocation runs: destination, capacity class, and the reason.

    `candidates` are the classes in which the job may run, the smallest first: the class in which
    it starts, and those to which the schedd's memory retry may move it.
    """

    destination: str
    capacity_class: Name
    candidates: tuple[Name, ...]
    reason: str
