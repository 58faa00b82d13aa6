"""A Galaxy job as an invocation: the tool's image, additions to the job script, raw commands."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from galaxy.jobs.runners.util.env import env_to_statement

from swarm_runner import (
    DestinationParameters,
    InvalidInputError,
    Invocation,
    Route,
    docker_variables,
    hookimpl,
)
from swarm_runner_galaxy.entry_points import container_options
from swarm_runner_galaxy.singularity import as_docker_container

SHELL = "/bin/sh"
# The slot may have more than the job requested, and more again after the schedd raised the request.
# HTCondor writes the slot's resources to a file in the job's scratch directory. POSIX sh only: an
# image may have nothing else.
_SLOT_RESOURCES_TEMPLATE = """
GALAXY_SLOTS="{cpus}"
GALAXY_MEMORY_MB="{memory_mb}"
if [ -r "$_CONDOR_MACHINE_AD" ]; then
    while read -r _name _is _value; do
        case "$_name" in
            Cpus) GALAXY_SLOTS="$_value" ;;
            Memory) GALAXY_MEMORY_MB="$_value" ;;
        esac
    done <"$_CONDOR_MACHINE_AD"
fi
GALAXY_SLOTS_CONFIGURED="1"
GALAXY_MEMORY_MB_PER_SLOT=$(($GALAXY_MEMORY_MB / $GALAXY_SLOTS))
export GALAXY_SLOTS GALAXY_SLOTS_CONFIGURED GALAXY_MEMORY_MB GALAXY_MEMORY_MB_PER_SLOT
"""
# Galaxy's cgroup metrics use bash's brace expansion, which /bin/sh does not have. A brace after a
# dollar sign belongs to a parameter; a comma after a backslash is part of a name.
_CGROUP_FILES = re.compile(r"(?<=for f in )\S+\{cpu\S+(?=; do)")
_BRACES = re.compile(r"(?<!\$)\{([^{}]*)\}")
_COMMA = re.compile(r"(?<!\\),")


class RawCommands:
    """A hook plugin that adds the destination's raw HTCondor commands to submit descriptions."""

    def __init__(self, commands: Mapping[str, Mapping[str, str]]) -> None:
        """Take the commands by job key. The mapping may change later."""
        self._commands = commands

    @hookimpl
    def swarm_runner_amend_submit(
        self, invocation: Invocation, route: Route
    ) -> Mapping[str, str] | None:
        """Return the raw commands of the invocation's key, if it has any."""
        del route
        return self._commands.get(invocation.key)


def find_image(job_wrapper: Any, *, singularity_to_docker: bool = True) -> str:
    """Return the tool's Docker image: for a Singularity image, the one that it was made from.

    Raise InvalidInputError if there is none, with advice for the administrator.
    """
    container = job_wrapper.swarm_container
    tool, destination = job_wrapper.tool.id, job_wrapper.job_destination.id
    if container is None:
        raise InvalidInputError(
            f"tool {tool} has no container for destination {destination}: set docker_enabled: true "
            "for that destination, and docker_default_container_id to run tools without a "
            "container in an image of your choice; or send the tool to another destination"
        )
    if container.container_type == "singularity" and singularity_to_docker:
        docker = as_docker_container(container, str(tool))
        job_wrapper.swarm_container = container = docker or container
    if container.container_type != "docker":
        kind = f"{container.container_type}, {container.container_id}"
        refused = "" if singularity_to_docker else "singularity_to_docker is false, and "
        raise InvalidInputError(
            f"tool {tool} has a container of type {kind}, but {refused}the pool runs Docker "
            "containers: configure the container resolvers to find a Docker image, or set "
            "docker_container_id_override for the tool"
        )
    return str(container.container_id)


def slots_statement(parameters: DestinationParameters) -> str:
    """Return shell code that sets GALAXY_SLOTS and GALAXY_MEMORY_MB from the job's slot."""
    return _SLOT_RESOURCES_TEMPLATE.format(
        cpus=parameters.request_cpus, memory_mb=parameters.request_memory
    )


def variable_statements(params: Mapping[str, Any]) -> list[str]:
    """Return shell code that sets the variables of a destination's `docker_env_NAME`."""
    return [
        env_to_statement({"name": name, "value": value})
        for name, value in docker_variables(params).items()
    ]


def expand_cgroup_braces(script: str) -> str:
    """Return the job script with the braces in names of cgroup files expanded, for POSIX sh."""
    return _CGROUP_FILES.sub(lambda found: " ".join(_expand_braces(found[0])), script)


def _expand_braces(word: str) -> list[str]:
    found = _BRACES.search(word)
    if found is None:
        return [word]
    before, after = word[: found.start()], word[found.end() :]
    choices = _COMMA.split(found[1])
    return [name for choice in choices for name in _expand_braces(before + choice + after)]


def user_names(user: Any, account_by: str) -> Iterator[str]:
    """Yield the names by which one of Galaxy's users may have an account, the best first.

    `user` is None without a login, and for a user who does not exist any more.
    """
    if account_by == "none":
        return
    if user is None:
        yield "anonymous"
        return
    if account_by != "id":
        yield str(getattr(user, account_by, None) or "")
    yield f"user-{user.id}"


def build_invocation(
    key: str, state: Any, image: str, parameters: DestinationParameters
) -> Invocation:
    """Return an invocation that runs a Galaxy job's script in the tool's image, in place.

    Raise pydantic.ValidationError if the image is not a valid image reference, and
    InvalidInputError if the tool is interactive and the destination runs no such tools.
    """
    wrapper = state.job_wrapper
    attributes: dict[str, Any] = {
        "GalaxyJobId": str(wrapper.get_id_tag()),
        "GalaxyDestination": str(wrapper.job_destination.id),
    }
    names = user_names(wrapper.get_job().user, parameters.account_by)
    return Invocation(
        key=key,
        tool_id=str(wrapper.tool.id).replace("$(", "("),
        image=image,
        command=(SHELL, state.job_file),
        working_directory=wrapper.working_directory,
        in_place=True,
        stdout=state.output_file,
        stderr=state.error_file,
        resources=parameters.resources,
        container_options=container_options(wrapper, parameters),
        capacity_class=parameters.capacity_class,
        attributes=attributes,
        **dict(parameters.scheduling) | {"account": parameters.account_of(names)},
    )
