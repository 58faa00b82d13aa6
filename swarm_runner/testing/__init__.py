"""What tests of swarm_runner, and of what is built on it, run on instead of the real thing.

`FakeAccessPoint` is a schedd in memory whose jobs do what the test says; `EventLogWriter` writes
an event log that HTCondor's own reader takes; `FakeSwarm` is a Docker Swarm in memory.
"""

from swarm_runner.testing.access_point import FakeAccessPoint
from swarm_runner.testing.event_log import EventLogWriter
from swarm_runner.testing.swarm import FakeSwarm

__all__ = ["EventLogWriter", "FakeAccessPoint", "FakeSwarm"]
