"""The images: the base by digest where it comes from a registry, and what is installed in them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from importlib import resources
from types import SimpleNamespace
from typing import Any

import docker.errors
import pytest

from swarm_runner.errors import PreconditionError
from swarm_runner.swarm import images
from swarm_runner.swarm.debian_release import expired_since

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
    images._build(client, "an image", "nothing", progress.append, files={}, tag="x")
    return progress


def test_the_user_of_a_build_learns_what_the_packages_are(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ("Get:1 http://...", "swarm-runner: installing the newest ones instead")
    assert build(monkeypatch, None, *lines) == ["", "installing the newest ones instead"]
    assert build(monkeypatch, "locked") == ["locked"]


def test_an_unknown_choice_of_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PreconditionError, match="'oldest'; set it to locked or newest"):
        build(monkeypatch, "oldest")


def test_the_locks_have_what_is_installed() -> None:
    swarm = resources.files("swarm_runner.swarm")
    sources = (swarm / "image", swarm / "autoscaler")
    dockerfiles = "".join((source / "Dockerfile").read_text() for source in sources)
    installed = re.findall(
        r"libexec/swarm-runner/install_packages\.sh [a-z-]+ (.*?)(?: && |\n[A-Z])",
        dockerfiles,
        re.S,
    )
    wanted = {
        word.strip('"').partition("=")[0]
        for text in installed
        for word in text.replace("\\\n", " ").replace("-t sid", "").split()
    }
    locked = {
        line.partition("  ")[2]
        for source in sources
        for lock in source.iterdir()
        if lock.name.endswith(".amd64.lock")
        for line in lock.read_text().splitlines()[1:]
    }
    assert {"condor", "gcc", "qemu-utils", "python3-pydantic"} <= wanted
    assert wanted <= {name.partition("_")[0] for name in locked}
    (pinned,) = re.findall(r"^ARG HTCONDOR=(\S+)\*$", dockerfiles, re.MULTILINE)
    assert any(name.startswith(f"condor_{pinned}") for name in locked)
    assert any(name.startswith(f"condor-vm-gahp_{pinned}") for name in locked)


# A mirror whose Release file has expired

HEAD = b"""-----BEGIN PGP SIGNED MESSAGE-----
Hash: SHA256

Origin: Debian
Date: Fri, 30 Oct 2026 08:08:01 UTC
Valid-Until: Fri, 06 Nov 2026 08:08:01 UTC
"""


@pytest.mark.parametrize(
    ("head", "day", "expected"),
    [
        (HEAD, 7, "2026-11-06 08:08 UTC"),
        (HEAD, 6, ""),
        (HEAD.replace(b"Valid-Until", b"Other"), 7, ""),
        (HEAD.replace(b"06 Nov", b"soon"), 7, ""),
    ],
)
def test_when_a_release_file_expired(head: bytes, day: int, expected: str) -> None:
    now = datetime(2026, 11, day, tzinfo=UTC)
    asked: list[str] = []

    def fetch(url: str) -> bytes:
        asked.append(url)
        return head

    assert expired_since("sid", now, fetch) == expected
    assert asked == ["http://deb.debian.org/debian/dists/sid/InRelease"]


def test_a_mirror_that_does_not_answer_has_not_expired() -> None:
    def fetch(_url: str) -> bytes:
        raise TimeoutError

    assert expired_since("sid", datetime.now(UTC), fetch) == ""


def failing_client() -> Any:
    lines = ["Step 1/9 : FROM debian", *(f"line {number}" for number in range(9))]
    stream = [*({"stream": f"{line}\n"} for line in lines), {"error": "non-zero code: 100\n"}]
    return SimpleNamespace(api=SimpleNamespace(build=lambda **_: iter(stream)))


def failure(monkeypatch: pytest.MonkeyPatch, date: str, check: str | None) -> str:
    monkeypatch.setattr(images, "expired_since", lambda *_: date)
    monkeypatch.delenv(images.CHECK_VALID_UNTIL_VARIABLE, raising=False)
    if check:
        monkeypatch.setenv(images.CHECK_VALID_UNTIL_VARIABLE, check)
    with pytest.raises(PreconditionError) as caught:
        images._build(failing_client(), "the image", "a base", lambda _: None, files={}, tag="x")
    return str(caught.value)


def test_a_build_that_fails_says_whether_the_mirror_has_expired(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    message = failure(monkeypatch, "2026-11-06 08:08 UTC", None)
    last = "".join(f"\n  line {number}" for number in range(4, 9))
    assert f"non-zero code: 100.{last}\nThe build needs a base. The Release file" in message
    assert "expired at 2026-11-06 08:08 UTC" in message
    assert "SWARM_RUNNER_CHECK_VALID_UNTIL=false and run the same command again" in message
    assert "Release" not in failure(monkeypatch, "", None)
    assert "Release" not in failure(monkeypatch, "2026-11-06 08:08 UTC", "false")


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
