"""A third party's plugin: sorting goes to the largest class, and is accounted for by its tool."""

from __future__ import annotations

from collections.abc import Mapping

from swarm_runner import Destination, Invocation, Pool, Route, hookimpl


@hookimpl
def swarm_runner_route(
    invocation: Invocation, destination: Destination, pool: Pool
) -> Route | None:
    """Send tools that sort to the largest class; have no opinion about others."""
    if invocation.tool_id is None or "sort" not in invocation.tool_id:
        return None
    largest = list(pool.classes)[-1]
    return Route(
        destination=destination.name,
        capacity_class=largest,
        candidates=(largest,),
        reason="sorting needs room",
    )


@hookimpl
def swarm_runner_amend_submit(invocation: Invocation) -> Mapping[str, str] | None:
    """Account for each tool by its name."""
    if invocation.tool_id is None:
        return None
    return {"accounting_group": f"group_tools.{invocation.tool_id}", "priority": "5"}
