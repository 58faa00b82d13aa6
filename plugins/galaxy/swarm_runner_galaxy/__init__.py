"""Galaxy's job runner for swarm_runner: `load: swarm_runner_galaxy.runner:SwarmJobRunner`.

Galaxy calls `runner.SwarmJobRunner`. The runner translates each Galaxy job into an `Invocation`
for the core, and translates the core's job changes into Galaxy's job states. This package does not
talk to HTCondor itself.
"""
