"""Running a docker command on every node, for operations that only a node's own engine can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from swarm_runner.structured_log import get_logger
from swarm_runner.swarm.specs import DOCKER_SOCKET

log = get_logger(__name__)

DIRECTORY = "/directory"  # where a command has the directory that it is to use
_SECOND_NS = 1_000_000_000
TIMEOUT_S = 60.0
_MAX_ATTEMPTS = 30
_POLL_INTERVAL_S = 0.5


class GlobalJobResult(NamedTuple):
    """The hosts on which a command did not succeed, and the lines that it wrote elsewhere."""

    unfinished_hosts: list[str]
    lines: list[str]


def run_on_every_node(
    api: Any,
    name: str,
    image: str,
    command: Sequence[str],
    *,
    timeout_s: float = TIMEOUT_S,
    directory: str | None = None,
    node_id: str | None = None,
) -> GlobalJobResult:
    """Run a command in a container of `image` on each node, with access to the node's engine.

    `api` is docker-py's APIClient; `name` is the name of a temporary service. A command that
    fails is repeated, for `timeout_s` seconds at most. Hosts on which it does not succeed are, for
    example, drained or down. With `directory`, the command has that directory of its node as
    DIRECTORY instead of the engine; with `node_id`, it runs on that node only.
    """
    from docker import types

    mount = types.Mount(DOCKER_SOCKET, DOCKER_SOCKET, type="bind")
    if directory is not None:
        mount = types.Mount(DIRECTORY, directory, type="bind")
    constraints = None if node_id is None else [f"node.id == {node_id}"]
    template = types.TaskTemplate(
        types.ContainerSpec(image, command=list(command), mounts=[mount]),
        placement=types.Placement(constraints=constraints),
        # A volume may still be in use for a moment.
        restart_policy=types.RestartPolicy("on-failure", _SECOND_NS, max_attempts=_MAX_ATTEMPTS),
    )
    service = api.create_service(template, name=name, mode=types.ServiceMode("global-job"))
    try:
        poll = Retrying(
            retry=retry_if_result(bool),
            wait=wait_fixed(_POLL_INTERVAL_S),
            stop=stop_after_delay(timeout_s),
            retry_error_callback=lambda state: state.outcome and state.outcome.result(),
        )
        unfinished: list[str] = poll(_unfinished_hosts, api, service["ID"], node_id)
        log.debug("Global job ended", service=name, unfinished_hosts=unfinished)
        output = b"".join(api.service_logs(service["ID"], stdout=True, follow=False, is_tty=False))
        return GlobalJobResult(unfinished, output.decode(errors="replace").splitlines())
    finally:
        api.remove_service(service["ID"])


def _unfinished_hosts(api: Any, service: str, node_id: str | None) -> list[str]:
    """Return the hosts on which no task is complete."""
    complete = {
        task.get("NodeID")
        for task in api.tasks(filters={"service": service})
        if task["Status"]["State"] == "complete"
    }
    hosts: Mapping[str, str] = {
        node["ID"]: node["Description"]["Hostname"]
        for node in api.nodes()
        if node_id in (None, node["ID"])
    }
    return sorted(host for node, host in hosts.items() if node not in complete)
