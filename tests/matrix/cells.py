"""The cells of the compatibility matrix: what is run, and what cannot be run here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.lab.engines.kinds import KINDS

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
CLIENTS = ("25.0.14", "25.10.1", "25.14.1")
GALAXIES = ("25.0", "26.1")
SNAKEMAKES = ("9.20", "9")
_PYTHON_SHOWN = ("Python", "htcondor", "docker", "pydantic")
_GALAXY_SHOWN = ("galaxy-app", "Python", "htcondor")
_SNAKEMAKE_SHOWN = ("snakemake", "snakemake-interface-executor-plugins", "Python", "htcondor")

ENGINES_GROUP = "Docker engines and kernels"
PYTHONS_GROUP = "Python"
CLIENTS_GROUP = "HTCondor's bindings, against the pool's own HTCondor"
WORKFLOWS_GROUP = "Workflow engines"
FLOORS_GROUP = "The oldest permitted versions together"
GROUPS = (ENGINES_GROUP, PYTHONS_GROUP, CLIENTS_GROUP, WORKFLOWS_GROUP, FLOORS_GROUP)


@dataclass(frozen=True, slots=True)
class Cell:
    """One thing that the project is tried with.

    Attributes:
        target: The make target with its variables; empty for what cannot be run.
        shown: The distributions and programs whose versions the page shows.
        uses_engine: Whether the run uses an engine, whose versions belong to its result.
        alone: Whether `make matrix` leaves it out, because it takes too long.
        needed: What it would need, for a cell that cannot be run.
        known: Why it is red, as far as it is known.
    """

    name: str
    group: str
    title: str
    target: str = ""
    shown: tuple[str, ...] = ()
    uses_engine: bool = False
    alone: bool = False
    needed: str = ""
    known: str = ""


_ENGINE_FACTS = ("Docker", "Docker API", "cgroup", "image store", "Linux")
_ENGINE_TITLES = {
    "bookworm": "Docker 20.10 of Debian 12",
    "trixie": "Docker 26.1 of Debian 13",
    "sid": "Docker 28.5 of Debian unstable",
    "as-29": "the same, set as Docker 29 is by default: API 1.44 or newer, images in containerd, "
    "1,024 file descriptors in containers",
}


def cells() -> list[Cell]:
    """Return the cells in the page's order."""
    return [
        *_engines(),
        *_each(
            "python",
            "PYTHONS",
            PYTHONS,
            PYTHONS_GROUP,
            "Python {}: unit and contract",
            _PYTHON_SHOWN,
        ),
        *_each(
            "client",
            "CLIENTS",
            CLIENTS,
            CLIENTS_GROUP,
            "htcondor {}: contract, outcomes and files",
            ("htcondor", "Python"),
        ),
        *_each("galaxy", "GALAXIES", GALAXIES, WORKFLOWS_GROUP, "Galaxy {}", _GALAXY_SHOWN),
        *_each(
            "snakemake", "SNAKEMAKES", SNAKEMAKES, WORKFLOWS_GROUP, "Snakemake {}", _SNAKEMAKE_SHOWN
        ),
        _floors(),
    ]


def _engines() -> Iterator[Cell]:
    for kind in KINDS:
        yield Cell(
            f"engine-{kind}",
            ENGINES_GROUP,
            f"{_ENGINE_TITLES[kind]}: smoke",
            f"test-engine ENGINE={kind} ENGINE_TESTS=tests/smoke",
            _ENGINE_FACTS,
            uses_engine=True,
        )
    for kind in ("trixie", "sid"):
        yield Cell(
            f"integration-{kind}",
            ENGINES_GROUP,
            f"{_ENGINE_TITLES[kind]}: contract and integration",
            f"test-engine ENGINE={kind}",
            _ENGINE_FACTS,
            uses_engine=True,
            alone=True,
        )
    yield Cell(
        "guest",
        ENGINES_GROUP,
        "Debian 13 with its own kernel, in an emulated machine: smoke on cgroup v2, virtual "
        "addresses and the routing mesh",
        "test-guest",
        _ENGINE_FACTS,
        uses_engine=True,
        alone=True,
    )
    yield Cell(
        "docker-29",
        ENGINES_GROUP,
        "Docker 29 itself",
        needed="a Debian release that has it, or access to Docker's own packages",
    )
    yield Cell(
        "arm64",
        ENGINES_GROUP,
        "nodes of another architecture (arm64)",
        needed="a machine of that architecture, and debian:trixie for it",
    )
    yield Cell(
        "rootless",
        ENGINES_GROUP,
        "Docker's rootless mode",
        needed="an engine whose rootless mode has overlay networks. In 20.10 `docker swarm init` "
        "works, and every task on an overlay network is rejected: `mkdir "
        "/var/lib/docker/network: permission denied`. `pool up` and `doctor` refuse such an engine",
    )
    yield Cell(
        "ssh-context",
        ENGINES_GROUP,
        "an engine reached by ssh: smoke with a docker context, the Swarm's contract and commands "
        "in running jobs with `DOCKER_HOST`",
        "test-ssh",
        (*_ENGINE_FACTS, "paramiko"),
        uses_engine=True,
    )


def _each(
    name: str,
    variable: str,
    versions: Sequence[str],
    group: str,
    title: str,
    shown: tuple[str, ...],
) -> Iterator[Cell]:
    """Yield a cell for each version; the target has the name of its variable."""
    for version in versions:
        yield Cell(
            f"{name}-{version}",
            group,
            title.format(version if "." in version else f"{version}, the newest"),
            f"test-{variable.lower()} {variable}={version}",
            shown,
        )


def _floors() -> Cell:
    return Cell(
        "floors",
        FLOORS_GROUP,
        "every requirement at its floor: unit",
        "test-floors",
        ("Python", "htcondor", "docker", "pydantic", "typer", "prometheus-client"),
    )
