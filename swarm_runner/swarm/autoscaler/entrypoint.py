"""Entry point of the autoscaler image: runs `pool autoscale` with the service's job_conf."""

import os
import sys
from pathlib import Path

from swarm_runner.cli import main

CONFIGURATION = Path("/run/job_conf.json")

if __name__ == "__main__":
    CONFIGURATION.write_text(os.environ["SWARM_RUNNER_CONFIGURATION"])
    sys.exit(main(["pool", "autoscale", "--records", "--job-conf", str(CONFIGURATION)]))
