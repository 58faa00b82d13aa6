"""The submit commands for the published ports of a job's container. Most jobs have none."""

from __future__ import annotations

from swarm_runner.errors import Diagnostic, InvalidInputError
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.pool import Pool, Route
from swarm_runner.submit.description import Commands


def port_commands(invocation: Invocation, route: Route, pool: Pool) -> Commands:
    """Return the commands for the ports that an invocation asks for.

    Raises InvalidInputError if one of the classes in which it may run publishes none.
    """
    options = invocation.container_options
    if options is None or not options.ports:
        return []
    for name in route.candidates:
        problem = pool.isolation_of(name).port_problem(options)
        if problem is not None:
            message = f"{problem} (class {name} of pool {pool.name})"
            path = "container_options.ports"
            raise InvalidInputError([Diagnostic(message, key=invocation.key, path=path)])
    return [
        ("container_service_names", ",".join(options.ports)),
        *((f"{name}_container_port", str(port)) for name, port in options.ports.items()),
        # The executor's gateway tells at once where they are (image/gateway_ports.py).
        ("My.WantRemoteUpdates", "true"),
    ]
