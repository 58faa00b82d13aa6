"""Fakes for tests of swarm_runner and of code that uses it.

`FakeAccessPoint` is a schedd in memory, `FakeSwarm` a Docker Swarm in memory, and `EventLogWriter`
writes event logs that HTCondor's own reader accepts.
"""

from swarm_runner.testing.access_point import FakeAccessPoint
from swarm_runner.testing.event_log import EventLogWriter
from swarm_runner.testing.swarm import FakeSwarm

__all__ = ["EventLogWriter", "FakeAccessPoint", "FakeSwarm"]
