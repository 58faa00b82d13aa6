"""`python -m tests.lab.pythons 3.11 3.12...`: run the unit and contract tests on each Python.

An interpreter is looked for on PATH, then among pyenv's, then in Debian's releases.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.lab.engines.suite import PYTHON_PACKAGES, Suite
from tests.lab.pool import STATE_DIRECTORY as POOLS

REPOSITORY = Path(__file__).parents[2]
STATE = REPOSITORY / ".state" / "pythons"
# The python3 of each release.
SUITES = {"3.11": "bookworm", "3.13": "trixie", "3.14": "sid"}
# What runs the tests; those of docs and of the forge's files need more, and no other Python.
_TOOLS = (
    *("build", "httpx2", "hypothesis", "jsonschema", "markdown-it-py", "pytest", "pytest-xdist"),
    *("setuptools", "trustme", "wheel"),
)
_UNIT = (
    *("cli", "condor", "config", "hooks", "metrics", "model", "page", "policy", "provisioner"),
    *("runner", "submit", "swarm"),
)
# Where the engine's socket is; a contract test brings a pool up, in a directory that is a mount of
# its own beside an engine of tests.lab.engines.
_MOUNTS = (REPOSITORY, POOLS, Path("/run"), Path("/tmp"))  # noqa: S108

Run = Callable[[list[str]], int]


def main() -> int:
    """Run the tests on each version. Return 1 if one of them failed or has no interpreter."""
    codes = {version: _try(version) for version in sys.argv[1:]}
    for version, code in codes.items():
        _report(f"Python {version}: {'failed' if code else 'passed'}")
    return int(any(codes.values()))


def _try(version: str) -> int:
    found = _find(version)
    if found is None:
        _report(
            f"there is no Python {version} on PATH, among pyenv's, or in Debian's "
            f"{', '.join(SUITES.values())}: install one as python{version}"
        )
        return 1
    run, python = found
    environment = STATE / version
    shutil.rmtree(environment, ignore_errors=True)
    tested = environment / "bin" / "python"
    requirements = [f"{REPOSITORY}[guests,metrics,page]", *_TOOLS]
    pytest = [str(tested), "-m", "pytest", "-p", "no:cacheprovider", "--quiet"]
    steps = (
        [python, "-m", "venv", str(environment)],
        [str(tested), "-m", "pip", "install", "--quiet", *requirements],
        # The package comes from the source tree.
        [str(tested), "-m", "pip", "uninstall", "--quiet", "--yes", "swarm-runner"],
        [*pytest, "--numprocesses", "auto", *(f"tests/unit/{name}" for name in _UNIT)],
        # One after another: they share a pool.
        [*pytest, "tests/contract"],
    )
    # A test that fails does not keep the others from being run.
    codes = []
    for step in steps:
        codes.append(run(["env", f"PYTHONPATH={_python_path()}", *step]))
        if codes[-1] and "pytest" not in step:
            break
    return int(any(codes))


def _python_path() -> str:
    parts = (os.environ.get("PYTHONPATH"), str(REPOSITORY), str(REPOSITORY / "plugins/simulation"))
    return os.pathsep.join(filter(None, parts))


def _find(version: str) -> tuple[Run, str] | None:
    """Return what runs a command beside an interpreter, and the interpreter; None without one."""
    candidates = [f"python{version}", *map(str, _pyenv(version))]
    for candidate in candidates:
        if _is(version, candidate):
            return _run_here, candidate
    if version not in SUITES:
        return None
    suite = Suite(SUITES[version], "python", PYTHON_PACKAGES)
    suite.create()
    POOLS.mkdir(parents=True, exist_ok=True)
    mounts = {path: str(path) for path in _MOUNTS}

    def run_inside(command: list[str]) -> int:
        return suite.run(command, mounts)

    if run_inside(["python3", "-c", f"import sys; sys.exit({_check(version)})"]):
        return None
    return run_inside, "python3"


def _pyenv(version: str) -> list[Path]:
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    return sorted(root.glob(f"versions/{version}.*/bin/python"))


def _is(version: str, candidate: str) -> bool:
    """Return whether a program runs and is this Python."""
    if shutil.which(candidate) is None:
        return False
    command = [candidate, "-c", f"import sys, venv, ensurepip; sys.exit({_check(version)})"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _check(version: str) -> str:
    major, minor = version.split(".")
    return f"sys.version_info[:2] != ({int(major)}, {int(minor)})"


def _run_here(command: list[str]) -> int:
    return subprocess.run(command, check=False, cwd=REPOSITORY).returncode


def _report(message: str) -> None:
    sys.stderr.write(f"pythons: {message}\n")


if __name__ == "__main__":
    sys.exit(main())
