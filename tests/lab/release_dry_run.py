"""Tries the release workflow without its forge: `python -m tests.lab.release_dry_run`.

The workflow is checked by two linters. Then the commands of its steps run, in a new clone of the
last commit, in their order and with the tag that the version will have. What needs the forge (its
actions, an identity, a registry) is listed and not run.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from swarm_runner import __version__

ROOT = Path(__file__).parents[2]
WORKFLOW = ROOT / ".github" / "workflows" / "release.yml"
TOOLS = Path(sys.executable).parent
# Of these jobs, the commands run here. Those of the others act on what was published.
LOCAL_JOBS = ("build",)
# What an action does, and what takes its place here.
ACTIONS = {
    "actions/checkout": "a new clone of the last commit",
    "actions/setup-python": f"Python {sys.version.split()[0]}",
}
REASONS = {
    "actions/attest": "signs with the forge's identity",
    "actions/upload-artifact": "stores files at the forge",
    "actions/download-artifact": "fetches files from the forge",
    "pypa/gh-action-pypi-publish": "publishes, with the forge's identity",
    "docker/setup-buildx-action": "sets BuildKit up on the forge's machine",
    "docker/login-action": "logs in to a registry",
    "docker/build-push-action": "pushes to a registry; `make reproducible` builds the image twice",
    "sigstore/cosign-installer": "installs cosign on the forge's machine",
}


@dataclass(frozen=True)
class Step:
    """A step of the workflow: an action, or commands."""

    job: str
    name: str
    commands: str
    action: str

    @property
    def reason_not_run(self) -> str:
        """Why a step is not run here; empty for one that is."""
        if self.action:
            return "" if self.action in ACTIONS else REASONS[self.action]
        return "" if self.job in LOCAL_JOBS else "acts on what the forge has published"


def steps() -> Iterator[Step]:
    """Yield the steps of the workflow in order. Raises KeyError for an unknown action."""
    workflow: dict[str, Any] = yaml.safe_load(WORKFLOW.read_text())
    for job, settings in workflow["jobs"].items():
        for step in settings["steps"]:
            commands = step.get("run", "").strip()
            action = step.get("uses", "").partition("@")[0]
            name = step.get("name") or action or commands.splitlines()[0]
            yield Step(job, name, commands, action)


def main() -> int:
    """Check the workflow, and run its commands. Return 1 if one fails."""
    for linter in (
        ["check-jsonschema", "--builtin-schema", "vendor.github-workflows", str(WORKFLOW)],
        ["zizmor", "--offline", "--quiet", str(WORKFLOW)],
    ):
        subprocess.run([str(TOOLS / linter[0]), *linter[1:]], check=True)
    with tempfile.TemporaryDirectory(prefix="swarm-runner-release-") as directory:
        clone = Path(directory, "clone")
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)  # noqa: S607
        environment = os.environ | {
            "GITHUB_REF_NAME": f"v{__version__}",
            "PATH": f"{TOOLS}:{os.environ['PATH']}",
        }
        environment.pop("PYTHONPATH", None)
        for step in steps():
            if step.reason_not_run:
                _report(f"not run  {step.job}: {step.name} ({step.reason_not_run})")
            elif step.action:
                _report(f"replaced {step.job}: {step.name} (by {ACTIONS[step.action]})")
            else:
                command = ["/bin/bash", "-eo", "pipefail", "-c", step.commands]
                done = subprocess.run(command, cwd=clone, env=environment, check=False)
                if done.returncode:
                    _report(f"FAILED   {step.job}: {step.name} (exit code {done.returncode})")
                    return 1
                _report(f"ran      {step.job}: {step.name}")
        files = sorted((clone / "dist").iterdir())
        _report(f"{len(files)} files and an SBOM would be published as v{__version__}")
    return 0


def _report(message: str) -> None:
    sys.stderr.write(f"{message}\n")


if __name__ == "__main__":
    sys.exit(main())
