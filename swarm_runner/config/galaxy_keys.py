"""The keys of job_conf.yml that Galaxy reads, and that swarm_runner ignores.

Source: Galaxy's lib/galaxy/config/sample/job_conf.sample.yml and lib/galaxy/jobs/__init__.py.
The keys are listed, so that a key in neither Galaxy's list nor our own is reported.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# `dynamic` does not require an entry under runners; `dynamic_tpv` is short for it.
_VIRTUAL_RUNNERS = frozenset({"dynamic", "dynamic_tpv"})

#: The keys of a runner that Galaxy reads, besides those of the runner itself.
RUNNER_KEYS = frozenset({"id", "enabled", "recheck_missing_job_retries", "runner_param_specs"})

ENVIRONMENT_KEYS = frozenset(
    re.split(
        r"\s+",
        """
    id enabled env resubmit shell tags metrics escalation
    docker_auto_rm docker_cmd docker_container_id_override docker_cpu docker_enabled docker_host
    docker_host_port_cmd docker_memory docker_net docker_run_extra_arguments docker_set_user
    docker_sudo docker_sudo_cmd docker_volumes docker_volumes_from
    container container_override container_resolvers container_resolvers_config_file
    container_monitor container_monitor_command container_monitor_get_ip_method
    container_monitor_result require_container
    allow_guests cleanup_job dependency_resolution embed_metadata_in_job live_tool_output_reporting
    max_metadata_value_size metadata_strategy object_store_id outputs_to_working_directory
    real_system_username retry_job_output_collection retry_metadata_internally tmp_dir
    tool_evaluation_strategy use_metadata_binary
    max_accepted_cores max_accepted_gpus max_accepted_mem
    max_cores max_gpus max_mem min_cores min_gpus min_mem
    min_accepted_cores min_accepted_gpus min_accepted_mem
    """.strip(),
    )
)
# docker_env_NAME sets NAME in a container. Singularity has many keys, which do not apply here.
# `htcondor_*` and `escalation` are keys of swarm_runner_galaxy.
_ENVIRONMENT_PREFIXES = ("docker_env_", "singularity_", "htcondor_")


def is_runner_key(name: str) -> bool:
    """Return whether Galaxy reads this key of a runner."""
    return name in RUNNER_KEYS


def is_environment_key(name: str) -> bool:
    """Return whether Galaxy reads this key of an environment."""
    return name in ENVIRONMENT_KEYS or name.startswith(_ENVIRONMENT_PREFIXES)


def is_virtual_runner(name: object) -> bool:
    """Return whether Galaxy knows this runner without an entry."""
    return isinstance(name, str) and name in _VIRTUAL_RUNNERS


def is_disabled(settings: Mapping[Any, Any]) -> bool:
    """Return whether Galaxy ignores a runner or an environment (`enabled: false`)."""
    return str(settings.get("enabled", True)).lower() not in ("true", "yes", "on", "y", "t", "1")
