"""A Snakemake executor for HTCondor pools that run on Docker Swarm.

Snakemake imports this module at every start, so it imports only what Snakemake asks a plugin for.
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
    # HTCondor passes the variables to the job; they must not appear in a command line.
    pass_envvar_declarations_to_cmd=False,
    # The image for nested jobs contains the plugins. Installing them in each job would take longer
    # than the job, and would need the network.
    auto_deploy_default_storage_provider=False,
)
