"""The demonstration: `swarm-runner demo`."""
