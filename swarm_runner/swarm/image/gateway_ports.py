"""The published ports of a job's container: where they are on the node, and who is notified.

HTCondor's starter asks for them itself (`NAME_HostPort` in the job's ad), but its shadow writes
them to the queue with its next update, up to a quarter of an hour later. The gateway therefore sets
an attribute of its own, by chirp, as soon as the container runs.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Mapping
from typing import Any

# In the job's ad; condor/published_ports.py reads it.
ATTRIBUTE = "SwarmPublishedPorts"
REPORT_ATTEMPTS, REPORT_INTERVAL_S = 30, 0.5
# The shadow asks the schedd meanwhile.
_TIMEOUT_S = 30
Chirp = tuple[str, int, str]


def published(facts: Mapping[str, Any]) -> dict[int, tuple[str, int]]:
    """Return where the engine has published each port of a container: address and port."""
    ports = (facts.get("NetworkSettings") or {}).get("Ports") or {}
    return {
        int(port.partition("/")[0]): (binding["HostIp"], int(binding["HostPort"]))
        for port, bindings in ports.items()
        for binding in bindings or ()
    }


def for_htcondor(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a container's facts that HTCondor reads.

    Without ports that the image exposes and nobody publishes: HTCondor would read no port at all.
    """
    ports = (facts.get("NetworkSettings") or {}).get("Ports") or {}
    return {
        "NetworkSettings": {"Ports": {name: list(where) for name, where in ports.items() if where}}
    }


def attribute(
    task: str, names: Mapping[str, int], where: Mapping[int, tuple[str, int]]
) -> str | None:
    """Return the attribute's value, a ClassAd expression without spaces; None if a port is missing.

    It names the executor's task: a job that ran elsewhere before has the value of that time.
    """
    if not names or not all(port in where for port in names.values()):
        return None
    parts = [f"{name}={port}={where[port][1]}@{where[port][0]}" for name, port in names.items()]
    return '"' + "|".join([task, *parts]) + '"'


def set_attribute(chirp: Chirp, name: str, value: str, *, delayed: bool = False) -> None:
    """Set an attribute of the job: now, or with the starter's next update. Raises OSError.

    `value` is an expression without spaces. Now needs WantRemoteUpdates in the job's ad.
    """
    host, port, cookie = chirp
    command = "set_job_attr_delayed" if delayed else "set_job_attr"
    with socket.create_connection((host, port), timeout=_TIMEOUT_S) as connection:
        for line in (f"cookie {cookie}", f"{command} {name} {value}"):
            connection.sendall(line.encode() + b"\n")
            if not connection.recv(100).startswith(b"0"):
                raise OSError(f"the starter refused {name}")


def withdraw(chirp: Chirp) -> None:
    """Say that the ports are gone: another container may get their numbers."""
    with contextlib.suppress(OSError):
        set_attribute(chirp, ATTRIBUTE, "undefined")


def report(chirp: Chirp, value: str) -> None:
    """Set the attribute, and try again while the starter or its shadow is busy. Raises OSError."""
    for attempt in range(REPORT_ATTEMPTS):
        try:
            set_attribute(chirp, ATTRIBUTE, value)
        except OSError:
            if attempt == REPORT_ATTEMPTS - 1:
                raise
            time.sleep(REPORT_INTERVAL_S)
        else:
            return
