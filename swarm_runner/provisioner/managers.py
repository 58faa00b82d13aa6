"""Several managers of one pool: their nodes, the spool that they share, and what a loss costs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from swarm_runner.errors import Diagnostic, InvalidInputError, PreconditionError
from swarm_runner.model.managers import split_host
from swarm_runner.model.pool import Pool
from swarm_runner.model.pool_status import DockerEngine, ServiceState, SwarmNode, TaskState
from swarm_runner.model.text import list_names
from swarm_runner.provisioner.preconditions import PermanentError
from swarm_runner.provisioner.task_failures import TaskFailures
from swarm_runner.provisioner.waiter import Waiter
from swarm_runner.structured_log import get_logger
from swarm_runner.swarm.ports import Swarm
from swarm_runner.swarm.specs import QUEUE_LOCK_PROGRAM, ServiceSpec

log = get_logger(__name__)

SPOOL_TIMEOUT_S = 90.0
_LOOPBACK = ("127.", "localhost")


def manager_nodes(pool: Pool, docker_engine: DockerEngine, nodes: Sequence[SwarmNode]) -> list[str]:
    """Return the ID of each manager's node, which `pool.hosts` names.

    An address of the loopback interface is the engine's own node. Raises InvalidInputError with
    each address that does not belong to a node, and when two managers of a Swarm with several nodes
    share one.
    """
    found: list[str] = []
    diagnostics: list[Diagnostic] = []
    for position, text in enumerate(pool.hosts):
        host, _ = split_host(text, pool.port)
        node_id = _node_of(host, docker_engine, nodes)
        path = f"pool.hosts[{position}]"
        if not node_id:
            names = list_names([f"{node.name} ({node.address})" for node in nodes])
            message = (
                f"{host} is neither the host name nor the address of a node of this Swarm; it has "
                f"{names}"
            )
            diagnostics.append(Diagnostic(message, path=path))
        elif node_id in found and len(nodes) > 1:
            message = f"{host} is on the same node as another manager; name another node"
            diagnostics.append(Diagnostic(message, path=path))
        found.append(node_id)
    if diagnostics:
        raise InvalidInputError(diagnostics)
    return found


def known_manager_nodes(
    pool: Pool, docker_engine: DockerEngine, nodes: Sequence[SwarmNode]
) -> list[SwarmNode]:
    """Return the managers' nodes, without those that have left the Swarm."""
    ids = [_node_of(split_host(text, pool.port)[0], docker_engine, nodes) for text in pool.hosts]
    return [node for node in nodes if node.id in ids]


def _node_of(host: str, docker_engine: DockerEngine, nodes: Sequence[SwarmNode]) -> str:
    if host.startswith(_LOOPBACK):
        return docker_engine.node_id
    for node in nodes:
        if host in (node.name, node.address) or host.partition(".")[0] == node.name:
            return node.id
    return ""


def run_in_manager(swarm: Swarm, pool: Pool, command: Sequence[str]) -> bytes | None:
    """Run a command in the container of a manager on this engine; None if there is none.

    With several managers it may be one that waits for the queue: it has the same spool and key.
    """
    for service in pool.manager_services:
        output = swarm.exec_in_service(service, command)
        if output is not None:
            return output
    return None


def run_in_holder(swarm: Swarm, pool: Pool, command: Sequence[str]) -> bytes | None:
    """Run a command that needs HTCondor's daemons in the manager that has the queue.

    Return None if no manager runs on this engine. Raises PreconditionError if the command fails,
    which it does in managers that wait for the queue.
    """
    failure = None
    for service in pool.manager_services:
        try:
            output = swarm.exec_in_service(service, command)
        except PreconditionError as error:
            failure = error
        else:
            if output is not None:
                return output
    if failure is None:
        return None
    if pool.managers == 1:
        raise failure
    raise PreconditionError(
        f"{failure}. If another manager has the queue (`swarm-runner pool status`), select the "
        "engine of its node with DOCKER_HOST or a docker context"
    ) from failure


def check_manager_is_here(tasks: Sequence[TaskState], engine_name: str) -> None:
    """Raise PermanentError when managers run, but on other nodes than this engine's.

    One that Swarm is about to start may come here.
    """
    active = [t for t in tasks if not (t.stopping or t.stopped or t.lost)]
    running = [t for t in active if t.state == "running"]
    may_be_here = any(task.node in ("", engine_name) for task in active)
    nodes = sorted({task.node for task in running})
    if nodes and not may_be_here:
        raise PermanentError(
            f"service {running[0].service} runs on {nodes[0]}, but this command uses the engine of "
            f"{engine_name}; tokens are signed in the manager's container, and the queue is there. "
            f"Select the engine of {' or '.join(nodes)} with DOCKER_HOST or a docker context"
        )


def move_managers(
    specs: Sequence[ServiceSpec],
    existing: Mapping[str, ServiceState],
    swarm: Swarm,
    progress: Callable[[str], None],
) -> None:
    """Move the managers for which `pool.hosts` names another node than before.

    At once: a rollout would wait for the task of a node that is lost.
    """
    host = "SWARM_RUNNER_HOST"
    for spec in specs:
        service = existing.get(spec.name)
        if service and service.environment.get(host) != spec.environment[host]:
            progress(f"moving {spec.name} to {spec.environment[host]}")
            swarm.update_service(spec)
            log.info("Service moved", service=spec.name, reason="pool.hosts has another node")


def check_spool(
    pool: Pool, swarm: Swarm, waiter: Waiter, failures: TaskFailures, specs: Sequence[ServiceSpec]
) -> None:
    """Wait until one manager has the queue and the others wait for it, on one spool that locks.

    Managers whose node is down are not waited for. Raises PreconditionError otherwise, with what
    to do.
    """
    ready = {node.id for node in swarm.nodes() if node.ready}
    expected = [spec.name for spec in specs if spec.node_id in ready]

    def poll() -> str:
        tasks = swarm.tasks(pool.name)
        failures.check(tasks)
        try:
            output = run_in_manager(swarm, pool, ["python3", QUEUE_LOCK_PROGRAM, "status"])
        except PreconditionError as error:
            return str(error)  # a container that has just stopped
        if output is None:
            managers = [task for task in tasks if task.service in pool.manager_services]
            if {task.service for task in managers} == {spec.name for spec in specs}:
                check_manager_is_here(managers, swarm.docker_engine().name)
            return "waiting for the managers to start"
        return _spool_problem(pool, output, expected)

    def reported() -> str:
        problem = poll()
        if problem:
            waiter.report(problem)
        return problem

    waiter.poll_until(reported, lambda problem: not problem, SPOOL_TIMEOUT_S)


def _spool_problem(pool: Pool, output: bytes, expected: Sequence[str]) -> str:
    """Return what is missing. Raises PermanentError if the volume does not lock."""
    state: dict[str, Any] = json.loads(output)
    holder, standbys = state["holder"], state["standbys"]
    for standby in standbys:
        if not standby["locks"]:
            raise PermanentError(
                f"the volume of {pool.spool} does not lock: {standby['node']} got the lock of the "
                "queue while another manager had it, so that two could write. Mount it with "
                "working locks (NFS version 4 without local_lock and nolock), or leave "
                "managers out"
            )
    names = [record["service"] for record in (holder, *standbys) if record]
    missing = [service for service in expected if service not in names]
    if missing:
        return (
            f"waiting for {', '.join(missing)} to write to {pool.spool}: if it runs, its node has "
            "another directory there. Mount the same volume on all nodes of pool.hosts"
        )
    return "" if holder else f"waiting for a manager to take the queue in {pool.spool}"


def losses(pool: Pool, docker_engine: DockerEngine, *, autoscaler_node: str) -> dict[str, str]:
    """Return for each part of a pool what happens when a node is lost."""
    tolerated = max(docker_engine.managers - 1, 0) // 2
    swarm_state = "in the Swarm, lost with its only manager node"
    if tolerated:
        swarm_state = f"in the Swarm, which survives {tolerated} of {docker_engine.managers} nodes"
    queue = "lost with the node, except for a `pool backup`"
    if pool.managers > 1:
        queue = f"another of {pool.managers} managers continues"
    parts = {
        "queue, history, token list": queue,
        "settings, secrets, network": swarm_state,
        "page": "outside of the pool; `pool serve` runs on any host",
    }
    if autoscaler_node and pool.autoscaler_image:
        parts["autoscaler"] = f"on {autoscaler_node}; Swarm starts it on another manager node"
    elif autoscaler_node:
        parts["autoscaler"] = (
            f"on {autoscaler_node}, and does not move by itself, as its image is in no registry "
            "(autoscaler_image); `pool up --autoscale` on another Swarm manager moves it"
        )
    return parts


def remove_unchecked(swarm: Swarm, created: Sequence[str], error: Exception) -> NoReturn:
    """Remove the managers of a new pool whose spool is not shared. Raises PreconditionError."""
    swarm.remove_services(created)
    raise PreconditionError(f"{error}. Removed the managers again: {', '.join(created)}") from error
