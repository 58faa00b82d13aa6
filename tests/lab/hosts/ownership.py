"""Only one lab can run on a machine, because all checkouts use the same addresses and names."""

from __future__ import annotations

from pathlib import Path

from tests.lab.hosts.cgroup import Cgroup
from tests.lab.hosts.layout import PREFIX, ROOT, nodes

# A restart of the machine removes this file, like the lab.
_OWNER_FILE = Path("/run") / f"{PREFIX}.owner"


def claim() -> None:
    """Record this checkout as the owner of the lab.

    Raises RuntimeError while another checkout's lab is up.
    """
    owner = _OWNER_FILE.read_text() if _OWNER_FILE.exists() else str(ROOT)
    if owner != str(ROOT) and any(Cgroup(node.cgroup).pids() for node in nodes()):
        checkout = Path(owner).parents[1]
        raise RuntimeError(
            f"the lab of {checkout} is up, and a machine can run only one; "
            f"run `make -C {checkout} lab-down` first"
        )
    _OWNER_FILE.write_text(str(ROOT))


def release() -> None:
    """Remove the record of the owner."""
    _OWNER_FILE.unlink(missing_ok=True)
