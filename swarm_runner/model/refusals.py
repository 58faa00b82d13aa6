"""Which rule of a pool refused a job, by the sentence of an executor's gateway."""

from __future__ import annotations

import re

OTHER_RULE = "other"
# In this order: the first pattern that is found decides. swarm/image/gateway_policy.py writes the
# sentences, after "swarm-runner refused this job:"; a test compares them.
_RULES = (
    ("image_digest", r"has no digest"),
    ("image", r"none that the pool allows|not a valid image reference|isolation\.images"),
    ("network", r"asks for the network"),
    ("port", r"published port|asks for .* ports|names a port|isolation\.ports"),
    ("device", r"asks for the device"),
    ("volume", r"names the volume|asks to mount|its directory .* is (a link|neither)"),
    ("user", r"would run as user|would be in the group"),
    ("ptrace", r"trace processes"),
    ("shm", r"shared memory|/dev/shm"),
    ("memory", r"memory"),
    ("entrypoint", r"entrypoint"),
    ("environment", r"in its environment"),
    ("scratch", r"scratch directory"),
)
RULES = (*(name for name, _ in _RULES), OTHER_RULE)
_PATTERNS = tuple((name, re.compile(pattern)) for name, pattern in _RULES)
_REFUSED = re.compile(r"swarm-runner refused this job: (.*)", re.DOTALL)


def refusing_rule(reason: str) -> str | None:
    """Return the rule that a hold's or a removal's reason names, or None for any other reason."""
    if (found := _REFUSED.search(reason)) is None:
        return None
    return next((name for name, pattern in _PATTERNS if pattern.search(found[1])), OTHER_RULE)
