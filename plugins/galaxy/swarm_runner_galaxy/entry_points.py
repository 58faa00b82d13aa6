"""Interactive tools: the ports of a job's container, and Galaxy's entry points to them.

Galaxy makes the entry points before the job is submitted. They lead somewhere once the job runs,
and elsewhere when it runs again. Galaxy removes them at the job's end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from swarm_runner import (
    ContainerOptions,
    DestinationParameters,
    InvalidInputError,
    PublishedPort,
    get_logger,
)

log = get_logger(__name__)


def is_interactive(job_wrapper: Any) -> bool:
    """Return whether the job's tool is an interactive one. This does not query the database."""
    return bool(getattr(job_wrapper.tool, "produces_entry_points", False))


def container_options(
    job_wrapper: Any, parameters: DestinationParameters
) -> ContainerOptions | None:
    """Return the destination's container options, with the ports of an interactive tool.

    Raise InvalidInputError if the destination runs no interactive tools.
    """
    # Several entry points may lead to one port.
    ports = sorted({int(port) for port in job_wrapper.guest_ports})
    if not ports:
        return parameters.container_options
    if not parameters.interactive_tools:
        destination, tool = job_wrapper.job_destination.id, job_wrapper.tool.id
        raise InvalidInputError(
            f"interactive tools cannot run in destination {destination}: set interactive_tools: "
            f"true for it, in a pool with isolation.ports; or send tool {tool} to another "
            "destination"
        )
    own = ContainerOptions(ports={f"port_{port}": port for port in ports})
    return own.with_defaults(parameters.container_options)


def configure(manager: Any, job: Any, ports: Sequence[PublishedPort]) -> None:
    """Let the job's entry points lead to these ports; without any, to nowhere.

    `manager` is Galaxy's InteractiveToolManager. An entry point that a user has removed stays so.
    """
    if all(point.deleted for point in job.interactivetool_entry_points):
        return
    if ports:
        # Galaxy's proxy speaks HTTP to the tools. What Galaxy calls protocol is for information.
        where = {
            str(port.container_port): {"host": port.host, "port": port.port, "protocol": "http"}
            for port in ports
        }
        manager.configure_entry_points(job, where)
        return
    for point in job.interactivetool_entry_points:
        if point.configured and not point.deleted:
            point.configured, point.host, point.port = False, None, None
            manager.sa_session.add(point)
            manager.propagator.remove_entry_point(point)
    manager.sa_session.commit()
