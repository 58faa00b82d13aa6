"""Where the ports of running jobs are published.

The executor's gateway writes it to the job's ad when the container has started. Until then, and
after the run, a job has no ports.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Any

from swarm_runner.condor.ports import AccessPointPort, JobQuery
from swarm_runner.model.htcondor import JobStatus
from swarm_runner.model.isolation import MAXIMUM_PORT
from swarm_runner.model.job import JobId
from swarm_runner.model.published_port import PublishedPort
from swarm_runner.runner.ad_reader import job_id_from_ad

# swarm/image/gateway_ports.py writes it: the executor's task, then NAME=PORT=PORT@HOST for each.
PORTS_ATTRIBUTE = "SwarmPublishedPorts"
_TASK_ATTRIBUTE = "MachineAttrSwarmTaskId0"
_PROJECTION = ("ClusterId", "ProcId", "JobStatus", _TASK_ATTRIBUTE, PORTS_ATTRIBUTE)
_PORT = re.compile(r"([A-Za-z][A-Za-z0-9_]{0,31})=([0-9]{1,5})=([0-9]{1,5})@([0-9A-Fa-f.:]{1,45})")


PortsByJob = dict[JobId, tuple[PublishedPort, ...]]


def find_published_ports(access_point: AccessPointPort, ids: Iterable[JobId]) -> PortsByJob:
    """Return the published ports of those of the jobs that run and have some. One query.

    Raises UnreachableError.
    """
    asked = list(ids)
    ads = access_point.jobs(JobQuery(ids=asked), _PROJECTION) if asked else []
    found = {job_id_from_ad(ad): ports_from_ad(ad) for ad in ads}
    return {job_id: ports for job_id, ports in found.items() if ports}


def ports_from_ad(ad: Mapping[str, Any]) -> tuple[PublishedPort, ...]:
    """Return the published ports in the ad of a job; none unless it runs where they are.

    What is not written as the gateway does is ignored: a job's owner can write to its ad.
    """
    task, *parts = str(ad.get(PORTS_ATTRIBUTE, "")).split("|")
    if ad.get("JobStatus") != JobStatus.RUNNING or not task or task != ad.get(_TASK_ATTRIBUTE):
        return ()
    ports = []
    for part in parts:
        found = _PORT.fullmatch(part)
        if found is None or not all(0 < int(found[n]) <= MAXIMUM_PORT for n in (2, 3)):
            return ()
        try:
            host = str(ipaddress.ip_address(found[4]))
        except ValueError:
            return ()
        ports.append(PublishedPort(found[1], int(found[2]), host, int(found[3])))
    return tuple(ports)
