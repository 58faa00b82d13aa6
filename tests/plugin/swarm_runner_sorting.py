"""A third-party plugin that routes sorting tools to the largest class."""

from __future__ import annotations

from collections.abc import Mapping

from swarm_runner import Destination, Invocation, Pool, Route, hookimpl


@hookimpl
def swarm_runner_route(
    invocation: Invocation, destination: Destination, pool: Pool
) -> Route | None:
    """Route sorting tools to the largest class. Leave other tools to other plugins."""
    if invocation.tool_id is None or "sort" not in invocation.tool_id:
        return None
    largest = list(pool.classes)[-1]
    return Route(
        destination=destination.name,
        capacity_class=largest,
        candidates=(largest,),
        reason="sorting needs memory",
    )


@hookimpl
def swarm_runner_amend_submit(invocation: Invocation) -> Mapping[str, str] | None:
    """Set the accounting group to the tool's name."""
    if invocation.tool_id is None:
        return None
    return {"accounting_group": f"group_tools.{invocation.tool_id}", "priority": "5"}
