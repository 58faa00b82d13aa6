"""The programs of the pool's image, which no package holds."""

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
    """One of them, as a module of its own."""
    spec = importlib.util.spec_from_file_location(name, IMAGE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_config(*names: str, **environment: str) -> list[str]:
    """What HTCondor reads in an executor's configuration."""
    own = {"CONDOR_CONFIG": str(IMAGE / "executor.conf"), "PATH": os.environ["PATH"]}
    command = [sys.executable, "-c", PARAM_SCRIPT, *names]
    asked = subprocess.run(
        command, env=own | environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return asked.stdout.splitlines()
