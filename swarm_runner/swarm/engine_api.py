"""Conversion between this package's models and the JSON objects of the Docker Engine API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from swarm_runner.errors import PreconditionError
from swarm_runner.model.pool_status import ServiceState, SwarmNode, TaskState
from swarm_runner.swarm.specs import (
    GPU_RESOURCE,
    POOL_LABEL,
    SPEC_DIGEST_LABEL,
    ServiceSpec,
)

_NODE_DOWN = "down"  # the Swarm's leader receives no heartbeats from the node
_SECOND_NS = 1_000_000_000
_ROOT_ONLY, _ALL_USERS = 0o400, 0o444
_RESTART_DELAY_S = 2
_UPDATE_MONITOR_S = 10
# docker-py's URL of every engine that it reaches by ssh.
SSH_URL = "http+docker://ssh"


# Docker's own, where `docker swarm init` was not told otherwise.
DEFAULT_ADDRESS_POOLS = ("10.0.0.0/8",)


def subnets(network: Mapping[str, Any]) -> list[str]:
    """Return the subnets of a network, as the engine lists it."""
    configs = (network.get("IPAM") or {}).get("Config") or ()
    return [config["Subnet"] for config in configs if config.get("Subnet")]


def host_of(api: Any) -> str:
    """Return the host name in the URL of an engine's client; empty for a local socket."""
    url = api.base_url
    if url == SSH_URL:
        # docker-py keeps USER@HOST:PORT in the adapter alone.
        url = f"ssh://{api.get_adapter(url).ssh_host}"
    parts = urlsplit(url)
    return parts.hostname or "" if parts.scheme in ("http", "https", "ssh") else ""


def is_rootless(info: Mapping[str, Any]) -> bool:
    """Return whether an engine runs without root."""
    return "name=rootless" in (info.get("SecurityOptions") or ())


def service_state(service: Mapping[str, Any], extra_labels: Mapping[str, str]) -> ServiceState:
    """Return the state of a replicated service; `extra_labels` override its own labels."""
    spec = service["Spec"]
    container = spec["TaskTemplate"]["ContainerSpec"]
    update = service.get("UpdateStatus") or {}
    return ServiceState(
        name=spec["Name"],
        image=container["Image"],
        replicas=replicas_of(spec),
        labels=spec["Labels"] | extra_labels,
        version=service["Version"]["Index"],
        environment=dict(line.split("=", 1) for line in container.get("Env") or () if "=" in line),
        update=update.get("State", ""),
        update_message=update.get("Message", ""),
    )


def task_state(
    task: Mapping[str, Any], service_names: Mapping[str, str], node: Mapping[str, Any] | None
) -> TaskState:
    """Return the state of a task.

    `service_names` maps service IDs to names; `node` is the task's node, if it has been assigned.
    """
    status = task["Status"]
    return TaskState(
        id=task["ID"],
        service=service_names.get(task["ServiceID"], ""),
        slot=task.get("Slot", 0),
        node=node["Description"]["Hostname"] if node else "",
        container=(status.get("ContainerStatus") or {}).get("ContainerID", ""),
        state=status["State"],
        desired=task["DesiredState"],
        error=status.get("Err", ""),
        created_at=task["CreatedAt"],
        node_down=node is not None and node["Status"]["State"] == _NODE_DOWN,
        spec_digest=(task["Spec"]["ContainerSpec"].get("Labels") or {}).get(SPEC_DIGEST_LABEL, ""),
    )


def swarm_node(node: Mapping[str, Any]) -> SwarmNode:
    """Return a node, as the engine lists it. A manager's status may have the address 0.0.0.0."""
    description = node["Description"]
    address = node["Status"].get("Addr", "")
    if address in ("", "0.0.0.0"):  # noqa: S104 - nothing is bound to it
        address = node.get("ManagerStatus", {}).get("Addr", "").rpartition(":")[0]
    return SwarmNode(
        id=node["ID"],
        name=description.get("Hostname", ""),
        address=address,
        ready=node["Status"]["State"] == "ready",
        engine_version=(description.get("Engine") or {}).get("EngineVersion", ""),
        architecture=(description.get("Platform") or {}).get("Architecture", ""),
    )


def replicas_of(spec: Mapping[str, Any]) -> int:
    """Return the replica count in a replicated service's spec."""
    return int(spec["Mode"]["Replicated"]["Replicas"])


def service_arguments(
    spec: ServiceSpec,
    secret_ids: Mapping[str, str],
    update_delay_s: int = 0,
    config_ids: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the arguments of docker-py's `create_service` and `update_service` for a spec.

    `secret_ids` and `config_ids` map the names of secrets and configs to IDs. A rolling update
    waits at least `update_delay_s` seconds between two tasks.
    """
    from docker import types

    return {
        "task_template": _task_template(spec, secret_ids, config_ids or {}),
        "name": spec.name,
        "labels": dict(spec.labels) | {SPEC_DIGEST_LABEL: spec.digest()},
        "mode": types.ServiceMode("replicated", replicas=spec.replicas),
        "update_config": _update_config(update_delay_s),
        "endpoint_spec": {"Mode": spec.endpoint_mode, "Ports": _ports(spec)},
    }


def unchanged_arguments(spec: Mapping[str, Any], replicas: int) -> dict[str, Any]:
    """Return the arguments of `update_service` that change nothing but the replica count.

    `spec` is a service's spec as the engine returned it. docker-py's `Service.scale` fills in
    defaults; Swarm takes them for a change and replaces every task.
    """
    return {
        "task_template": spec["TaskTemplate"],
        "name": spec["Name"],
        "labels": spec["Labels"],
        "mode": {"Replicated": {"Replicas": replicas}},
        "update_config": spec.get("UpdateConfig"),
        "rollback_config": spec.get("RollbackConfig"),
        "endpoint_spec": spec.get("EndpointSpec"),
    }


def _task_template(
    spec: ServiceSpec, secret_ids: Mapping[str, str], config_ids: Mapping[str, str]
) -> Mapping[str, Any]:
    from docker import types

    missing = [secret.name for secret in spec.secrets if secret.name not in secret_ids]
    if missing:
        raise PreconditionError(
            f"service {spec.name}: secret {missing[0]} does not exist; create it with "
            f"`docker secret create {missing[0]} FILE`"
        )
    secrets = [
        types.SecretReference(
            secret_ids[secret.name],
            secret.name,
            filename=secret.target,
            mode=_ALL_USERS if spec.readable_secrets else _ROOT_ONLY,
        )
        for secret in spec.secrets
    ]
    configs = [
        types.ConfigReference(config_ids[config.name], config.name, filename=config.target)
        for config in spec.configs
    ]
    container = types.ContainerSpec(
        spec.image,
        args=list(spec.arguments) or None,
        configs=configs or None,
        hostname=spec.hostname,
        env=[f"{name}={value}" for name, value in spec.environment.items()],
        # The label tells from which spec a task was created.
        labels=dict(spec.labels) | {SPEC_DIGEST_LABEL: spec.digest()},
        mounts=[
            types.Mount(
                mount.target,
                mount.source,
                type="volume" if mount.volume else "bind",
                read_only=mount.read_only,
                propagation=mount.propagation,
                labels={POOL_LABEL: spec.labels[POOL_LABEL]} if mount.volume else None,
            )
            for mount in spec.mounts
        ],
        stop_grace_period=spec.stop_grace_s * _SECOND_NS,
        secrets=secrets,
        init=True,
    )
    resources = None
    if spec.memory_mb is not None:
        # Jobs run beside the executor; the reservation keeps Swarm from overcommitting a node.
        resources = types.Resources(
            mem_reservation=spec.memory_mb * 2**20,
            generic_resources={GPU_RESOURCE: spec.gpus} if spec.gpus else None,
        )
    aliases = [spec.hostname] if spec.hostname else None
    template: Mapping[str, Any] = types.TaskTemplate(
        container,
        resources=resources,
        restart_policy=types.RestartPolicy("any", _RESTART_DELAY_S * _SECOND_NS),
        placement=types.Placement(
            constraints=_constraints(spec) or None,
            preferences=[("spread", label) for label in spec.preferences] or None,
            maxreplicas=spec.max_replicas_per_node,
        ),
        networks=[types.NetworkAttachmentConfig(spec.network, aliases=aliases)],
    )
    return template


def _update_config(update_delay_s: int) -> Mapping[str, Any]:
    from docker import types

    config: Mapping[str, Any] = types.UpdateConfig(
        parallelism=1,
        delay=update_delay_s * _SECOND_NS,
        # A full node cannot reserve memory for the new task before the old task releases its own,
        # so start-first would wait forever.
        order="stop-first",
        failure_action="pause",
        monitor=_UPDATE_MONITOR_S * _SECOND_NS,
    )
    return config


def _ports(spec: ServiceSpec) -> list[dict[str, Any]]:
    if spec.port is None:
        return []
    port = {"PublishedPort": spec.port, "TargetPort": spec.port, "Protocol": "tcp"}
    return [port | {"PublishMode": spec.publish}]


def _constraints(spec: ServiceSpec) -> list[str]:
    constraints = [f"node.id == {spec.node_id}"] if spec.node_id else []
    if spec.needs_swarm_manager:
        constraints.append("node.role == manager")
    return [*constraints, *spec.constraints]
