"""A ServiceWish in the engine API's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from swarm_runner.swarm.specs import GPU_RESOURCE, SPEC_DIGEST_LABEL, ServiceSpec

_SECOND_NS = 1_000_000_000
_ROOT_ONLY = 0o400


def service_arguments(
    spec: ServiceSpec, secret_ids: Mapping[str, str], update_delay_s: int = 0
) -> dict[str, Any]:
    """Arguments of docker-py's create_service and update_service.

    `pace_s` is the least time between the replacement of two tasks.
    """
    from docker import types

    secret = types.SecretReference(
        secret_ids[spec.secret.name],
        spec.secret.name,
        filename=spec.secret.target,
        mode=_ROOT_ONLY,
    )
    container = types.ContainerSpec(
        spec.image,
        hostname=spec.hostname,
        env=[f"{name}={value}" for name, value in spec.environment.items()],
        # A task tells by which wish it was made.
        labels=dict(spec.labels) | {SPEC_DIGEST_LABEL: spec.digest()},
        mounts=[
            types.Mount(
                mount.target,
                mount.source,
                type="volume" if mount.volume else "bind",
                read_only=mount.read_only,
                labels=_pool_labels(spec) if mount.volume else None,
            )
            for mount in spec.mounts
        ],
        stop_grace_period=spec.stop_grace_s * _SECOND_NS,
        secrets=[secret],
        init=True,
    )
    reservation = None
    if spec.memory_mb is not None:
        # Jobs run beside the executor; the reservation keeps Swarm from promising a node twice.
        reservation = types.Resources(
            mem_reservation=spec.memory_mb * 2**20,
            generic_resources={GPU_RESOURCE: spec.gpus} if spec.gpus else None,
        )
    template = types.TaskTemplate(
        container,
        resources=reservation,
        restart_policy=types.RestartPolicy(condition="any", delay=2 * _SECOND_NS),
        placement=types.Placement(constraints=_constraints(spec) or None),
        networks=[
            types.NetworkAttachmentConfig(
                spec.network, aliases=[spec.hostname] if spec.hostname else None
            )
        ],
    )
    ports = []
    if spec.port is not None:
        ports = [
            {
                "PublishedPort": spec.port,
                "TargetPort": spec.port,
                "Protocol": "tcp",
                "PublishMode": spec.publish,
            }
        ]
    return {
        "task_template": template,
        "name": spec.name,
        "labels": dict(spec.labels) | {SPEC_DIGEST_LABEL: spec.digest()},
        "mode": types.ServiceMode("replicated", replicas=spec.replicas),
        # The memory of a node is promised once: the new task needs what the old one lets go of,
        # so that start-first would wait for ever where nodes are full.
        "update_config": types.UpdateConfig(
            parallelism=1,
            delay=update_delay_s * _SECOND_NS,
            order="stop-first",
            failure_action="pause",
            monitor=10 * _SECOND_NS,
        ),
        "endpoint_spec": {"Mode": spec.endpoint_mode, "Ports": ports},
    }


def _constraints(spec: ServiceSpec) -> list[str]:
    found = [f"node.id == {spec.node_id}"] if spec.node_id else []
    return [*found, "node.role == manager"] if spec.needs_swarm_manager else found


def _pool_labels(spec: ServiceSpec) -> dict[str, str]:
    from swarm_runner.swarm.specs import POOL_LABEL

    return {POOL_LABEL: spec.labels[POOL_LABEL]}
