"""One command beside the engine of every node: for what only a node's own engine can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from swarm_runner.swarm.specs import DOCKER_SOCKET

_SECOND_NS = 1_000_000_000
TIMEOUT_S = 60.0
_MAX_ATTEMPTS = 30
_POLL_INTERVAL_S = 0.5


def run_on_every_node(api: Any, name: str, image: str, command: Sequence[str]) -> list[str]:
    """Run a command in a container of `image` on each node, until it ends with code 0.

    `api` is docker-py's APIClient, `name` that of a service which comes and goes. The hosts on
    which it did not end well come back: those that are drained or do not answer, for two.
    """
    from docker import types

    socket = types.Mount(DOCKER_SOCKET, DOCKER_SOCKET, type="bind")
    template = types.TaskTemplate(
        types.ContainerSpec(image, command=list(command), mounts=[socket]),
        # What is to be removed may be in use for a moment yet.
        restart_policy=types.RestartPolicy("on-failure", _SECOND_NS, max_attempts=_MAX_ATTEMPTS),
    )
    service = api.create_service(template, name=name, mode=types.ServiceMode("global-job"))
    try:
        waiting = Retrying(
            retry=retry_if_result(bool),
            wait=wait_fixed(_POLL_INTERVAL_S),
            stop=stop_after_delay(TIMEOUT_S),
            retry_error_callback=lambda state: state.outcome and state.outcome.result(),
        )
        undone: list[str] = waiting(_unfinished_hosts, api, service["ID"])
        return undone
    finally:
        api.remove_service(service["ID"])


def _unfinished_hosts(api: Any, service: str) -> list[str]:
    """The hosts without a task that has ended well."""
    done = {
        task.get("NodeID")
        for task in api.tasks(filters={"service": service})
        if task["Status"]["State"] == "complete"
    }
    hosts: Mapping[str, str] = {node["ID"]: node["Description"]["Hostname"] for node in api.nodes()}
    return sorted(host for node, host in hosts.items() if node not in done)
