"""A pytest plugin that writes what was run, with which versions, to SWARM_RUNNER_MATRIX_REPORT.

It is loaded by `-p pytest_report` into the environments of Galaxy and Snakemake, too, so it imports
nothing of this repository.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

VARIABLE = "SWARM_RUNNER_MATRIX_REPORT"
_FAILED = ("failed", "error")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Write the report when all tests have ended; not in the processes of pytest-xdist."""
    file = os.environ.get(VARIABLE)
    if not file or hasattr(config, "workerinput"):
        return
    stats = terminalreporter.stats
    # A target may run pytest several times.
    path = Path(file)
    before = json.loads(path.read_text()) if path.exists() else {}
    failed = {item.nodeid for kind in _FAILED for item in stats.get(kind, ())}
    report = {
        "passed": len(stats.get("passed", ())) + before.get("passed", 0),
        "failed": sorted(failed | set(before.get("failed", ()))),
        "versions": before.get("versions", {}) | _distributions() | _engine(),
    }
    path.write_text(json.dumps(report, indent=2))


def _distributions() -> dict[str, str]:
    names = {"Python": platform.python_version()}
    for distribution in metadata.distributions():
        names[distribution.name] = distribution.version
    return names


def _engine() -> dict[str, str]:
    """Return what the engine says of itself, in a run that uses one."""
    if os.environ.get("SWARM_RUNNER_MATRIX_ENGINE") != "1":
        return {}
    with contextlib.suppress(Exception):  # a report without it is better than none
        import docker

        with contextlib.closing(docker.from_env(timeout=10)) as client:
            version, info = client.version(), client.info()
        return {
            "Docker": version["Version"],
            "Docker API": f"{version['MinAPIVersion']} to {version['ApiVersion']}",
            "cgroup": f"v{info.get('CgroupVersion', '1')}",
            "image store": info["Driver"],
            "Linux": version["KernelVersion"],
        }
    return {}
