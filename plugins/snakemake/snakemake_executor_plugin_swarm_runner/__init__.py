"""Runs Snakemake's jobs in HTCondor's docker universe, on a pool that lives on Docker Swarm.

What Snakemake looks for in an executor plugin, and no more: each start of Snakemake imports it.
"""

from snakemake_interface_executor_plugins.settings import CommonSettings

from snakemake_executor_plugin_swarm_runner._version import __version__
from snakemake_executor_plugin_swarm_runner.executor import Executor
from snakemake_executor_plugin_swarm_runner.settings import ExecutorSettings

__all__ = ["Executor", "ExecutorSettings", "__version__", "common_settings"]

common_settings = CommonSettings(
    non_local_exec=True,
    implies_no_shared_fs=False,
    job_deploy_sources=True,
    # Variables go to the job by HTCondor's own way, never through a command line.
    pass_envvar_declarations_to_cmd=False,
    # The image of nested jobs holds the plugins: an installation in each job costs more than the
    # job, and needs the network.
    auto_deploy_default_storage_provider=False,
)
