"""The keys of a destination that Galaxy's own runners pass to a docker command.

Here HTCondor starts the container. Variables (`docker_env_NAME`) are set in Galaxy's job script;
what the other keys ask for comes from the pool, or from the job's request.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from swarm_runner.model.invocation import SHELL_VARIABLE
from swarm_runner.model.pool import Pool
from swarm_runner.model.text import list_names

VARIABLE_PREFIX = "docker_env_"
# What jobs have anyway: Docker's own network, and the user that Galaxy runs as.
_DEFAULT_NETWORKS = ("bridge", "default")
_GALAXYS_USER = "$UID"
# Comparing volumes takes time in proportion to their number.
_MAX_COMPARED_LENGTH = 10_000


def docker_variables(params: Mapping[Any, Any]) -> dict[str, str]:
    """Return the variables that a destination sets in containers: `docker_env_NAME`.

    Their values may refer to other variables, as in Galaxy. A name that a shell cannot set is left
    out; `docker_key_warnings` reports it.
    """
    variables = {
        str(key).removeprefix(VARIABLE_PREFIX): str(value)
        for key, value in params.items()
        if str(key).startswith(VARIABLE_PREFIX) and value not in (None, "")
    }
    return {name: value for name, value in variables.items() if SHELL_VARIABLE.fullmatch(name)}


def docker_key_warnings(params: Mapping[Any, Any], pool: Pool) -> list[tuple[str, str]]:
    """Return a key and a message for what a destination asks of docker and does not get.

    All options of the docker command share one message.
    """
    given = {str(key): str(value) for key, value in params.items() if value not in (None, "")}
    names = [key for key in given if key.startswith(VARIABLE_PREFIX)]
    variables = docker_variables(params)
    warnings = [
        (key, "is ignored: its name after docker_env_ is not one that a shell can set")
        for key in names
        if key.removeprefix(VARIABLE_PREFIX) not in variables
    ]
    options = [key for key in _EXPECTED if key in given and not _EXPECTED[key](given[key], pool)]
    if options:
        first, *others = options
        request = "request_cpus, request_memory and request_gpus"
        also = f", and neither has {list_names(others, ' or ')}" if others else ""
        volumes = list_names([volume.path for volume in pool.volumes]) or "no volumes"
        message = (
            f"has no effect{also}: HTCondor starts the container, and no docker command of "
            f"Galaxy's. Jobs see the volumes of pool {pool.name} ({volumes}), run as its user (uid "
            f"{pool.user.uid}) on Docker's own network, and have what {request} ask for"
        )
        warnings.append((first, message))
    return warnings


def _volumes_exist(text: str, pool: Pool) -> bool:
    """Return whether jobs see all volumes of a list such as `$defaults,/data:ro`.

    Galaxy's own directories, which begin with a dollar, are checked when Galaxy boots.
    """
    if len(text) > _MAX_COMPARED_LENGTH:
        return False
    for entry in filter(None, map(str.strip, text.split(","))):
        source, *rest = entry.split(":")
        target = next((part for part in rest if part.startswith("/")), source)
        if not source.startswith("$") and (target != source or pool.volume_of(source) is None):
            return False
    return True


def _is_pool_user(text: str, pool: Pool) -> bool:
    uid = text.split(":")[0]
    return uid in (_GALAXYS_USER, str(pool.user.uid), pool.user.name)


# Whether jobs get what a key asks for without it.
_EXPECTED = {
    "docker_run_extra_arguments": lambda text, _pool: not text.strip(),
    "docker_volumes": _volumes_exist,
    "docker_volumes_from": lambda text, _pool: not text.strip(),
    "docker_net": lambda text, _pool: text in _DEFAULT_NETWORKS,
    "docker_set_user": _is_pool_user,
}
