"""Builds the pluggy manager: hook contract, built-in policies, installed plugins."""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from swarm_runner import hookspecs
from swarm_runner.errors import SwarmRunnerError
from swarm_runner.policy import holds, routing, sizing

ENTRY_POINT_GROUP = "swarm_runner"


def plugin_manager(
    plugins: Iterable[object] = (), *, installed: bool = True
) -> pluggy.PluginManager:
    """A manager with the built-in policies, the `installed` distributions' and `plugins`.

    Raises pluggy.PluginValidationError when a plugin's hook does not fit the contract,
    SwarmRunnerError when an installed one cannot be loaded.
    """
    manager = pluggy.PluginManager(ENTRY_POINT_GROUP)
    manager.add_hookspecs(hookspecs)
    for builtin in (routing, holds, sizing):
        manager.register(builtin)
    if installed:
        try:
            manager.load_setuptools_entrypoints(ENTRY_POINT_GROUP)
        except Exception as error:
            raise SwarmRunnerError(
                f"an installed plugin (entry points of {ENTRY_POINT_GROUP}) cannot be loaded: "
                f"{type(error).__name__}: {error}. Mend it, or uninstall its distribution"
            ) from error
    for plugin in plugins:
        manager.register(plugin)
    manager.check_pending()
    return manager
