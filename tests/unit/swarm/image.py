"""The programs of the pool's image, which no package holds."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

IMAGE = Path(__file__).parents[3] / "swarm_runner" / "swarm" / "image"


def load(name: str) -> ModuleType:
    """One of them, as a module of its own."""
    spec = importlib.util.spec_from_file_location(name, IMAGE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
