"""What the tests need of the machine: an engine, a base image, pools, hosts."""

import os

# A mirror in a laboratory may be a copy of some day, whose Release files have expired.
os.environ.setdefault("SWARM_RUNNER_CHECK_VALID_UNTIL", "false")
