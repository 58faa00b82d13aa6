"""A port of a job's container, and where the job's node publishes it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PublishedPort:
    """A port of a running job, as `container_options.ports` names it.

    Attributes:
        name: Its name among the job's ports.
        container_port: The port on which the job listens in its container.
        host: The address of the job's node where it is published.
        port: The port at that address.
    """

    name: str
    container_port: int
    host: str
    port: int

    @property
    def address(self) -> str:
        """`host:port`, with brackets around an IPv6 address."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
