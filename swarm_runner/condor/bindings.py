"""Loads HTCondor's Python bindings when they are first needed."""

from __future__ import annotations

import os
import threading
from functools import cache
from importlib import import_module
from typing import Any

# The bindings keep one configuration and one set of connections for the whole process.
LOCK = threading.RLock()


@cache
def htcondor() -> Any:
    """The module `htcondor2`, with no configuration of this machine's own unless it is named.

    A machine that merely submits has no configuration file, and the bindings would complain.
    """
    with LOCK:
        absent = "CONDOR_CONFIG" not in os.environ
        if absent:
            os.environ["CONDOR_CONFIG"] = os.devnull
        try:
            return import_module("htcondor2")
        finally:
            if absent:
                del os.environ["CONDOR_CONFIG"]


@cache
def classad() -> Any:
    """The module `classad2`."""
    htcondor()
    return import_module("classad2")
