"""The names of job attributes that have a meaning for HTCondor or for swarm_runner.

The list is made from HTCondor's source and manual by `tests/htcondor_attributes.py`.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

# Families of names that HTCondor composes, such as RequestLicenses or web_ContainerPort.
_FAMILY = re.compile(
    r"(?:SwarmRunner|Request|Require|Transfer|Docker|Container|OAuth|MachineAttr|Want|SUBMIT_|VM_|"
    r"Chirp|Cron|Periodic|OnExit|Condor|_Condor)\w*|\w*_(?:ContainerPort|HostPort|RAW)|"
    r"\w+Provisioned|\w+Usage|(?:\w+_)?PluginData",
    re.IGNORECASE,
)


def is_htcondor_attribute(name: str) -> bool:
    """Return whether an attribute has a meaning. ClassAd names ignore the case."""
    return name.lower() in _names() or _FAMILY.fullmatch(name) is not None


@cache
def _names() -> frozenset[str]:
    text = resources.files(__package__).joinpath("htcondor_attributes.txt").read_text("utf-8")
    return frozenset(text.lower().split())
