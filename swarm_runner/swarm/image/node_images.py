"""`python3 node_images.py pull NAME... | prune SECONDS`: the images of jobs on this node.

`swarm-runner pool images` runs it in one executor of each node: it pulls as the gateway does, and
removes what gateways pulled. It prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from gateway import CREDENTIALS, IMAGES_DIRECTORY
from gateway_engine import Engine, EngineError
from gateway_images import Images, PullError

SCRATCH_DIRECTORY = Path("/var/lib/swarm-runner/scratch")


def main(arguments: list[str]) -> int:
    """Do one command. What failed is part of the output."""
    engine = Engine()
    directory = SCRATCH_DIRECTORY / IMAGES_DIRECTORY
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    credentials = json.loads(CREDENTIALS.read_text()) if CREDENTIALS.exists() else {}
    done: list[dict[str, object]] = []
    problems: list[str] = []
    try:
        engine.negotiate()
        images = Images(engine, directory, always=True, credentials=credentials)
        done, problems = run(images, arguments)
    except EngineError as error:
        problems.append(str(error))
    node = os.environ.get("SWARM_RUNNER_NODE", "")
    sys.stdout.write(json.dumps({"node": node, "images": done, "problems": problems}) + "\n")
    return 0


def run(images: Images, arguments: list[str]) -> tuple[list[dict[str, object]], list[str]]:
    """Return what was pulled or removed, and what failed. Raises EngineError."""
    command, *rest = arguments
    if command == "prune":
        removed = images.cache.prune(float(rest[0]))
        return [{"name": image.name, "mb": image.size >> 20} for image in removed], []
    done, problems = [], []
    for name in rest:
        started = time.monotonic()
        try:
            images.ensure(name)
        except PullError as error:
            problems.append(f"{name}: {error}")
        else:
            done.append({"name": name, "seconds": round(time.monotonic() - started, 1)})
    return done, problems


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
