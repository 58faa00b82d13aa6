"""Entry point of the autoscaler image: runs `pool autoscale` with the service's job_conf.

With SWARM_RUNNER_OBSERVE_ONLY, it runs `pool watch`, which only serves metrics.
"""

import os
import sys
from pathlib import Path

from swarm_runner.cli import main

CONFIGURATION = Path("/run/job_conf.json")

if __name__ == "__main__":
    CONFIGURATION.write_text(os.environ["SWARM_RUNNER_CONFIGURATION"])
    observe = os.environ.get("SWARM_RUNNER_OBSERVE_ONLY")
    command = ["watch"] if observe else ["autoscale", "--records"]
    sys.exit(main(["pool", *command, "--job-conf", str(CONFIGURATION)]))
