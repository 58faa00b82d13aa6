"""The command `swarm-runner`. Reads arguments, calls the library, shows what came back."""

from swarm_runner.cli.app import main

__all__ = ["main"]
