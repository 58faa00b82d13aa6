"""A process that submits jobs, for tests that kill one or run two at once.

`python -m tests.integration.submitter DESTINATION.json NAME INVOCATIONS.json`
"""

from __future__ import annotations

import sys
from pathlib import Path

from swarm_runner.config.documents import parse_invocations
from swarm_runner.model.pool import Destination
from swarm_runner.runner import Runner


def main() -> None:
    """Submit the invocations and print the job IDs."""
    destination, name, invocations = sys.argv[1:]
    with Runner(
        Destination.model_validate_json(Path(destination).read_text()), name=name
    ) as runner:
        text = Path(invocations).read_text()
        jobs = runner.submit(parse_invocations(text, invocations))
    sys.stdout.write("".join(f"{job.id}\n" for job in jobs))


if __name__ == "__main__":
    main()
