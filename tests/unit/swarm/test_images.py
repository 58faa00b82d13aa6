"""The images: the base by digest where it comes from a registry, and what is installed in them."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import docker.errors
import pytest

from swarm_runner.errors import PreconditionError
from swarm_runner.swarm import images

DIGEST = "debian@sha256:" + "a" * 64


class FakeImages:
    """An engine's images: `local` is there, `remote` is what a registry has."""

    def __init__(self, local: list[str] | None, remote: list[str] | None = None) -> None:
        self._local, self._remote = local, remote
        self.pulled: list[tuple[str, str]] = []

    def get(self, name: str) -> Any:
        if self._local is None:
            raise docker.errors.ImageNotFound(name)
        return SimpleNamespace(attrs={"RepoDigests": self._local})

    def pull(self, repository: str, *, tag: str) -> Any:
        self.pulled.append((repository, tag))
        if self._remote is None:
            raise docker.errors.NotFound("no such image")
        return SimpleNamespace(attrs={"RepoDigests": self._remote})


@pytest.mark.parametrize(
    ("local", "expected"), [([DIGEST], DIGEST), ([], "debian:trixie"), (None, DIGEST)]
)
def test_the_base_image_by_its_digest(local: list[str] | None, expected: str) -> None:
    fake = FakeImages(local, [DIGEST])
    client: Any = SimpleNamespace(images=fake)
    assert images._base_image(client) == expected
    assert fake.pulled == ([("debian", "trixie")] if local is None else [])


def build(monkeypatch: pytest.MonkeyPatch, packages: str | None, *lines: str) -> list[Any]:
    """Build with these lines of output. Return the argument, then what was reported."""
    if packages is None:
        monkeypatch.delenv(images.PACKAGES_VARIABLE, raising=False)
    else:
        monkeypatch.setenv(images.PACKAGES_VARIABLE, packages)
    progress: list[Any] = []

    def run(**arguments: Any) -> list[dict[str, str]]:
        progress.append(arguments["buildargs"]["PACKAGES"])
        return [{"stream": f"{line}\n"} for line in lines]

    client: Any = SimpleNamespace(api=SimpleNamespace(build=run))
    images._build(client, "an image", "nothing", progress.append, tag="x")
    return progress


def test_whoever_builds_is_told_what_the_packages_are(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ("Get:1 http://...", "swarm-runner: installing the newest ones instead")
    assert build(monkeypatch, None, *lines) == ["", "installing the newest ones instead"]
    assert build(monkeypatch, "locked") == ["locked"]


def test_an_unknown_choice_of_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PreconditionError, match="'oldest'; set it to locked or newest"):
        build(monkeypatch, "oldest")


def test_the_locks_have_what_is_pinned() -> None:
    dockerfile = (images.SOURCE / "Dockerfile").read_text()
    (pinned,) = re.findall(r"^ARG HTCONDOR=(\S+)\*$", dockerfile, re.MULTILINE)
    locked = {
        line.partition("  ")[2]
        for name in ("client", "pool", "pool-vm")
        for line in (images.SOURCE / f"{name}.amd64.lock").read_text().splitlines()[1:]
    }
    assert any(name.startswith(f"condor_{pinned}") for name in locked)
    assert any(name.startswith(f"condor-vm-gahp_{pinned}") for name in locked)
    assert {name.split("_")[0] for name in locked} >= {"gcc", "python3-docker", "qemu-utils"}
