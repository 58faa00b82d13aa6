"""The command `swarm-runner`: reads arguments, calls the library and shows the results."""

from swarm_runner.cli.app import main

__all__ = ["main"]
