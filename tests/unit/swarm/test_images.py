"""The base of the pool image: by digest where it comes from a registry."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import docker.errors
import pytest

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
