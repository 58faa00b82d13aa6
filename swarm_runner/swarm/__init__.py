"""Docker Swarm: the port, the specs of a pool, and the only code that imports docker-py."""
