"""One lab on a machine: its addresses and names are the same from every checkout."""

from __future__ import annotations

from pathlib import Path

from tests.lab.hosts.cgroup import Cgroup
from tests.lab.hosts.layout import PREFIX, ROOT, nodes

# Gone after a restart of the machine, as the lab is.
_OWNER_FILE = Path("/run") / f"{PREFIX}.owner"


def claim() -> None:
    """The lab is this checkout's from now on.

    Raises RuntimeError while that of another one runs.
    """
    owner = _OWNER_FILE.read_text() if _OWNER_FILE.exists() else str(ROOT)
    if owner != str(ROOT) and any(Cgroup(node.cgroup).pids() for node in nodes()):
        checkout = Path(owner).parents[1]
        raise RuntimeError(
            f"the lab of {checkout} is up, and there can be one on a machine; "
            f"`make -C {checkout} lab-down` takes it down"
        )
    _OWNER_FILE.write_text(str(ROOT))


def release() -> None:
    """The next one may have it."""
    _OWNER_FILE.unlink(missing_ok=True)
