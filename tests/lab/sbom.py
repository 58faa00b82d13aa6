"""Writes what images and wheels contain, as CycloneDX: `python -m tests.lab.sbom DIRECTORY`.

pool-image.cdx.json has the Debian packages of the pool image, autoscaler-image.cdx.json those of
the autoscaler's, and wheels.cdx.json what an installation of the wheels in dist/ brings along. The
tools, debsbom and cyclonedx-py, are beside this Python.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

import docker

from swarm_runner.swarm.images import ensure_autoscaler_image, ensure_pool_image

DISTRIBUTIONS = Path(__file__).parents[2] / "dist"
TOOLS = Path(sys.executable).parent


def main() -> int:
    """Write the files; return 0."""
    output = Path(sys.argv[1])
    output.mkdir(parents=True, exist_ok=True)
    client = docker.from_env(timeout=1800)
    pool_image = ensure_pool_image(client, None, _report)
    describe_image(client, pool_image, output / "pool-image")
    autoscaler_image = ensure_autoscaler_image(client, None, pool_image, _report)
    describe_image(client, autoscaler_image, output / "autoscaler-image")
    describe_wheels(sorted(DISTRIBUTIONS.glob("*.whl")), output / "wheels.cdx.json")
    return 0


def describe_image(client: docker.DockerClient, image: str, output: Path) -> None:
    """Write OUTPUT.cdx.json with the packages of an image."""
    _report(f"describing {image}")
    container = client.containers.create(image)
    command = [str(TOOLS / "debsbom"), "generate", "--root", "-", "--sbom-type", "cdx"]
    try:
        content: Any = container.export()
        with subprocess.Popen([*command, "--out", str(output)], stdin=subprocess.PIPE) as process:
            assert process.stdin is not None
            for part in content:
                process.stdin.write(part)
            process.stdin.close()
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, process.args)
    finally:
        container.remove()


def describe_wheels(wheels: list[Path], output: Path) -> None:
    """Write OUTPUT with the wheels and everything that pip installs with them."""
    _report(f"describing {len(wheels)} wheels")
    with tempfile.TemporaryDirectory() as directory:
        venv.create(directory, with_pip=True)
        python = Path(directory, "bin/python")
        subprocess.run([python, "-m", "pip", "install", "-q", *wheels], check=True)
        command = [str(TOOLS / "cyclonedx-py"), "environment", "--output-reproducible"]
        subprocess.run([*command, "--output-file", str(output), str(python)], check=True)


def _report(message: str) -> None:
    sys.stderr.write(f"{message}\n")


if __name__ == "__main__":
    sys.exit(main())
