"""The floors of every setup.cfg, and the cells that ran with them."""

from __future__ import annotations

import configparser
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.matrix.results import ROOT, Result

SETUP_FILES = (
    ROOT / "setup.cfg",
    *(ROOT / "plugins" / name / "setup.cfg" for name in ("galaxy", "simulation", "snakemake")),
)
# The tools of developers, and what builds the site: nobody installs them to run jobs.
_TOOLS = ("dev", "docs", "test")
_OWN = "swarm-runner"
_EXTRAS = "options.extras_require"


@dataclass(frozen=True, slots=True)
class Floor:
    """The oldest version of a distribution that a setup.cfg permits."""

    file: str
    name: str
    version: Version

    def __str__(self) -> str:
        return f"{self.name} >= {self.version} ({self.file})"


def floors(files: Iterable[Path] = SETUP_FILES) -> list[Floor]:
    """Return the floors of what users install; not those of the project's own distributions."""
    return [floor for file in files for floor in _floors_of(file)]


def uncovered(found: Iterable[Floor], results: Mapping[str, Result]) -> list[Floor]:
    """Return the floors with which no cell passed.

    A cell that ran with 9.20.3 covers `>= 9.20`: a release series has one floor.
    """
    green = [_normalised(result.versions) for result in results.values() if result.green]
    return [floor for floor in found if not any(_covers(versions, floor) for versions in green)]


def _covers(versions: Mapping[str, Version], floor: Floor) -> bool:
    version = versions.get(floor.name)
    release = floor.version.release
    return version is not None and (*version.release, 0, 0, 0)[: len(release)] == release


def _normalised(versions: Mapping[str, str]) -> dict[str, Version]:
    names: dict[str, Version] = {}
    for name, version in versions.items():
        try:
            names[canonicalize_name(name)] = Version(version)
        except ValueError:
            continue  # a kernel's or an image store's name
    return names


def _floors_of(file: Path) -> Iterator[Floor]:
    parser = configparser.ConfigParser()
    parser.read_string(file.read_text())
    name = str(file.relative_to(ROOT))
    options = parser["options"]
    yield from _minimums(name, "python", SpecifierSet(options["python_requires"]))
    extras = dict(parser[_EXTRAS]) if parser.has_section(_EXTRAS) else {}
    lists = [options["install_requires"], *(extras[key] for key in extras if key not in _TOOLS)]
    for line in "\n".join(lists).splitlines():
        text = line.partition("#")[0].strip()
        if text and not canonicalize_name(Requirement(text).name).startswith(_OWN):
            requirement = Requirement(text)
            yield from _minimums(name, canonicalize_name(requirement.name), requirement.specifier)


def _minimums(file: str, name: str, specifiers: SpecifierSet) -> Iterator[Floor]:
    for specifier in specifiers:
        if specifier.operator in (">=", "=="):
            yield Floor(file, name, Version(specifier.version))
