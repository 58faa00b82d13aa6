"""The command `swarm-runner`: reads arguments, calls the library and shows the results."""

import atexit
import gc
import os

# A command's start makes some 100,000 objects and drops few: to look for garbage meanwhile, and
# among them at the end, costs a tenth of it.
gc.set_threshold(200_000)
atexit.register(gc.freeze)
# Likewise: pydantic would read the entry points of every installed distribution, for plugins that
# watch validation.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

from swarm_runner.cli.app import main  # noqa: E402

__all__ = ["main"]
