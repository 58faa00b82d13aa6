"""What the runner adds to Galaxy's job script, and the job as an invocation."""

from __future__ import annotations

import re
from typing import Any

from swarm_runner.model.invocation import Invocation
from swarm_runner_galaxy.parameters import Parameters

SHELL = "/bin/sh"
# What the slot was given may be more than was asked for, and more still after the schedd raised
# the request. HTCondor leaves it in a file in the job's scratch directory. Words of POSIX's sh
# alone: an image need not have more.
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


def slots_statement(parameters: Parameters) -> str:
    """Shell text that sets GALAXY_SLOTS and GALAXY_MEMORY_MB from what the job was given."""
    return _SLOT_RESOURCES_TEMPLATE.format(
        cpus=parameters.request_cpus, memory_mb=parameters.request_memory
    )


# Galaxy's cgroup metrics name files by bash's braces, which /bin/sh takes for letters. A
# parameter's braces have a dollar before them, and a comma with a backslash is a letter.
_CGROUP_FILES = re.compile(r"(?<=for f in )\S+\{cpu\S+(?=; do)")
_BRACES = re.compile(r"(?<!\$)\{([^{}]*)\}")
_COMMA = re.compile(r"(?<!\\),")


def expand_cgroup_braces(script: str) -> str:
    """The job script with the names of cgroup files as any shell reads them."""
    return _CGROUP_FILES.sub(lambda found: " ".join(_expand_braces(found[0])), script)


def _expand_braces(word: str) -> list[str]:
    found = _BRACES.search(word)
    if found is None:
        return [word]
    before, after = word[: found.start()], word[found.end() :]
    choices = _COMMA.split(found[1])
    return [name for choice in choices for name in _expand_braces(before + choice + after)]


def build_invocation(key: str, state: Any, image: str, parameters: Parameters) -> Invocation:
    """The job script of a Galaxy job, in the tool's image, where Galaxy put it.

    Raises pydantic.ValidationError for an image that is none.
    """
    wrapper = state.job_wrapper
    attributes: dict[str, Any] = {
        "GalaxyJobId": str(wrapper.get_id_tag()),
        "GalaxyDestination": str(wrapper.job_destination.id),
    }
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
        capacity_class=parameters.capacity_class,
        attributes=attributes,
    )
