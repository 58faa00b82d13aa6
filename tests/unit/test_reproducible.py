"""`make reproducible` notices each kind of difference between two file systems."""

from __future__ import annotations

import io
import tarfile
from typing import Any

import pytest

from swarm_runner.swarm import images
from tests.lab.reproducible import _compare, describe


def archive(**changes: Any) -> dict[str, str]:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as files:
        for name in ("usr/bin/tool", "etc/hostname", "dev/null"):
            member = tarfile.TarInfo(name)
            content = b"content"
            if name == changes.get("name", "usr/bin/tool"):
                content = changes.get("content", content)
                for key in changes.keys() - {"name", "content"}:
                    setattr(member, key, changes[key])
            member.size = len(content)
            files.addfile(member, io.BytesIO(content))
    data.seek(0)
    with tarfile.open(fileobj=data) as files:
        return dict(describe(files))


def test_the_same_file_systems() -> None:
    assert _compare("x", archive(), archive())
    assert set(archive()) == {"usr/bin/tool"}, "the engine's own files are no part of an image"
    assert _compare("x", archive(), archive(name="etc/hostname", content=b"other"))


@pytest.mark.parametrize(
    "changes", [{"content": b"CONTENT"}, {"mtime": 1}, {"mode": 0o755}, {"uid": 1}, {"gid": 1}]
)
def test_a_difference_is_noticed(changes: dict[str, Any]) -> None:
    assert not _compare("x", archive(), archive(**changes))


def test_a_build_s_context_has_no_trace_of_the_files_times_and_owners(tmp_path: Any) -> None:
    contexts = []
    for number in (1, 2):
        file = tmp_path / f"{number}"
        file.write_text("content")
        file.chmod((0o600, 0o664)[number - 1])
        contexts.append(images._build_context({"Dockerfile": file}).getvalue())
    assert contexts[0] == contexts[1]
