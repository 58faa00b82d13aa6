"""What the engine's API answers, read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from swarm_runner.model.pool_status import TaskState
from swarm_runner.swarm.specs import SPEC_DIGEST_LABEL

_DOWN = "down"  # a node of which the Swarm's leader hears nothing


def host_of(base_url: str) -> str:
    """Where the engine is; empty for a socket of this machine."""
    parts = urlsplit(base_url)
    return parts.hostname or "" if parts.scheme in ("http", "https") else ""


def task_state(
    task: Mapping[str, Any], service_names: Mapping[str, str], node: Mapping[str, Any] | None
) -> TaskState:
    """A task, by the names of its pool's services and with its node, if it has one."""
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
        node_down=node is not None and node["Status"]["State"] == _DOWN,
        wish=(task["Spec"]["ContainerSpec"].get("Labels") or {}).get(SPEC_DIGEST_LABEL, ""),
    )


def replicas_of(spec: Mapping[str, Any]) -> int:
    """How many tasks a service is to have."""
    return int(spec["Mode"]["Replicated"]["Replicas"])


def spec_arguments(spec: Mapping[str, Any], replicas: int) -> dict[str, Any]:
    """What sends a service's specification back as it is, but for the number of its tasks."""
    return {
        "task_template": spec["TaskTemplate"],
        "name": spec["Name"],
        "labels": spec["Labels"],
        "mode": {"Replicated": {"Replicas": replicas}},
        "update_config": spec.get("UpdateConfig"),
        "rollback_config": spec.get("RollbackConfig"),
        "endpoint_spec": spec.get("EndpointSpec"),
    }
