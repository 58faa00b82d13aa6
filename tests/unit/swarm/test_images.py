"""The base of the pool image: by digest where it comes from a registry."""

from __future__ import annotations

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


def layer(name: str, status: str, current: int = 0, total: int = 0) -> dict[str, Any]:
    detail = {"current": current, "total": total} if total else {}
    return {"id": name, "status": status, "progressDetail": detail}


class FakePull:
    """An engine that pulls, and says the given lines."""

    def __init__(self, lines: list[dict[str, Any]]) -> None:
        self._lines = lines
        self.pulled: tuple[str, str] = ("", "")
        self.api = self

    def pull(self, repository: str, *, tag: str, stream: bool, decode: bool) -> Any:
        assert stream
        assert decode
        self.pulled = repository, tag
        return iter(self._lines)


def test_a_pull_reports_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "PULL_REPORT_INTERVAL_S", 0)
    client: Any = FakePull(
        [
            {"status": "Pulling from pool", "id": "1"},
            layer("a", "Downloading", 10_000_000, 40_000_000),
            layer("b", "Downloading", 5_000_000, 60_000_000),
            layer("a", "Download complete"),
            layer("b", "Extracting", 1, 2),
            {"status": "Status: Downloaded newer image"},
        ]
    )
    messages: list[str] = []
    images._pull(client, "registry.example:5000/pool:1", messages.append)

    assert client.pulled == ("registry.example:5000/pool", "1")
    begin = "pulling registry.example:5000/pool:1: "
    assert [message.removeprefix(begin) for message in messages][:4] == [
        "10 of 40 MB",
        "15 of 100 MB",
        "45 of 100 MB",
        "100 of 100 MB",
    ]


@pytest.mark.parametrize(
    ("image", "pulled"),
    [
        ("pool", ("pool", "latest")),
        ("localhost:5000/pool", ("localhost:5000/pool", "latest")),
        (f"pool:1@sha256:{'a' * 64}", ("pool:1", f"sha256:{'a' * 64}")),
    ],
)
def test_the_name_that_is_pulled(image: str, pulled: tuple[str, str]) -> None:
    client: Any = FakePull([])
    images._pull(client, image, lambda _: None)
    assert client.pulled == pulled


def test_a_registrys_error_is_the_message() -> None:
    client: Any = FakePull([{"error": "manifest unknown"}])
    with pytest.raises(PreconditionError, match="pulling pool:9: manifest unknown"):
        images._pull(client, "pool:9", lambda _: None)
