"""The container that Galaxy has found for a tool."""

from __future__ import annotations

from typing import Any

from swarm_runner.errors import InvalidInputError


def find_image(job_wrapper: Any) -> str:
    """The tool's image; raises InvalidInputError with what to change when there is none."""
    if job_wrapper.guest_ports:
        raise InvalidInputError("interactive tools cannot run in this destination")
    container = job_wrapper.swarm_container
    tool, destination = job_wrapper.tool.id, job_wrapper.job_destination.id
    if container is None:
        raise InvalidInputError(
            f"tool {tool} has no container for destination {destination}: set docker_enabled: "
            "true there, and docker_default_container_id if tools without a container are to "
            "run in one of your choice; or send the tool to another destination"
        )
    if container.container_type != "docker":
        raise InvalidInputError(
            f"tool {tool} has a container of type {container.container_type}, and the pool "
            "runs Docker's: let the container resolvers give it a Docker image"
        )
    return str(container.container_id)
