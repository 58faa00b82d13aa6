"""Galaxy and Snakemake in ten minutes: the commands of both pages, as a user types them.

`make test-docs`. The steps that install something are left out: .venv-galaxy and
plugins/snakemake/.venv have it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from tests.doc_blocks import ROOT, SHELL, Block, blocks
from tests.lab.pool import STATE_DIRECTORY
from tests.lab.reader import Reader, as_user, reader

pytestmark = pytest.mark.guides
GALAXY = ROOT / "docs" / "how-to" / "galaxy.md"
GALAXY_BIN = ROOT / ".venv-galaxy" / "bin"
SNAKEMAKE = ROOT / "plugins" / "snakemake" / "docs" / "ten-minutes.md"
SNAKEMAKE_BIN = ROOT / "plugins" / "snakemake" / ".venv" / "bin"
# HTCondor does not run containers as root, and both pages say so.
UID, GID = (os.geteuid(), os.getegid()) if os.geteuid() else (1000, 1000)
GALAXY_PORT = 9771


@contextlib.contextmanager
def user_with_a_pool(
    name: str, replaced: Mapping[str, str], job_conf: str, may_fail: Sequence[str] = ()
) -> Iterator[Reader]:
    """Yield a user in an empty directory; take the pool down that they bring up."""
    directory = STATE_DIRECTORY / name
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    os.chown(directory, UID, GID)
    replaced = {old: new.replace("@", str(directory)) for old, new in replaced.items()}
    prefix = as_user(UID, GID)
    with reader(directory, replaced, prefix=prefix, may_fail=may_fail) as person:
        try:
            yield person
        finally:
            person.type('[ -z "$(jobs -p)" ] || kill $(jobs -p); wait')
            down = f"swarm-runner pool down --force --job-conf {directory}/{job_conf}"
            person.type(f"[ ! -e {directory}/{job_conf} ] || {down}")
    shutil.rmtree(directory)


def first_steps(page: Path, last_line: str) -> list[Block]:
    """Return a page's blocks above a line."""
    end = page.read_text().splitlines().index(last_line)
    return [block for block in blocks(page) if block.line < end]


def test_galaxy_in_ten_minutes() -> None:
    replaced = {
        "name: galaxy\n": "name: swarm-runner-guide\n      port: 9733\n",
        "{name: galaxy, uid: 1000, gid: 1000}": f"{{name: galaxy, uid: {UID}, gid: {GID}}}",
        "/srv/galaxy": "@",
        "venv/bin/": f"{GALAXY_BIN}/",
        "8080": str(GALAXY_PORT),
    }
    printed = ""
    with user_with_a_pool("galaxy-guide", replaced, "job_conf.yml") as person:
        person.type("mkdir shared tools")
        for block in first_steps(GALAXY, "## Volumes, users and uids"):
            if "galaxy-web" in block.content and not block.not_tried:
                person.type(f"{person.read(block.content.strip())} >galaxy.log 2>&1 &")
                curl = "curl -sf --retry 300 --retry-delay 2 --retry-connrefused"
                person.type(f"{curl} 127.0.0.1:{GALAXY_PORT}/api/version || ! tail galaxy.log")
            elif block.language == SHELL and not block.not_tried:
                printed = [person.type(person.read(command)) for command in block.commands][-1]
            else:
                person.follow(block)
        for block in blocks(GALAXY):
            if "orphans" in block.content and block.language == SHELL:
                person.follow(block)
    assert printed.strip().startswith("hello from galaxy-")
    assert printed.strip().endswith("with 512 MB")


def test_snakemake_in_ten_minutes() -> None:
    replaced = {"name: workflow": "name: swarm-runner-workflow\n      port: 9735"}
    job_conf = "pool/job_conf.yml"
    may_fail = ["--keep-going"]  # one of its rules fails, and the page says so
    with user_with_a_pool("snakemake-guide", replaced, job_conf, may_fail) as person:
        person.type(f"export PATH={SNAKEMAKE_BIN}:$PATH")
        for block in blocks(SNAKEMAKE):
            person.follow(block)
        workflow = person.directory / "pool" / "workflow"
        assert len((workflow / "words.txt").read_text().splitlines()) == 6
        assert (workflow / "grown.txt").read_text() == "grown\n"
        assert not (workflow / "failed.txt").exists()
