"""Submits invocations to a pool, follows them, and says how each ended."""

from swarm_runner.runner.runner import Runner

__all__ = ["Runner"]
