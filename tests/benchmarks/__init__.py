"""The figures that swarm_runner is held to, measured beside what it is compared with."""
