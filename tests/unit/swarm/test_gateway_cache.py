"""The images that executors pulled: what is kept, and what is removed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import node_images
import pytest
from gateway_engine import Engine
from gateway_images import Images, image_key

from tests.unit.swarm.fake_engine import FakeEngine

MB = 2**20
OLD_S = 3600.0


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeEngine]:
    """Yield an engine that can pull any image; each has 100 MB."""
    fake = FakeEngine(tmp_path / "engine.sock")

    def pull(name: str) -> list[dict[str, str]]:
        fake.add_image(name)
        fake.images[name]["Size"] = 100 * MB
        return [{"status": "Pull complete"}]

    fake.pull = pull
    yield fake
    fake.close()


@pytest.fixture
def new_images(fake: FakeEngine, tmp_path: Path) -> Iterator[Callable[..., Images]]:
    """Yield what makes the images of an executor."""
    engine = Engine(str(fake.path))
    directory = tmp_path / "images"
    directory.mkdir()

    def make(limit_mb: int | None = None, *, always: bool = False) -> Images:
        limit = None if limit_mb is None else limit_mb * MB
        return Images(engine, directory, always=always, credentials={}, limit_bytes=limit)

    yield make
    engine.close()


def age(images: Images, name: str, seconds: float) -> None:
    """Let an image's last use be so long ago."""
    then = time.time() - seconds
    os.utime(images.cache._directory / f"{image_key(name)}.image", (then, then))


def test_above_the_limit_the_images_that_were_not_used_longest_are_removed(
    fake: FakeEngine, new_images: Callable[..., Images]
) -> None:
    images = new_images()
    for name, seconds in (("a:1", OLD_S), ("b:1", 3 * OLD_S), ("c:1", 2 * OLD_S)):
        images.ensure(name)
        age(images, name, seconds)
    images.note_use("b:1")
    removed = [image.name for image in new_images(250).cache.trim()]
    assert removed == ["c:1"]
    assert set(fake.images) == {"a:1", "b:1"}


def test_a_pull_above_the_limit_removes_an_older_image(
    fake: FakeEngine, new_images: Callable[..., Images]
) -> None:
    images = new_images(100)
    images.ensure("a:1")
    age(images, "a:1", OLD_S)
    images.ensure("b:1")
    deadline = time.monotonic() + 10
    while "a:1" in fake.images and time.monotonic() < deadline:
        time.sleep(0.01)
    assert set(fake.images) == {"b:1"}
    # Another executor does not believe that it is still there.
    assert new_images(100).inspect("a:1") is None


def test_images_of_others_and_images_in_use_stay(
    fake: FakeEngine, new_images: Callable[..., Images]
) -> None:
    images = new_images(1)
    fake.add_image("debian:trixie")
    images.ensure("debian:trixie")  # it was there: no executor pulled it
    images.ensure("a:1")
    age(images, "a:1", OLD_S)
    fake.images_in_use.add("a:1")
    assert images.cache.trim() == []
    assert images.cache.prune(0) == []
    fake.images_in_use.clear()
    assert [image.name for image in images.cache.prune(0)] == ["a:1"]
    assert set(fake.images) == {"debian:trixie"}
    assert images.cache.images() == []


def test_an_image_that_was_used_a_moment_ago_stays(
    fake: FakeEngine, new_images: Callable[..., Images]
) -> None:
    images = new_images(1)
    images.ensure("a:1")
    time.sleep(0.01)
    assert images.cache.trim() == []
    assert images.cache.prune(OLD_S) == []
    assert set(fake.images) == {"a:1"}


def test_an_image_that_somebody_removed_is_forgotten(
    fake: FakeEngine, new_images: Callable[..., Images]
) -> None:
    images = new_images()
    images.ensure("a:1")
    del fake.images["a:1"]
    assert images.cache.images() == []
    assert list(images.cache._directory.glob("*.image")) == []


def test_the_operators_commands(fake: FakeEngine, new_images: Callable[..., Images]) -> None:
    images = new_images(always=True)
    done, problems = node_images.run(images, ["pull", "a:1"])
    assert ([image["name"] for image in done], problems) == (["a:1"], [])
    age(images, "a:1", OLD_S)
    assert node_images.run(images, ["prune", str(2 * OLD_S)]) == ([], [])
    assert node_images.run(images, ["prune", "60"]) == ([{"name": "a:1", "mb": 100}], [])
    fake.pull = lambda _name: [{"error": "manifest unknown"}]
    assert node_images.run(images, ["pull", "b:1"]) == ([], ["b:1: manifest unknown"])
