"""`python -m tests.screenshots`: write docs/pictures/doctor.svg, what a terminal shows.

The findings are those of a made-up host, by the code that `swarm-runner doctor` runs.
"""

from __future__ import annotations

import html
import io
import re
import sys
from pathlib import Path
from unittest import mock

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console

from swarm_runner import __version__
from swarm_runner.cli import diagnosis, doctor
from swarm_runner.cli.diagnosis import Finding
from swarm_runner.condor.daemons import Daemon
from swarm_runner.model.pool import Pool
from swarm_runner.swarm.engine_facts import EngineFacts

PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "doctor.svg"
WIDTH = 100
# Rich's own pictures load a font from a server.
_FONT_FACE = re.compile(r"@font-face \{\{.*?\}\}\s*", re.DOTALL)
_TEXT = re.compile(r"<text[^>]*>(.*?)</text>", re.DOTALL)


def findings() -> list[Finding]:
    """Return the findings of a host with little disk, no swap limit and an incomplete pool."""
    pool = Pool(name="galaxy")
    host = EngineFacts(
        name="node1",
        version="28.0.0",
        api_version=(1, 48),
        swarm_state="active",
        swarm_manager=True,
        root_directory="/var/lib/docker",
        swap_limit=False,
    )
    schedd = Daemon(kind="Scheduler", name="galaxy", version="25.14.1", sent_s=0)
    return [
        *diagnosis.check_versions({"swarm-runner": __version__, "htcondor": "25.14.1"}),
        *diagnosis.check_engine(host),
        diagnosis.check_disk("images and containers", host.root_directory, 6_144),
        diagnosis.check_services(pool, [pool.service(), pool.service("normal")], [], []),
        *diagnosis.check_daemons(pool, [schedd]),
    ]


def render() -> str:
    """Return the picture."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    with mock.patch.object(doctor, "show", console.print):
        doctor._show_table(findings())
    code_format = _FONT_FACE.sub("", CONSOLE_SVG_FORMAT)
    return console.export_svg(
        title="swarm-runner doctor", unique_id="doctor", code_format=code_format
    )


def words(picture: str) -> str:
    """Return the text of a picture, without its colours and places."""
    text = " ".join(html.unescape(part) for part in _TEXT.findall(picture))
    return " ".join(text.replace("\N{NO-BREAK SPACE}", " ").split())


def main() -> int:
    """Write the picture."""
    PICTURE.write_text(render())
    return 0


if __name__ == "__main__":
    sys.exit(main())
