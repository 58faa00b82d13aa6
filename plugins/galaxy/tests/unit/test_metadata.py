"""Metadata is set by a server that outlives a job, and not Galaxy."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from galaxy.datatypes.registry import Registry
from swarm_runner_galaxy.metadata import LOG_NAME, MetadataSetter


@pytest.fixture
def setter(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MetadataSetter]:
    # Galaxy's own directory for temporary files, which may be a long one.
    deep = tmp_path_factory.mktemp("galaxy") / ("deep" * 30)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    registry = Registry()
    registry.load_datatypes()
    made = MetadataSetter(lambda path: registry.to_xml_file(path=path))
    yield made
    made.close()


def test_what_cannot_be_set_is_told_and_the_next_is_taken(
    setter: MetadataSetter, tmp_path: Path
) -> None:
    for name in ("one", "a b"):
        (tmp_path / name).mkdir()
        assert not setter.set(str(tmp_path / name), extended=False)
        assert "Failed to find metadata/params.json" in (tmp_path / name / LOG_NAME).read_text()


def test_a_server_that_was_killed_is_started_again(setter: MetadataSetter, tmp_path: Path) -> None:
    setter._ensure_server()
    first = setter._server
    assert first is not None
    first.kill()
    first.wait()
    assert not setter.set(str(tmp_path), extended=False)
    assert setter._server is not first
