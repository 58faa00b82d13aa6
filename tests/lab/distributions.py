"""Builds the wheel and the sdist of every distribution: `python -m tests.lab.distributions DIR`.

The same sources always give the same bytes. Each distribution is built from a copy of the files
that git knows, with links replaced by their content, because setuptools leaves its own files in the
source tree. A wheel is built from its sdist, as others will. SOURCE_DATE_EPOCH is the time of every
file, and by default that of the last commit.
"""

from __future__ import annotations

import gzip
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from build import ProjectBuilder

if TYPE_CHECKING:
    from pyproject_hooks import SubprocessRunner

ROOT = Path(__file__).parents[2]
# The path of each distribution's setup.cfg, and what of it is not distributed.
DISTRIBUTIONS = {
    PurePath(): ("plugins", "tests", "docs", "examples", "schemas"),
    PurePath("plugins/galaxy"): ("tests",),
    PurePath("plugins/snakemake"): ("tests", "example", "image", "docs"),
    PurePath("plugins/simulation"): ("tests",),
}


def source_date() -> int:
    """Return SOURCE_DATE_EPOCH, or else the time of the last commit."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    return int(given or _git("log", "-1", "--format=%ct"))


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(ROOT), *arguments],  # noqa: S607  the PATH's git
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def build_all(output: Path) -> list[Path]:
    """Build every distribution into a directory; return the files."""
    output.mkdir(parents=True, exist_ok=True)
    return [file for source in DISTRIBUTIONS for file in build_one(source, output, source_date())]


def build_one(source: PurePath, output: Path, epoch: int) -> list[Path]:
    """Build the sdist and the wheel of one distribution."""
    with tempfile.TemporaryDirectory() as temporary:
        copy, unpacked = Path(temporary, "copy"), Path(temporary, "unpacked")
        _copy(source, copy)
        built = Path(ProjectBuilder(copy, runner=_runner(epoch)).build("sdist", temporary))
        sdist = output / built.name
        _repack(built, sdist, epoch)
        with tarfile.open(sdist) as archive:
            archive.extractall(unpacked, filter="data")
        (directory,) = unpacked.iterdir()
        return [
            sdist,
            Path(ProjectBuilder(directory, runner=_runner(epoch)).build("wheel", output)),
        ]


def _runner(epoch: int) -> SubprocessRunner:
    """Return what runs the build's steps: quietly, at a fixed time and with fixed modes."""

    def run(
        cmd: Sequence[str],
        cwd: str | None = None,
        extra_environ: Mapping[str, str] | None = None,
    ) -> None:
        done = subprocess.run(
            cmd,
            cwd=cwd,
            env={**os.environ, **(extra_environ or {}), "SOURCE_DATE_EPOCH": str(epoch)},
            umask=0o022,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode:
            sys.exit(f"{done.stdout}\nthe build failed")

    return run


def _copy(source: PurePath, target: Path) -> None:
    excluded = DISTRIBUTIONS[source]
    listed = _git("ls-files", "-z", "--cached", "--others", "--exclude-standard", str(source))
    for name in filter(None, listed.split("\0")):
        path = PurePath(name).relative_to(source)
        if path.parts[0] in excluded or not (ROOT / name).is_file():
            continue
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target / path)
        (target / path).chmod(_mode((ROOT / name).stat().st_mode))


def _mode(mode: int) -> int:
    """Return the mode that git keeps of a file: executable or not."""
    return 0o755 if mode & stat.S_IXUSR else 0o644


def _repack(archive: Path, target: Path, epoch: int) -> None:
    """Write a tar file again, with sorted members of one owner, mode and time."""
    with (
        tarfile.open(archive) as source,
        target.open("wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=epoch) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as packed,
    ):
        for member in sorted(source.getmembers(), key=lambda member: member.name):
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            member.mtime = epoch
            member.mode = 0o755 if member.isdir() else _mode(member.mode)
            member.pax_headers = {}
            packed.addfile(member, source.extractfile(member) if member.isfile() else None)


def main() -> int:
    """Replace a directory by the distributions."""
    output = Path(sys.argv[1])
    shutil.rmtree(output, ignore_errors=True)
    for file in build_all(output):
        print(file)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
