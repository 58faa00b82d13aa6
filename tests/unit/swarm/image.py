"""Access to the programs in the pool image's source, which are not part of a package."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

IMAGE = Path(__file__).parents[3] / "swarm_runner" / "swarm" / "image"
PARAM_SCRIPT = (
    "import htcondor2, sys; print(*(htcondor2.param[name] for name in sys.argv[1:]), sep='\\n')"
)


def load_program(name: str) -> ModuleType:
    """Import one of the programs as a module."""
    spec = importlib.util.spec_from_file_location(name, IMAGE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(name, module)  # where dataclasses looks for the names of its fields
    spec.loader.exec_module(module)
    return module


def read_config(*names: str, role: str = "executor", **environment: str) -> list[str]:
    """Return the values that HTCondor reads from the configuration of a role."""
    base = {"CONDOR_CONFIG": str(IMAGE / f"{role}.conf"), "PATH": os.environ["PATH"]}
    command = [sys.executable, "-c", PARAM_SCRIPT, *names]
    done = subprocess.run(
        command, env=base | environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout.splitlines()
