"""PID 1's child in the autoscaler's image: `pool autoscale` with the configuration it is given."""

import os
import sys
from pathlib import Path

from swarm_runner.cli import main

CONFIGURATION = Path("/run/job_conf.json")

if __name__ == "__main__":
    CONFIGURATION.write_text(os.environ["SWARM_RUNNER_CONFIGURATION"])
    sys.exit(main(["pool", "autoscale", "--records", "--job-conf", str(CONFIGURATION)]))
