"""A ServiceWish in the engine API's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from swarm_runner.model.stack import GPU_RESOURCE, WISH_LABEL, ServiceWish

_SECOND_NS = 1_000_000_000
_ROOT_ONLY = 0o400


def service_arguments(
    wish: ServiceWish, secret_ids: Mapping[str, str], pace_s: int = 0
) -> dict[str, Any]:
    """Arguments of docker-py's create_service and update_service.

    `pace_s` is the least time between the replacement of two tasks.
    """
    from docker import types

    secret = types.SecretReference(
        secret_ids[wish.secret.name],
        wish.secret.name,
        filename=wish.secret.target,
        mode=_ROOT_ONLY,
    )
    container = types.ContainerSpec(
        wish.image,
        hostname=wish.hostname,
        env=[f"{name}={value}" for name, value in wish.environment.items()],
        # A task tells by which wish it was made.
        labels=dict(wish.labels) | {WISH_LABEL: wish.digest()},
        mounts=[
            types.Mount(
                mount.target,
                mount.source,
                type="volume" if mount.volume else "bind",
                read_only=mount.read_only,
                labels=_pool_labels(wish) if mount.volume else None,
            )
            for mount in wish.mounts
        ],
        stop_grace_period=wish.stop_grace_s * _SECOND_NS,
        secrets=[secret],
        init=True,
    )
    reservation = None
    if wish.memory_mb is not None:
        # Jobs run beside the executor; the reservation keeps Swarm from promising a node twice.
        reservation = types.Resources(
            mem_reservation=wish.memory_mb * 2**20,
            generic_resources={GPU_RESOURCE: wish.gpus} if wish.gpus else None,
        )
    template = types.TaskTemplate(
        container,
        resources=reservation,
        restart_policy=types.RestartPolicy(condition="any", delay=2 * _SECOND_NS),
        placement=types.Placement(constraints=_constraints(wish) or None),
        networks=[
            types.NetworkAttachmentConfig(
                wish.network, aliases=[wish.hostname] if wish.hostname else None
            )
        ],
    )
    ports = []
    if wish.port is not None:
        ports = [
            {
                "PublishedPort": wish.port,
                "TargetPort": wish.port,
                "Protocol": "tcp",
                "PublishMode": wish.publish,
            }
        ]
    return {
        "task_template": template,
        "name": wish.name,
        "labels": dict(wish.labels) | {WISH_LABEL: wish.digest()},
        "mode": types.ServiceMode("replicated", replicas=wish.replicas),
        # The memory of a node is promised once: the new task needs what the old one lets go of,
        # so that start-first would wait for ever where nodes are full.
        "update_config": types.UpdateConfig(
            parallelism=1,
            delay=pace_s * _SECOND_NS,
            order="stop-first",
            failure_action="pause",
            monitor=10 * _SECOND_NS,
        ),
        "endpoint_spec": {"Mode": wish.endpoint_mode, "Ports": ports},
    }


def _constraints(wish: ServiceWish) -> list[str]:
    found = [f"node.id == {wish.node_id}"] if wish.node_id else []
    return [*found, "node.role == manager"] if wish.needs_manager else found


def _pool_labels(wish: ServiceWish) -> dict[str, str]:
    from swarm_runner.model.stack import POOL_LABEL

    return {POOL_LABEL: wish.labels[POOL_LABEL]}
